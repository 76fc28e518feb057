"""Guessed ids change nothing of an answer: whatever is guessed, by whom, and wherever the answer ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.drafting import Guess, PromptLookup
from chinese_alpaca_rag.llms.generation import Generation
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.speculation import Speculation
from chinese_alpaca_rag.llms.turns import Turns
from tests.llms.conftest import OpenModel
from tests.llms.drafters import Scripted, always, plain, request_of, written, written_with
from tests.llms.evaluations import Evaluations
from tests.llms.test_answers import long_question
from tests.toy_family import ToyCheckpoint

QUESTION = "公司的年假有几天？正式员工每年享有年假，工作满一年的员工有五天年假。"
GREEDY: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0}
SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 3}


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("right", [0.0, 0.5, 0.8, 1.0])
def test_answers_are_the_same_whatever_is_guessed(
    open_model: OpenModel, settings: dict[str, Any], right: float
) -> None:
    model = open_model(max_tokens=72, min_tokens=72, **settings)
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    assert len(expected.ids) == 72
    for count, costly in ((1, False), (4, True), (15, False), (None, False), (None, True)):
        drafter = Scripted(expected.ids, right, costly=costly)
        found = written_with(model, request, always(model, drafter, count=count))
        assert found.told == expected.told
        assert drafter.closed
        counts = found.answer.metadata.get("speculation", {"drafted": 0, "accepted": 0})
        if count is not None:
            assert counts["drafted"] > 0
            assert right > 0 or counts["accepted"] == 0
            assert right < 1 or counts["accepted"] == counts["drafted"] > 30


def test_what_is_evaluated_is_what_was_written_and_guessed(open_model: OpenModel) -> None:
    model = open_model(max_tokens=41, min_tokens=41, **GREEDY)
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    evaluations = Evaluations(model)
    found = written_with(model, request, always(model, Scripted(expected.ids, 1.0), count=7))
    # The prompt's last id, whose logits are gone; then eight at a time, the last of which stays unevaluated.
    assert evaluations.batches == [1, 8, 8, 8, 8, 8]
    assert found.answer.metadata == {"speculation": {"drafted": 35, "accepted": 35}}
    evaluations.batches.clear()
    found = written_with(model, request, always(model, Scripted(expected.ids, 0.0), count=2))
    assert evaluations.batches[:4] == [1, 3, 3, 3]
    assert found.answer.metadata == {"speculation": {"drafted": 2 * 38 + 1, "accepted": 0}}


def test_words_of_the_prompt_and_of_the_answer_itself_are_looked_up(open_model: OpenModel) -> None:
    """An answer that has no choice but to say one sentence of the question over and over."""
    sentence = "正式员工每年享有五天年假"
    schema = {
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {"const": sentence}, "minItems": 6, "maxItems": 6}},
        "required": ["rules"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "rules", "schema": schema}}
    model = open_model(max_tokens=300, **GREEDY)
    request = request_of(model, f"重复这句话：{sentence}。", response_format=form)
    expected = plain(model, request)
    assert expected.text.count(sentence) == 6
    evaluations = Evaluations(model)
    found = written_with(model, request, always(model, PromptLookup(request.ids), count=7))
    assert found.told == expected.told
    assert found.answer.metadata["speculation"]["accepted"] > len(expected.ids) / 2
    assert len(evaluations.batches) < len(expected.ids) / 2
    # The model's own way, which looks at what pays.
    assert request.speculative
    assert written(model, request).told == expected.told


def test_nonsense_is_no_guess(open_model: OpenModel) -> None:
    model = open_model(max_tokens=24, min_tokens=24, **GREEDY)
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    vocabulary = model._opened().vocabulary
    for wrong in ([-1, -(2**40)], [vocabulary, 2**40], [model.tokenizer.eos_id, -1]):
        drafter = Scripted(expected.ids, 0.0, wrong=wrong)
        found = written_with(model, request, always(model, drafter))
        assert found.told == expected.told
        assert found.answer.metadata == {}


# Where answers end.


def test_an_answer_ends_within_a_guess(open_model: OpenModel) -> None:
    """By its length, by a stop text, and by the end-of-text id, with the ids behind it guessed as well."""
    model = open_model(max_tokens=60, **GREEDY)
    whole = plain(model, request_of(model, QUESTION, min_tokens=60))
    text = whole.text
    requests = [
        *(request_of(model, QUESTION, min_tokens=tokens, max_tokens=tokens) for tokens in (1, 2, 3, 10)),
        *(request_of(model, QUESTION, min_tokens=60, stop=[text[place : place + 3]]) for place in (5, 11, 20)),
    ]
    for request in requests:
        expected = plain(model, request)
        for count in (1, 5, 15):
            found = written_with(model, request, always(model, Scripted(whole.ids, 1.0), count=count))
            assert found.told == expected.told
            assert found.answer.output_tokens <= request.sampling.max_tokens


@pytest.mark.parametrize("place", [1, 13, 40])
def test_an_end_of_text_in_the_middle_of_a_guess_ends_the_answer(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """An id of the likeliest answer is made one that ends the text.

    Sampling from a flat distribution until the end comes by chance would not do: there the rounding of several
    rows evaluated at once, which differs from that of one row, changes what is chosen on some processors.
    """
    model = open_model(max_tokens=72, **GREEDY)
    request = request_of(model, QUESTION)
    ids = plain(model, request).ids
    end = next(index for index in ids[place:] if index not in ids[:place])
    monkeypatch.setattr(model.tokenizer, "end_ids", model.tokenizer.end_ids | {end})
    expected = plain(model, request)
    assert expected.answer.finish_reason == "stop"
    assert expected.ids == ids[: ids.index(end)]
    for tail in ([end], [300, 301, 302]):
        drafter = Scripted([*expected.ids, *tail, 300, 300], 1.0)
        assert written_with(model, request, always(model, drafter, count=15)).told == expected.told


def test_guesses_stay_within_the_window(open_model: OpenModel) -> None:
    model = open_model(window=300, max_tokens=50, **GREEDY)
    held = most_held(model)
    for room in (1, 2, 3, 9, 30):
        request = request_of(model, long_question(model, 300 - room), min_tokens=50)
        expected = plain(model, request)
        held.clear()
        found = written_with(model, request, always(model, Scripted(expected.ids, 0.9), count=15))
        assert found.told == expected.told
        assert found.answer.output_tokens == room
        # The last id of an answer needs no evaluation.
        assert max(held) <= 299


def most_held(model: LocalChat) -> list[int]:
    """How many tokens the one sequence is long after each evaluation."""
    backend = model._opened()
    lengths: list[int] = []
    length = 0
    evaluate, keep, drop = backend.evaluate, backend.keep, backend.drop

    def evaluated(ids: Sequence[int], outputs: int = 1) -> None:
        nonlocal length
        evaluate(ids, outputs)
        length += len(ids)
        lengths.append(length)

    def kept(ids: Sequence[int]) -> int:
        nonlocal length
        length = keep(ids)
        return length

    def dropped(position: int) -> None:
        nonlocal length
        assert position <= length
        drop(position)
        length = position

    vars(backend).update(evaluate=evaluated, keep=kept, drop=dropped)
    return lengths


# What is chosen by more than the model.


def test_constraints_hold_and_log_probabilities_are_those_without_guesses(
    toy_closing: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]
) -> None:
    model = closing(ChatAlpacaGGUF(model_path=toy_closing.gguf, n_threads=1, max_tokens=120, **GREEDY))
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "days": {"type": "integer"}},
        "required": ["name", "days"],
        "additionalProperties": False,
    }
    arguments = {"response_format": {"type": "json_schema", "json_schema": {"name": "leave", "schema": schema}}}
    request = request_of(model, QUESTION, logprobs=True, top_logprobs=3, **arguments)
    assert request.constraint is not None
    expected = plain(model, request)
    assert expected.text.startswith("{")
    for right in (0.0, 0.6, 1.0):
        found = written_with(model, request, always(model, Scripted(expected.ids, right)))
        assert found.told[:3] == expected.told[:3]
        assert [entry.id for entry in found.answer.logprobs] == expected.ids
        for one, other in zip(found.answer.logprobs, expected.answer.logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
            assert [index for index, _ in one.top] == [index for index, _ in other.top]


class Fixed:
    """A ``Backend`` whose logits after an id are a row of ``table``: what it gives is known exactly."""

    batch, max_rows, capacity, shares_cells, max_outputs = 512, 1, None, False, 16

    def __init__(self, table: Logits) -> None:
        self.table = table
        self.vocabulary = len(table)
        self.evaluated = 0
        self.held: list[int] = []

    def watch(self, cancelled: Cancellation) -> None:
        pass

    def keep(self, ids: Sequence[int]) -> int:
        self.held.clear()
        return 0

    def drop(self, position: int) -> None:
        assert position <= len(self.held)
        del self.held[position:]

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        self.held += ids
        self.evaluated += len(ids)
        self.outputs = outputs

    def logits(self, back: int = 0) -> Logits:
        assert back < self.outputs
        row: Logits = self.table[self.held[-1 - back]]
        return row

    def forget(self) -> None:
        self.held.clear()


class Stubborn:
    """Guesses the same whatever was written."""

    costly = False
    source = "stubborn"

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids

    def get_ready(self) -> None:
        pass

    def guess(self, written: Sequence[int], most: int) -> Guess:
        return Guess(self._ids[:most], self.source)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("guessed", [(3, 3, 3), (4, 5, 4), (7, 3, 6)])
def test_the_distribution_of_samples_is_kept(open_gguf: OpenModel, guessed: tuple[int, ...]) -> None:
    """The chi-square of all answers of three ids, against their exact probabilities."""
    tokenizer = open_gguf().tokenizer
    table = np.random.default_rng(5).normal(0, 1, (8, 8)).astype(np.float32)
    table[:, :3] = -50.0  # control ids
    odds = np.exp(table.astype(np.float64))
    odds /= odds.sum(axis=1, keepdims=True)
    request = Request((1, 4), Sampling(1.0, 0, 1.0, 1.0, 4), None, ())
    drawn: Counter[tuple[int, ...]] = Counter()
    draws = 4000
    turns, prefixes, pace = Turns(), Prefixes(), Pace()
    backend: Any = Fixed(table)
    for _ in range(draws):
        answer = Generation(
            request,
            tokenizer,
            turns=turns,
            prefixes=prefixes,
            open_backend=lambda: backend,
            cancelled=Cancellation(),
            speculation=Speculation(request, [Stubborn(guessed)], pace, tokenizer.end_ids, always=3),
        )
        list(answer.pieces())
        assert answer._writing is not None
        drawn[tuple(answer._writing.ids)] += 1
    expected = {
        ids: draws * odds[4, ids[0]] * np.prod([odds[one, other] for one, other in pairwise(ids)])
        for ids in product(range(3, 8), repeat=4)
    }
    assert sum(expected.values()) == pytest.approx(draws, rel=1e-6)
    likely = {ids: count for ids, count in expected.items() if count >= 8}
    rest = draws - sum(likely.values())
    statistic = sum((drawn[ids] - count) ** 2 / count for ids, count in likely.items())
    statistic += (draws - sum(drawn[ids] for ids in likely) - rest) ** 2 / rest
    # Chi-square has a mean of its degrees of freedom and twice that as variance.
    assert statistic < len(likely) + 4 * (2 * len(likely)) ** 0.5
