"""Several prompts side by side: ``batch`` and what it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from chinese_alpaca_rag.family.catalogue import FAMILY_SAMPLING, Sampling
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.batching import groups
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.rows import prefill_rows, shared_beginning
from chinese_alpaca_rag.llms.sampling import log_softmax
from tests.llms.conftest import OpenModel
from tests.llms.evaluations import next_logits

# Keys and values in half precision, as llama.cpp holds them, round differently in another order.
NEAR = 0.01
QUESTIONS = [f"第{number}个问题：年假有几天？" * (1 + number % 4) for number in range(8)]


class Rows:
    """Counts what a model's backend evaluates row by row."""

    def __init__(self, model: LocalChat) -> None:
        self.extended: list[list[int]] = []
        self.singles = 0
        backend: Any = model._opened()
        extend, evaluate = backend.extend, backend.evaluate

        def counted(rows: Sequence[Sequence[int]]) -> None:
            self.extended.append([len(row) for row in rows])
            extend(rows)

        def counted_single(ids: Sequence[int], outputs: int = 1) -> None:
            self.singles += len(ids)
            evaluate(ids, outputs)

        vars(backend).update(extend=counted, evaluate=counted_single)


def test_rows_have_the_logits_of_single_sequences(open_model: OpenModel) -> None:
    """Prompts of different lengths, then ids of their own, copies, another order, and rows that have gone."""
    model = open_model()
    backend: Backend = model._opened()
    prompts = [list(model.render([HumanMessage(question)]).ids) for question in QUESTIONS[:4]]
    expected = [next_logits(backend, ids) for ids in prompts]
    assert prefill_rows(Prefixes(), backend, prompts, (), Cancellation()) is not None
    for row, logits in enumerate(expected):
        assert np.abs(backend.row_logits(row) - logits).max() < NEAR

    order, tails = [3, 1, 1], [[300], [301], [302]]
    backend.reorder(order)
    backend.extend(tails)
    continued = [backend.row_logits(row).copy() for row in range(3)]
    backend.reorder([2])
    backend.extend([[303, 304, 305]])
    last = backend.row_logits(0).copy()
    for row, logits in enumerate(continued):
        assert np.abs(next_logits(backend, [*prompts[order[row]], *tails[row]]) - logits).max() < NEAR
    assert np.abs(next_logits(backend, [*prompts[1], 302, 303, 304, 305]) - last).max() < NEAR


def test_after_rows_the_shared_beginning_is_still_held(open_model: OpenModel) -> None:
    model = open_model()
    backend: Backend = model._opened()
    prompts = [list(model.render([HumanMessage(question)]).ids) for question in QUESTIONS[:3]]
    for going_on in ([0], [1, 2], [2]):
        prefill_rows(Prefixes(), backend, prompts, (), Cancellation())
        backend.reorder(going_on)
        backend.extend([[300]] * len(going_on))
        assert backend.keep(prompts[1]) == shared_beginning(prompts)
        assert np.abs(next_logits(backend, prompts[1]) - next_logits(backend, [*prompts[1]])).max() < NEAR


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0.9, "seed": 7}])
def test_a_batch_gives_what_single_calls_give(open_hf: OpenModel, fields: dict[str, Any]) -> None:
    model = open_hf(max_tokens=24, speculation="off", **fields)
    single = [model.invoke(question) for question in QUESTIONS]
    together = model.batch([*QUESTIONS])
    assert [answer.content for answer in together] == [answer.content for answer in single]
    for one, other in zip(together, single, strict=True):
        assert one.usage_metadata is not None
        assert other.usage_metadata is not None
        assert one.usage_metadata["output_tokens"] == other.usage_metadata["output_tokens"]
        assert one.response_metadata == other.response_metadata


def test_every_token_of_a_batch_is_as_likely_alone(open_model: OpenModel) -> None:
    """Where rounding lets two tokens of one likelihood change places, the one chosen is still that likely."""
    model = open_model(max_tokens=24, temperature=0, repetition_penalty=1.0, logprobs=True)
    requests = [model._prepare([HumanMessage(question)], None, {})[1] for question in QUESTIONS]
    for answer in model._answers_to(requests, Cancellation()):
        ids = list(answer.request.ids)
        assert answer.logprobs
        for chosen in answer.logprobs:
            logits = model.next_token_logits(ids)
            assert logits[chosen.id] > logits.max() - NEAR
            assert chosen.logprob == pytest.approx(float(log_softmax(logits)[chosen.id]), abs=NEAR)
            ids.append(chosen.id)


def test_rows_are_evaluated_side_by_side_and_what_they_share_once(open_model: OpenModel) -> None:
    model = open_model(max_tokens=8, temperature=0)
    rows = Rows(model)
    model.batch([*QUESTIONS])
    assert max(map(len, rows.extended)) == len(QUESTIONS)
    shared = shared_beginning([model.render([HumanMessage(question)]).ids for question in QUESTIONS])
    assert 0 < rows.singles <= shared


