"""One model shared by many: 16 threads with 50 requests each, some of them called off in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.conftest import OpenModel

THREADS, REQUESTS = 16, 50
# The least distance, in logits, between a chosen token and the next best: what rounding cannot bridge.
MARGIN = 0.05


def settled_answers(model: LocalChat) -> dict[str, str]:
    """Questions with their serial answers, of which no token is a matter of rounding."""
    answers: dict[str, str] = {}
    for number in range(60):
        question = f"第{number}个问题：" + "年假有几天？" * (1 + number % 3)
        answer = model.invoke(question, logprobs=True, top_logprobs=2)
        tops = [entry["top_logprobs"] for entry in answer.response_metadata["logprobs"]["content"]]
        if all(best["logprob"] - second["logprob"] > MARGIN for best, second in tops):
            answers[question] = str(answer.content)
    return answers


async def asked(model: LocalChat, question: str) -> str:
    return str((await model.ainvoke(question)).content)


async def called_off(model: LocalChat, question: str) -> None:
    task = asyncio.ensure_future(model.ainvoke(question, max_tokens=2000, min_tokens=2000))
    await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_sixteen_threads_with_fifty_requests_get_what_one_gets(open_model: OpenModel) -> None:
    model = open_model(max_tokens=4, temperature=0)
    answers = settled_answers(model)
    questions = sorted(answers)
    assert len(questions) > 20
    wrong: list[tuple[str, str]] = []
    counts = dict.fromkeys(("invoke", "stream", "left", "async", "cancelled", "batch"), 0)
    counting = threading.Lock()

    def check(question: str, text: str) -> None:
        if text != answers[question]:
            wrong.append((question, text))

    def leave(question: str) -> None:
        stream = model.stream(question, max_tokens=2000, min_tokens=2000)
        next(stream)
        stream.close()  # type: ignore[attr-defined]

    def batch(question: str) -> None:
        others = [question, questions[0], questions[-1]]
        for one, answer in zip(others, model.batch(list(others)), strict=True):
            check(one, str(answer.content))

    kinds: dict[str, Callable[[str], Any]] = {
        "invoke": lambda question: check(question, str(model.invoke(question).content)),
        "stream": lambda question: check(question, "".join(str(chunk.content) for chunk in model.stream(question))),
        "left": leave,
        "async": lambda question: check(question, asyncio.run(asked(model, question))),
        "cancelled": lambda question: asyncio.run(called_off(model, question)),
        "batch": batch,
    }
    schedule = ["invoke"] * 5 + ["stream", "left", "async", "cancelled", "batch"]

    def work(thread: int) -> None:
        for number in range(REQUESTS):
            kind = schedule[(thread + number) % len(schedule)]
            kinds[kind](questions[(thread * 7 + number) % len(questions)])
            with counting:
                counts[kind] += 1

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, thread) for thread in range(THREADS)]:
            done.result(timeout=240)
    assert wrong == []
    assert sum(counts.values()) == THREADS * REQUESTS
    # No lock is left: the next answer comes, and the weights can be freed.
    assert model.invoke(questions[0]).content == answers[questions[0]]
    model.close()
