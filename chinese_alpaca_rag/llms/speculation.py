"""Speculative decoding: several ids of an answer from one evaluation, where a drafter guessed them.

The ids that a drafter guesses are evaluated together with the answer's last id, which on most machines takes
little longer than that id alone. Then the answer's own sampler goes through the rows of logits one after another, as
if each had been evaluated by itself: it chooses the next id from the first row, and as long as what it chooses is
what was guessed, the next row is the right one to go on with. From the first difference on, what was evaluated is
dropped again.

So a guess never decides anything. Every id is chosen from the model's own distribution after the ids before it,
with the same random numbers, penalties, constraint and stop texts as without guesses: greedy answers are the same,
sampled ones have the same distribution (and, with a seed, are the same), whatever a drafter guesses. For guesses
that are no distribution but one id each, this is what the rejection of speculative sampling (Leviathan et al.,
2023; Chen et al., 2023) comes to: an id is accepted with the probability that the model gives it. What is left is
rounding: in half precision and with quantised weights, several ids evaluated at once may move a logit in its last
digits, and of two ids of nearly the same likelihood the other may be chosen.

Each evaluation's rows of logits stay the backend's; no more than ``Backend.max_outputs`` are ever computed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Literal

from chinese_alpaca_rag.llms.backend import Backend, Logits
from chinese_alpaca_rag.llms.drafting import NO_GUESS, Drafter, Guess
from chinese_alpaca_rag.llms.pace import MOST_GUESSED, Pace
from chinese_alpaca_rag.llms.request import Request

#: "auto" guesses where that is quicker, but not under a seed; "on" under a seed as well; "off" never.
Speculating = Literal["auto", "on", "off"]


class Speculation:
    """The guesses for one answer. Only inside the model's turn, but for ``close``.

    ``drafters`` are asked in their order; the first whose guess is worth evaluating has its way. ``drafted`` ids
    were evaluated because they were guessed, ``accepted`` of them were then chosen.
    """

    def __init__(
        self,
        request: Request,
        drafters: Sequence[Drafter],
        pace: Pace,
        end_ids: Collection[int],
        *,
        always: int | None = None,
    ) -> None:
        """``always``: take so many ids of each guess, whatever that costs; for benchmarks and tests."""
        self.drafted = 0
        self.accepted = 0
        self._request = request
        self._drafters = drafters
        self._pace = pace
        self._end_ids = end_ids
        self._always = always
        # The guessed ids that the logits to come are of, after the row that is next; ``None``: nothing stands ready.
        self._ahead: deque[int] | None = None
        self._source = ""
        # What was guessed for nothing, next to what is chosen in its place.
        self._unevaluated: tuple[str, int] | None = None

    def get_ready(self) -> None:
        """Open what the drafters need. Raises ``ModelError``."""
        self._pace.begin_answer()
        for drafter in self._drafters:
            drafter.get_ready()

    def start_over(self) -> None:
        """The model was used by others, or the answer begins: no logits stand ready."""
        self._ahead = None

    def logits(self, backend: Backend, written: Sequence[int]) -> Logits:
        """The logits after ``written``, the last of which may not be evaluated yet. ``chosen`` has to follow."""
        if self._ahead is None:
            guess = self._guess(backend, written)
            ids = [written[-1], *guess.ids]
            begun = time.perf_counter()
            backend.evaluate(ids, outputs=len(ids))
            logits = backend.logits(len(guess.ids))
            held = len(self._request.ids) + len(written)
            self._pace.evaluated(len(ids), held, time.perf_counter() - begun)
            self._ahead, self._source = deque(guess.ids), guess.source
            self.drafted += len(guess.ids)
            return logits
        return backend.logits(len(self._ahead))

    def chosen(self, backend: Backend, index: int, written: Sequence[int]) -> None:
        """``index`` was chosen after ``written``: whether the rows behind it are any use."""
        if self._unevaluated is not None:
            source, guessed = self._unevaluated
            self._pace.observe(source, index == guessed)
            self._unevaluated = None
        if not self._ahead:
            self._ahead = None
            return
        right = index == self._ahead.popleft()
        self._pace.observe(self._source, right)
        if right:
            self.accepted += 1
            return
        backend.drop(len(self._request.ids) + len(written))
        self._ahead = None

    def close(self) -> None:
        """The answer is over; a second call does nothing."""
        for drafter in self._drafters:
            drafter.close()

    def _guess(self, backend: Backend, written: Sequence[int]) -> Guess:
        """The guess to evaluate with the last of ``written``: within the answer's longest end and the rows there are.

        The last id of an answer is never evaluated, so that guesses stay within the window as well.
        """
        room = self._request.sampling.max_tokens - len(written) - 1
        most = min(room, MOST_GUESSED, backend.max_outputs - 1, backend.batch - 1)
        if most < 1:
            return NO_GUESS
        held = len(self._request.ids) + len(written)
        for drafter in self._drafters:
            ask = self._costly_guess if drafter.costly else self._free_guess
            guess = ask(drafter, backend, written, most, held)
            if guess.ids:
                return guess
        return NO_GUESS

    def _free_guess(self, drafter: Drafter, backend: Backend, written: Sequence[int], most: int, held: int) -> Guess:
        guess = self._usable(drafter.guess(written, most), most, backend)
        if not guess.ids:
            return NO_GUESS
        count = self._worth(guess.source, len(guess.ids), held, costly=False)
        if not count and self._unevaluated is None:
            self._unevaluated = guess.source, guess.ids[0]
        return Guess(guess.ids[:count], guess.source)

    def _costly_guess(self, drafter: Drafter, backend: Backend, written: Sequence[int], most: int, held: int) -> Guess:
        count = self._worth(drafter.source, most, held, costly=True)
        if not count:
            return NO_GUESS
        begun = time.perf_counter()
        guess = drafter.guess(written, count)
        if guess is NO_GUESS:
            return guess
        self._pace.guessed(drafter.source, len(guess.ids), time.perf_counter() - begun)
        return self._usable(guess, count, backend)

    def _worth(self, source: str, most: int, held: int, *, costly: bool) -> int:
        if self._always is not None:
            return min(self._always, most)
        return self._pace.worth(source, most, held, costly=costly)

    def _usable(self, guess: Guess, most: int, backend: Backend) -> Guess:
        """``guess`` up to an id that ends the answer, behind which nothing comes, or that the model does not have."""
        for count, index in enumerate(guess.ids[:most]):
            if index in self._end_ids or not 0 <= index < backend.vocabulary:
                return Guess(guess.ids[:count], guess.source)
        return Guess(guess.ids[:most], guess.source)
