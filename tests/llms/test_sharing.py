"""Threads, interrupted answers and asynchronous callers on one model."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.conftest import OpenModel
from tests.llms.evaluations import Evaluations
from tests.toy_family import ToyCheckpoint

QUESTIONS = [f"第{number}个问题：年假有几天？" * (1 + number % 3) for number in range(8)]


def test_eight_threads_get_what_one_gets(open_model: OpenModel) -> None:
    model = open_model(max_tokens=24, temperature=0)
    serial = [model.invoke(question).content for question in QUESTIONS]
    together = threading.Barrier(len(QUESTIONS))

    def ask(question: str) -> str:
        together.wait()
        return str(model.invoke(question).content)

    def follow(question: str) -> str:
        together.wait()
        return "".join(str(chunk.content) for chunk in model.stream(question))

    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        for work in (ask, follow):
            assert list(pool.map(work, QUESTIONS)) == serial
    assert [answer.content for answer in model.batch(list(QUESTIONS))] == serial


def test_threads_that_open_a_model_together_load_it_once(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(max_tokens=2, temperature=0)
    load = type(model)._load
    loads = []

    def counted(*arguments: Any) -> Backend:
        loads.append(1)
        return load(*arguments)

    monkeypatch.setattr(type(model), "_load", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model.invoke, QUESTIONS[:4]))
    assert loads == [1]


def test_who_stops_reading_stops_the_evaluation(open_model: OpenModel) -> None:
    model = open_model(max_tokens=400, temperature=0)
    prompt = model.count_prompt_tokens([HumanMessage(QUESTIONS[0])])
    evaluations = Evaluations(model)
    stream = model.stream(QUESTIONS[0])
    for _ in range(3):
        next(stream)
    seen = evaluations.tokens
    assert seen < prompt + 20
    stream.close()  # type: ignore[attr-defined]
    assert evaluations.tokens == seen
    model.invoke(QUESTIONS[1], max_tokens=1)
    assert evaluations.tokens <= seen + model.count_prompt_tokens([HumanMessage(QUESTIONS[1])])


def test_an_answer_nobody_reads_on_does_not_block_the_next_one(open_model: OpenModel) -> None:
    """And can itself be read on afterwards, as if nothing had been."""
    model = open_model(max_tokens=24, temperature=0)
    expected = [str(model.invoke(question).content) for question in QUESTIONS[:2]]
    stream = model.stream(QUESTIONS[0])
    begun = [str(next(stream).content) for _ in range(5)]
    assert model.invoke(QUESTIONS[1]).content == expected[1]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(model.invoke, QUESTIONS[1]).result(timeout=30).content == expected[1]
    assert "".join([*begun, *(str(chunk.content) for chunk in stream)]) == expected[0]


def test_an_error_leaves_the_model_usable(open_model: OpenModel) -> None:
    model = open_model(max_tokens=8, temperature=0)
    expected = model.invoke(QUESTIONS[0]).content
    evaluations = Evaluations(model)

    def fail() -> None:
        evaluations.before = lambda: None
        raise RuntimeError("in the middle")

    evaluations.before = fail
    with pytest.raises(RuntimeError, match="in the middle"):
        model.invoke(QUESTIONS[1])
    assert model.invoke(QUESTIONS[0]).content == expected


def test_an_interruption_inside_an_evaluation_leaves_no_half_of_it(toy: ToyCheckpoint) -> None:
    """As Ctrl-C would: one layer's keys are in, the other's are not."""
    model = ChatAlpacaHF(model_path=toy.hf, max_tokens=8, temperature=0, device="cpu")
    expected = model.invoke(QUESTIONS[0]).content
    layer = model._opened()._model.model.layers[1]  # type: ignore[attr-defined]
    hook = layer.register_forward_pre_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.invoke(QUESTIONS[0] + "请详细说明。")
    hook.remove()
    assert model.invoke(QUESTIONS[0]).content == expected
    model.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_asynchronous_calls_give_the_same(open_model: OpenModel) -> None:
    model = open_model(max_tokens=24, temperature=0)
    expected = [model.invoke(question).content for question in QUESTIONS[:3]]

    async def follow(question: str) -> str:
        return "".join([str(chunk.content) async for chunk in model.astream(question)])

    async def everything() -> tuple[list[str], list[str], list[str]]:
        asked = await asyncio.gather(*(model.ainvoke(question) for question in QUESTIONS[:3]))
        followed = await asyncio.gather(*map(follow, QUESTIONS[:3]))
        batched = await model.abatch(list(QUESTIONS[:3]))
        return [str(one.content) for one in asked], list(followed), [str(one.content) for one in batched]

    assert asyncio.run(everything()) == (expected, expected, expected)


class Held:
    """Holds every evaluation until it is told to go on."""

    def __init__(self, model: LocalChat) -> None:
        self.evaluations = Evaluations(model)
        self.evaluations.before = self.wait
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.go_on.wait(timeout=30)


@pytest.mark.parametrize("streaming", [False, True])
def test_cancelling_a_task_stops_the_evaluation_of_its_prompt(open_model: OpenModel, streaming: bool) -> None:
    """A prompt of five batches of 512, cancelled during the first: the other four are never evaluated."""
    model = open_model(max_tokens=100, temperature=0)
    model.invoke("你好", max_tokens=1)
    held = Held(model)

    async def read() -> None:
        async for _ in model.astream("年" * 2500):
            pass

    async def cancel() -> None:
        task = asyncio.create_task(read() if streaming else _wait_for(model))
        await asyncio.to_thread(held.reached.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.go_on.set()

    asyncio.run(cancel())
    assert model.invoke("你好", max_tokens=1).content
    # The first batch of the long prompt, and the short one's.
    assert held.evaluations.batches[0] == 512
    assert held.evaluations.tokens < 512 + 60


async def _wait_for(model: LocalChat) -> None:
    await model.ainvoke("年" * 2500)


def test_leaving_an_asynchronous_stream_stops_the_evaluation(open_model: OpenModel) -> None:
    model = open_model(max_tokens=400, temperature=0)
    evaluations = Evaluations(model)

    async def read_a_little() -> None:
        stream = model.astream(QUESTIONS[0])
        count = 0
        async for _ in stream:
            count += 1
            if count == 3:
                break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(read_a_little())
    assert evaluations.tokens < model.count_prompt_tokens([HumanMessage(QUESTIONS[0])]) + 20
