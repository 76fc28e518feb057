"""Guesses while an answer is streamed, disturbed, left and called off; and what a user says of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.drafting import Drafter, PromptLookup
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.speculation import Speculation
from tests.llms.conftest import OpenModel
from tests.llms.drafters import Scripted, always, generation_of, plain, request_of, written
from tests.llms.evaluations import Evaluations

QUESTION = "公司的年假有几天？正式员工每年享有年假，工作满一年的员工有五天年假。"
GREEDY: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0}


@pytest.fixture
def quoting(open_model: OpenModel) -> tuple[LocalChat, Request, Any]:
    model = open_model(max_tokens=40, min_tokens=40, **GREEDY)
    request = request_of(model, QUESTION)
    return model, request, plain(model, request)


def guessing(model: LocalChat, *drafters: Drafter, count: int = 7) -> None:
    model._speculation_for = always(model, *drafters, count=count)


def test_tokens_are_given_one_by_one_and_nothing_is_evaluated_ahead(quoting: tuple[LocalChat, Request, Any]) -> None:
    model, request, expected = quoting
    guessing(model, Scripted(expected.ids, 1.0))
    evaluations = Evaluations(model)
    answer = generation_of(model, request)
    pieces = answer.pieces()
    first = next(pieces)
    assert sum(evaluations.batches) == 1
    found = [first]
    for piece in pieces:
        found.append(piece)
        # Never more than what one guess is ahead.
        assert sum(evaluations.batches) <= answer.output_tokens + 8
    assert found == expected.pieces


def test_who_stops_reading_stops_the_work(quoting: tuple[LocalChat, Request, Any]) -> None:
    model, request, expected = quoting
    drafter = Scripted(expected.ids, 1.0)
    guessing(model, drafter)
    evaluations = Evaluations(model)
    pieces = generation_of(model, request).pieces()
    for _ in range(5):
        next(pieces)
    pieces.close()
    assert drafter.closed
    assert sum(evaluations.batches) <= 9
    assert written(model, request).told == expected.told


def test_an_answer_in_between_throws_the_guesses_away_and_changes_nothing(
    quoting: tuple[LocalChat, Request, Any],
) -> None:
    model, request, expected = quoting
    guessing(model, Scripted(expected.ids, 1.0))
    other = request_of(model, "出差住宿费的标准是多少？")
    alone = plain(model, other)
    for after in (1, 2, 3, 9):
        pieces = generation_of(model, request).pieces()
        found = [next(pieces) for _ in range(after)]
        assert plain(model, other).told == alone.told
        assert found + list(pieces) == expected.pieces


def test_cancelling_in_the_middle_of_a_guess_ends_the_answer(quoting: tuple[LocalChat, Request, Any]) -> None:
    model, request, expected = quoting
    for after in (1, 2, 4, 12):
        guessing(model, Scripted(expected.ids, 1.0))
        cancelled = Cancellation()
        answer = generation_of(model, request, cancelled)
        found = []
        for piece in answer.pieces():
            found.append(piece)
            if len(found) == after:
                cancelled.set()
        assert found == expected.pieces[:after]
        assert answer.finish_reason is None
        assert written(model, request).told == expected.told


def test_cancelling_within_the_evaluation_of_guesses_drops_them(quoting: tuple[LocalChat, Request, Any]) -> None:
    model, request, expected = quoting
    guessing(model, Scripted(expected.ids, 0.7))
    cancelled = Cancellation()
    evaluations = Evaluations(model)
    evaluations.before = lambda: cancelled.set() if len(evaluations.batches) == 3 else None
    answer = generation_of(model, request, cancelled)
    assert len("".join(answer.pieces())) < len(expected.text)
    assert answer.finish_reason is None
    evaluations.before = lambda: None
    assert written(model, request).told == expected.told


def test_threads_that_share_a_model_get_what_one_gets(open_model: OpenModel) -> None:
    model = open_model(max_tokens=30, min_tokens=30, **GREEDY)
    questions = [f"第{number}个问题：年假有几天？" for number in range(4)]
    answers = {question: plain(model, request_of(model, question)) for question in questions}

    def speculation(request: Request, pace: Pace) -> Speculation:
        script = next(answer.ids for answer in answers.values() if answer.answer.request.ids == request.ids)
        drafters: list[Drafter] = [PromptLookup(request.ids), Scripted(script, 0.7, costly=True)]
        return Speculation(request, drafters, pace, model.tokenizer.end_ids, always=6)

    model._speculation_for = speculation
    begin = threading.Barrier(3)

    def work(thread: int) -> list[tuple[str, list[int]]]:
        begin.wait(10)
        found = []
        for number in range(8):
            question = questions[(thread + number) % len(questions)]
            if number % 4 == 3:
                left = generation_of(model, request_of(model, question)).pieces()
                next(left)
                left.close()
            found.append((question, written(model, request_of(model, question)).ids))
        return found

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, thread) for thread in range(3)]:
            for question, ids in done.result(timeout=60):
                assert ids == answers[question].ids


# What a user says.


@pytest.fixture
def told(open_gguf: OpenModel) -> Callable[..., bool]:
    """Whether a call with these arguments, on a model with these fields, guesses."""

    def speculative(fields: dict[str, Any], **arguments: Any) -> bool:
        return request_of(open_gguf(**fields), QUESTION, **arguments).speculative

    return speculative


def test_a_seed_is_kept_free_of_guesses_unless_they_are_asked_for(told: Callable[..., bool]) -> None:
    assert told({})
    assert told({"temperature": 0})
    assert not told({"seed": 1})
    assert not told({}, seed=1)
    assert told({"seed": 1, "speculation": "on"})
    assert told({"seed": 1}, speculation="on")
    assert not told({"speculation": "off"})
    assert not told({"speculation": "on"}, speculation="off")
    assert not told({}, num_beams=2)
    assert not told({}, guidance_scale=2.0)


def test_what_is_no_way_of_guessing_is_refused(open_gguf: OpenModel) -> None:
    with pytest.raises(WrongUsageError, match="speculation"):
        open_gguf(speculation="lookup")
    with pytest.raises(WrongUsageError, match="speculation") as refused:
        open_gguf().invoke(QUESTION, speculation="always")
    assert "auto" in refused.value.hint.en
    with pytest.raises(WrongUsageError, match="speculation"):
        open_gguf().invoke(QUESTION, speculation=["on"])


def test_what_can_change_an_answer_is_part_of_a_caches_key(open_gguf: OpenModel) -> None:
    keys = {str(open_gguf(speculation=way)._identity()) for way in ("auto", "on", "off")}
    assert len(keys) == 3


def test_the_answer_tells_how_much_was_guessed(open_model: OpenModel) -> None:
    model = open_model(max_tokens=30, min_tokens=30, **GREEDY)
    script = plain(model, request_of(model, QUESTION)).ids
    guessing(model, Scripted(script, 1.0), count=4)
    answer = model.invoke(QUESTION)
    assert answer.response_metadata["speculation"] == {"drafted": 23, "accepted": 23}
    chunks = list(model.stream(QUESTION))
    assert chunks[-1].response_metadata["speculation"] == {"drafted": 23, "accepted": 23}
    assert "speculation" not in open_model(max_tokens=3, speculation="off").invoke(QUESTION).response_metadata
