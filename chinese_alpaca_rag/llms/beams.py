"""Beam search: the likeliest whole answer rather than the likeliest next id.

The rules are those of transformers' ``generate`` with ``num_beams`` (length penalty 1, no early stopping), to
which the tests hold it: of the best candidates of all beams, those that end are kept with their mean
log-probability, the others go on, until no running beam can become better than the worst one kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Backend, Logits, forgetting
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.request import FinishReason, Request, TokenLogprob
from chinese_alpaca_rag.llms.sampling import log_softmax, not_a_number, penalised
from chinese_alpaca_rag.llms.turns import Turns
from chinese_alpaca_rag.llms.writing import Writing


@dataclass(frozen=True)
class _Beam:
    """``score`` is the sum of log-probabilities while it runs, their mean once it has ended."""

    score: float
    ids: tuple[int, ...]


@dataclass(frozen=True)
class _Candidate:
    """One more id, ``index``, behind the beam in ``row``."""

    score: float
    row: int
    index: int


class BeamSearch:
    """The work on a request with beams, a ``request.Answer``: the text comes in one piece at the end."""

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        *,
        turns: Turns,
        prefixes: Prefixes,
        open_backend: Callable[[], Backend],
        cancelled: Cancellation,
    ) -> None:
        self.request = request
        self.reused = 0
        self.output_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.logprobs: list[TokenLogprob] = []
        self._tokenizer = tokenizer
        self._end_ids = tokenizer.end_ids
        self._turns = turns
        self._prefixes = prefixes
        self._open_backend = open_backend
        self._cancelled = cancelled

    def pieces(self) -> Generator[str]:
        """See ``Answer.pieces``."""
        try:
            with self._turns.step(self):
                backend = self._open_backend()
                backend.watch(self._cancelled)
                best: _Beam | None = None
                with suppress(EvaluationStopped), forgetting(backend):
                    best = self._search(backend)
                if best is None:
                    return
                text = self._written(best, backend.vocabulary)
            if text:
                yield text
        finally:
            self._turns.leave(self)

    def _written(self, best: _Beam, vocabulary: int) -> str:
        """The text of the best beam, cut where a stop text stands in it."""
        writing = Writing(replace(self.request, constraint=None), self._tokenizer, vocabulary)
        pieces = []
        for index in best.ids:
            pieces.append(writing.take(index))
            if writing.finish_reason is not None:
                break
        self.finish_reason = writing.finish_reason
        self.output_tokens = len(writing.ids)
        return "".join(pieces)

    def _search(self, backend: Backend) -> _Beam | None:
        logits = self._prompt_logits(backend)
        if logits is None:
            return None
        beams = self.request.beams
        running, finished = [_Beam(0.0, ())], list[_Beam]()
        for length in range(1, self.request.sampling.max_tokens + 1):
            last = length == self.request.sampling.max_tokens
            candidates = self._candidates(running, logits, beams * (1 + len(self._end_ids)))
            ending = [
                _Beam(candidate.score / length, (*running[candidate.row].ids, candidate.index))
                for candidate in candidates[:beams]
                if last or candidate.index in self._end_ids
            ]
            finished = sorted([*finished, *ending], key=lambda beam: -beam.score)[:beams]
            going_on = [candidate for candidate in candidates if candidate.index not in self._end_ids][:beams]
            if last or not going_on or _settled(finished, going_on[0].score / length, beams):
                if not finished:
                    raise not_a_number()
                return finished[0]
            if self._cancelled.is_set():
                return None
            logits = _advanced(backend, going_on, first=length == 1)
            running = [_Beam(candidate.score, (*running[candidate.row].ids, candidate.index)) for candidate in going_on]
        return None

    def _prompt_logits(self, backend: Backend) -> list[Logits] | None:
        reused = self._prefixes.prefill(backend, self.request.ids, self.request.segments, self._cancelled)
        if reused is None:
            return None
        self.reused = reused
        return [backend.logits()]

    def _candidates(self, running: Sequence[_Beam], logits: Sequence[Logits], count: int) -> list[_Candidate]:
        """The ``count`` best next ids over all beams, best first."""
        found: list[_Candidate] = []
        for row, beam in enumerate(running):
            scores = self._scores(beam, logits[row])
            best = np.argpartition(-scores, min(count, len(scores) - 1))[:count]
            found += [
                _Candidate(beam.score + float(scores[index]), row, int(index))
                for index in best
                if np.isfinite(scores[index])
            ]
        return sorted(found, key=lambda candidate: -candidate.score)[:count]

    def _scores(self, beam: _Beam, logits: Logits) -> Logits:
        scores = penalised(log_softmax(logits).astype(np.float32), beam.ids, self.request.sampling.repetition_penalty)
        if len(beam.ids) < self.request.min_tokens:
            scores[[index for index in self._end_ids if index < len(scores)]] = -np.inf
        return scores


def _settled(finished: Sequence[_Beam], best_running: float, beams: int) -> bool:
    """Whether no running beam, at its mean so far, would be among the ``beams`` best."""
    return len(finished) == beams and best_running <= finished[-1].score


def _advanced(backend: Backend, candidates: Sequence[_Candidate], *, first: bool) -> list[Logits]:
    """The logits after each candidate, whose rows the backend holds from then on."""
    if first:
        backend.fork(len(candidates))
    else:
        backend.reorder([candidate.row for candidate in candidates])
    backend.extend([[candidate.index] for candidate in candidates])
    return [copy.copy(backend.row_logits(row)) for row in range(len(candidates))]