def test_what_a_call_says_otherwise_holds_for_a_batch(open_model: OpenModel) -> None:
    model = open_model(max_tokens=40, temperature=0)
    stop = str(model.invoke(QUESTIONS[0]).content)[6:9]
    expected = [model.invoke(question, stop=[stop], max_tokens=20).content for question in QUESTIONS[:3]]
    together = model.batch([*QUESTIONS[:3]], stop=[stop], max_tokens=20)
    assert [answer.content for answer in together] == expected


def test_a_batch_is_more_than_one_context_holds(open_model: OpenModel) -> None:
    """A window of 300 tokens holds no eight prompts with their replies: they are answered in groups."""
    model = open_model(window=300, max_tokens=30, temperature=0)
    expected = [model.invoke(question).content for question in QUESTIONS]
    assert [answer.content for answer in model.batch([*QUESTIONS])] == expected


@pytest.mark.parametrize("config", [{"max_concurrency": 1}, {"max_concurrency": 3}])
def test_max_concurrency_limits_the_rows(open_model: OpenModel, config: RunnableConfig) -> None:
    model = open_model(max_tokens=8, temperature=0)
    rows = Rows(model)
    model.batch([*QUESTIONS[:5]], config=config)
    assert max((len(lengths) for lengths in rows.extended), default=1) == config["max_concurrency"]


def test_one_prompt_that_does_not_fit_spoils_no_other(open_model: OpenModel) -> None:
    model = open_model(window=300, max_tokens=10, temperature=0)
    inputs = [QUESTIONS[0], "年" * 600, QUESTIONS[1]]
    answers = model.batch(inputs, return_exceptions=True)
    assert [isinstance(answer, ContextOverflowError) for answer in answers] == [False, True, False]
    assert answers[0].content == model.invoke(QUESTIONS[0]).content
    with pytest.raises(ContextOverflowError):
        model.batch(inputs)
    assert model.invoke(QUESTIONS[1]).content == answers[2].content


def test_callbacks_hear_of_every_answer(open_model: OpenModel) -> None:
    class Listener(BaseCallbackHandler):
        ended: int = 0

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            self.ended += 1

    def asked(text: str) -> str:
        return f"{text}请回答。"

    model = open_model(max_tokens=4, temperature=0)
    listener = Listener()
    chain: Runnable[str, Any] = RunnableLambda(asked) | model
    answers = chain.batch([*QUESTIONS[:4]], config={"callbacks": [listener]})
    assert len(answers) == listener.ended == 4


def test_a_model_asked_by_a_callback_of_its_own_batch_answers(open_model: OpenModel) -> None:
    model = open_model(max_tokens=4, temperature=0)

    answers: list[Any] = []

    class Asking(BaseCallbackHandler):
        def on_llm_end(self, *_: Any, **__: Any) -> None:
            answers.append(model.invoke("你好").content)

    model.batch([*QUESTIONS[:3]], config={"callbacks": [Asking()]})
    assert answers == [model.invoke("你好").content] * 3


def test_abatch_gives_the_same_and_can_be_cancelled(open_model: OpenModel) -> None:
    model = open_model(max_tokens=2000, temperature=0, repetition_penalty=1.0, min_tokens=2000)
    rows = Rows(model)

    async def cancelled_soon() -> None:
        task = asyncio.ensure_future(model.abatch([*QUESTIONS[:4]]))
        while not rows.extended:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_soon())
    short: dict[str, Any] = {"max_tokens": 6, "min_tokens": 0}
    expected = [model.invoke(question, **short).content for question in QUESTIONS[:3]]
    assert len(rows.extended) < 500
    answers = asyncio.run(model.abatch([*QUESTIONS[:3]], **short))
    assert [answer.content for answer in answers] == expected


def _request(ids: Sequence[int], max_tokens: int) -> Request:
    sampling = Sampling(**{**vars(FAMILY_SAMPLING), "max_tokens": max_tokens})
    return Request(tuple(ids), sampling, None, ())


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    shared=st.integers(1, 30),
    most=st.integers(1, 8),
    reply=st.integers(1, 40),
    capacity=st.none() | st.integers(140, 400),
)
def test_groups_hold_every_request_once_in_order_and_fit(
    lengths: list[int], shared: int, most: int, reply: int, capacity: int | None
) -> None:
    requests = [_request([1] * shared + [number + 2] * length, reply) for number, length in enumerate(lengths)]
    found = groups(requests, most, capacity)
    assert [place for group in found for place in group] == list(range(len(requests)))
    for group in found:
        assert len(group) <= most
        if capacity is not None and len(group) > 1:
            own = sum(lengths[place] + reply for place in group)
            assert shared + own <= capacity
