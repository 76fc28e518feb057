"""Answers made together: the same evaluations serve several prompts, and their common beginning only once.

``Gathering`` brings together what LangChain hands over one by one: ``batch`` calls ``invoke`` in several
threads, so that callbacks, caches and tracing stay as they are, and each call hands its request in here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.errors import AlpacaRagError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Backend, forgetting
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.request import Answer, FinishReason, Request, TokenLogprob
from chinese_alpaca_rag.llms.rows import prefill_rows, shared_beginning
from chinese_alpaca_rag.llms.writing import Writing


class FinishedAnswer:
    """A ``request.Answer`` that is there already."""

    def __init__(self, writing: Writing, text: str, reused: int, problem: AlpacaRagError | None = None) -> None:
        self.request = writing.request
        self.reused = reused
        self.output_tokens = len(writing.ids)
        self.finish_reason: FinishReason | None = writing.finish_reason
        self.logprobs: list[TokenLogprob] = writing.logprobs
        self._text = text
        self._problem = problem

    def pieces(self) -> Generator[str]:
        """The whole text at once. Raises what went wrong with this answer alone."""
        if self._problem is not None:
            raise self._problem
        if self._text:
            yield self._text


def answer_together(
    requests: Sequence[Request], tokenizer: Tokenizer, prefixes: Prefixes, backend: Backend, cancelled: Cancellation
) -> list[FinishedAnswer]:
    """The answers to ``requests``, in their order; unfinished ones where ``cancelled`` was set meanwhile.

    ``reused`` counts for the first request what was held before, and for the others what was evaluated
    once for all as well.
    """
    writings = [Writing(request, tokenizer, backend.vocabulary) for request in requests]
    texts = [""] * len(requests)
    problems: dict[int, AlpacaRagError] = {}
    backend.watch(cancelled)
    kept: int | None = None
    with suppress(EvaluationStopped), forgetting(backend):
        rows = [request.ids for request in requests]
        kept = prefill_rows(prefixes, backend, rows, requests[0].segments, cancelled)
        if kept is not None:
            _write_side_by_side(writings, texts, problems, backend, cancelled)
    shared = shared_beginning([request.ids for request in requests])
    return [
        FinishedAnswer(writing, text, (kept or 0) if number == 0 else shared, problems.get(number))
        for number, (writing, text) in enumerate(zip(writings, texts, strict=True))
    ]


def _write_side_by_side(
    writings: Sequence[Writing],
    texts: list[str],
    problems: dict[int, AlpacaRagError],
    backend: Backend,
    cancelled: Cancellation,
) -> None:
    """Fill ``texts``, and ``problems`` for rows that cannot go on: the others do."""
    rows = list(range(len(writings)))
    while not cancelled.is_set():
        chosen = []
        for place, row in enumerate(rows):
            try:
                index = writings[row].choose(backend.row_logits(place))
                texts[row] += writings[row].take(index)
            except AlpacaRagError as problem:
                problems[row], index = problem, -1
            chosen.append(index)
        going_on = [
            place for place, row in enumerate(rows) if writings[row].finish_reason is None and row not in problems
        ]
        if not going_on:
            return
        if len(going_on) < len(rows):
            backend.reorder(going_on)
            rows = [rows[place] for place in going_on]
            chosen = [chosen[place] for place in going_on]
        backend.extend([[index] for index in chosen])


def groups(
    requests: Sequence[Request], most: int, capacity: int | None, *, shares_cells: bool = True
) -> list[list[int]]:
    """The places of ``requests`` that can be answered together, in order: at most ``most``, and all in ``capacity``.

    ``capacity`` is in tokens and holds prompts and longest replies, the common beginning once where
    ``shares_cells``.
    """
    found: list[list[int]] = []
    for place in range(len(requests)):
        group = [*(found[-1] if found else []), place]
        fits = len(group) <= most and _fits([requests[member] for member in group], capacity, shares_cells)
        if found and fits:
            found[-1] = group
        else:
            found.append([place])
    return found


def _fits(requests: Sequence[Request], capacity: int | None, shares_cells: bool) -> bool:
    if any(request.guidance is not None or request.beams > 1 for request in requests):
        return False
    if capacity is None:
        return True
    lengths = [len(request.ids) + request.sampling.max_tokens for request in requests]
    if not shares_cells:
        # Shorter rows are padded to the longest.
        return len(requests) * max(lengths) <= capacity
    shared = shared_beginning([request.ids for request in requests])
    return sum(lengths) - shared * (len(requests) - 1) <= capacity


class Gathering:
    """The requests of one ``batch`` call, of which each participant hands one in or leaves."""

    def __init__(
        self,
        participants: int,
        answer: Callable[[list[Request], Cancellation], Sequence[Answer]],
        cancelled: Cancellation,
    ) -> None:
        self._cancelled = cancelled
        self._answer = answer
        self._missing = set(range(participants))
        self._condition = threading.Condition()
        self._waiting: dict[int, Request] = {}
        self._answers: dict[int, Answer] = {}
        self._problem: BaseException | None = None

    def join(self, participant: int, request: Request) -> Answer | None:
        """Wait for all participants, then for the answer. Raises what the answering raised.

        ``None`` for a participant's second request (a callback's, say), which is none of the batch's.
        """
        with self._condition:
            if participant not in self._missing:
                return None
            self._waiting[participant] = request
            self._count_off(participant)
            self._condition.wait_for(lambda: participant in self._answers or self._problem is not None)
            if self._problem is not None:
                raise self._problem
            return self._answers[participant]

    def leave(self, participant: int) -> None:
        """``participant`` is done; one that handed in a request was counted already."""
        with self._condition:
            if participant in self._missing:
                self._count_off(participant)

    def _count_off(self, participant: int) -> None:
        """The last of the participants does the work for all of them."""
        self._missing.remove(participant)
        if self._missing or not self._waiting:
            return
        try:
            answers = self._answer(list(self._waiting.values()), self._cancelled)
            self._answers = dict(zip(self._waiting, answers, strict=True))
        except BaseException as problem:
            self._problem = problem
        finally:
            self._condition.notify_all()


@dataclass(frozen=True)
class Participant:
    """One call of ``model``'s ``invoke`` that belongs to a batch."""

    model: Any
    gathering: Gathering
    number: int


#: The part of a batch that the running ``invoke`` is.
current_participant: ContextVar[Participant | None] = ContextVar("current_participant", default=None)
