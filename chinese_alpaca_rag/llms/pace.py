"""What evaluations take on one opened model and how often guesses were right: whether guessing pays, and how much.

Of ``n`` ids that are each right with probability ``a`` when those before were, ``(1 - a**(n + 1)) / (1 - a)`` tokens
of an answer come of one evaluation, its own next token included (Leviathan et al., 2023, equation 1).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

#: The most ids that are ever guessed at once.
MOST_GUESSED: Final = 15
# So many are: few numbers, because each has to be measured, and llama.cpp prepares anew for another one than before.
_COUNTS: Final = (1, 2, 3, 5, 7, 11, MOST_GUESSED)
# A number that is nearly as good as the best is kept to.
_NEARLY: Final = 0.95
# Guessing has to be so much quicker before it is done: what is measured is never exact.
_WORTH: Final = 1.05
# What trying may cost, in evaluations of one id: so much more with each, and never more than this altogether.
_CREDIT_A_STEP: Final = 0.01
_MOST_CREDIT: Final = 1.0
# Trying is worth it where so much might be gained, and a costly drafter might be right so often.
_HOPE: Final = 1.1
_HOPED_FOR: Final = 0.7
# How much less each older guess says than the next.
_FADING: Final = 0.93
# What earlier answers count for in a new one, in guesses.
_FROM_EARLIER: Final = 4.0
# One more id's part of an evaluation of one, and that of a costly drafter's guess, before they are measured.
_UNKNOWN_SLOPE: Final = 0.15
_UNKNOWN_GUESS: Final = 0.2
# Evaluations of one id before anything is held against them, and the most evaluations between two of them.
_LEAST_SINGLES: Final = 5
_MOST_BETWEEN: Final = 24
# Further from the last single one an evaluation says nothing: the machine may have become slower for both.
_COMPARABLE: Final = 8
_REMEMBERED: Final = 9
_SURE: Final = 3


class Acceptance:
    """How likely one source's next id is right: a beta distribution over a uniform prior, which forgets."""

    def __init__(self) -> None:
        self._right = 0.0
        self._wrong = 0.0

    @property
    def probability(self) -> float:
        """The estimate, between 0 and 1."""
        return (1 + self._right) / (2 + self._right + self._wrong)

    def observe(self, right: bool) -> None:
        """Count one guessed id in."""
        self._right = self._right * _FADING + right
        self._wrong = self._wrong * _FADING + (not right)

    def begin_answer(self) -> None:
        """What other texts said counts for less."""
        share = min(1.0, _FROM_EARLIER / max(self._right + self._wrong, 1e-9))
        self._right *= share
        self._wrong *= share


class EvaluationCosts:
    """What evaluating several ids takes, in evaluations of one id, at one size of context.

    Seconds are compared with those of single ids just before only, and middle values count: others use the machine.
    """

    def __init__(self) -> None:
        self._singles: deque[float] = deque(maxlen=_REMEMBERED)
        self._single: float | None = None
        self._since_single = 0
        self._previous = 0
        self._ratios: dict[int, deque[float]] = {}
        self._expected: list[float] | None = None
        self._hoped_for: list[float] | None = None
        #: How many ids were guessed last.
        self.count = 0

    def record(self, ids: int, seconds: float) -> None:
        """Count in an evaluation of ``ids`` ids."""
        if ids > 1:
            self._since_single += 1
            self._compare(ids, seconds)
        elif self._previous > 1 and self._single is not None:
            # The first single one after several takes longer than the next: they have to answer for that, too.
            self._compare(self._previous, max(0.0, seconds - self._single), aftermath=True)
        else:
            self._singles.append(seconds)
            self._since_single = 0
            if len(self._singles) >= _LEAST_SINGLES:
                # Others only ever make it slower; too quick a one makes several ids look dear, which is safe.
                self._single = sorted(self._singles)[len(self._singles) // 4]
        self._previous = ids

    def _compare(self, ids: int, seconds: float, *, aftermath: bool = False) -> None:
        """Count ``seconds`` in as those of ``ids`` ids, or add them to the last."""
        if self._single is None or self._since_single > _COMPARABLE:
            return
        ratios = self._ratios.setdefault(ids, deque(maxlen=_REMEMBERED))
        if not aftermath:
            ratios.append(max(1.0, seconds / max(self._single, 1e-9)))
        elif ratios:
            ratios[-1] += seconds / max(self._single, 1e-9)
        self._expected = self._hoped_for = None

    @property
    def single(self) -> float | None:
        """The seconds of one id; ``None`` until they are known."""
        return self._single

    @property
    def measured(self) -> bool:
        """Whether several ids were ever evaluated."""
        return bool(self._ratios)

    @property
    def due_for_a_single(self) -> bool:
        """Whether it is time to see again what one id takes."""
        return self._since_single >= _MOST_BETWEEN

    def expected(self) -> Sequence[float]:
        """The cost of evaluating 0, 1, ... ids: measured, between what was measured, or on from it."""
        if self._expected is None:
            known = {1: 1.0, **{ids: _middle(ratios) for ids, ratios in self._ratios.items()}}
            last = max(known)
            slope = (known[last] - 1) / (last - 1) if last > 1 else _UNKNOWN_SLOPE
            known[MOST_GUESSED + 2] = known[last] + slope * (MOST_GUESSED + 2 - last)
            self._expected = _between(known)
        return self._expected

    def hoped_for(self) -> Sequence[float]:
        """As ``expected``, where what was not measured well costs no more than fewer ids do."""
        if self._hoped_for is None:
            sure = {ids: _middle(ratios) for ids, ratios in self._ratios.items() if len(ratios) >= _SURE}
            costs = [0.0, 1.0]
            for ids in range(2, MOST_GUESSED + 2):
                costs.append(max(costs[-1], sure.get(ids, 0.0)))
            self._hoped_for = costs
        return self._hoped_for


class Pace:
    """What one opened model's answers have shown. Only inside its turn."""

    def __init__(self) -> None:
        # By context: from one power of two to the next, evaluations are of about the same kind.
        self._costs: dict[int, EvaluationCosts] = {}
        self._started: set[int] = set()
        self._acceptance: dict[str, Acceptance] = {}
        self._guessing: dict[str, deque[float]] = {}
        self._credit = _MOST_CREDIT / 2
        #: Seconds that reading one id of a prompt took last; ``None`` before any was read by a drafter.
        self.reading: float | None = None

    def begin_answer(self) -> None:
        """What was seen in earlier answers counts for less from now on."""
        for acceptance in self._acceptance.values():
            acceptance.begin_answer()

    def evaluated(self, ids: int, held: int, seconds: float) -> None:
        """``ids`` ids were evaluated in ``seconds``, behind ``held`` tokens."""
        self._credit = min(_MOST_CREDIT, self._credit + _CREDIT_A_STEP)
        if ids in self._started:
            self._at(held).record(ids, seconds)
        # The first of its size prepares what all of them use.
        self._started.add(ids)

    def guessed(self, source: str, ids: int, seconds: float) -> None:
        """A costly drafter took ``seconds`` to guess ``ids`` ids."""
        self._guessing.setdefault(source, deque(maxlen=_REMEMBERED)).append(seconds / max(1, ids))

    def observe(self, source: str, right: bool) -> None:
        """An id of ``source`` was right or wrong, those before it having been right."""
        self._of(source).observe(right)

    def worth(self, source: str, most: int, held: int, *, costly: bool) -> int:
        """How many of ``most`` ids of ``source`` to evaluate with the next one, behind ``held`` tokens; 0: none."""
        costs = self._at(held)
        if most < 1 or costs.single is None or costs.due_for_a_single:
            return 0
        guess = self._guess_cost(source, costs.single) if costly else 0.0
        acceptance = self._of(source).probability
        expected, hoped = (costs if costs.measured else self._nearest(held)).expected(), costs.hoped_for()
        if not costly and 1 / (1 - acceptance) < min(_WORTH * (expected[2] + hoped[2]) / 2, _HOPE * hoped[2]):
            # However many: the usual case where there is nothing to quote, and it should take no time.
            return 0
        counts = [count for count in _COUNTS if count <= most]
        yields = _yields(acceptance)
        # What was never measured may be cheaper than it looks from what was; it is soon known.
        gains = {
            count: yields[count] / ((expected[count + 1] + hoped[count + 1]) / 2 + count * guess) for count in counts
        }
        best = max(counts, key=gains.__getitem__)
        if gains[best] < _WORTH:
            return self._worth_trying(costs, acceptance, guess, counts, costly=costly)
        if gains.get(costs.count, 0.0) >= max(_WORTH, _NEARLY * gains[best]):
            best = costs.count
        costs.count = best
        return best

    def _worth_trying(
        self, costs: EvaluationCosts, acceptance: float, guess: float, counts: Sequence[int], *, costly: bool
    ) -> int:
        """As ``worth`` where no gain is expected: what might be one, if what is known were known better."""
        expected, hoped = costs.expected(), costs.hoped_for()
        if self._credit >= _MOST_CREDIT:
            # Nothing was tried for long: what was measured then may not be true any more.
            hoped = [1 + (cost - 1) / 2 for cost in hoped]
        yields = _yields(acceptance)
        # Of what costs nothing to guess it is known how often it is right.
        hoped_yields = _yields(max(acceptance, _HOPED_FOR)) if costly else yields
        losses = {count: expected[count + 1] + count * guess - yields[count] for count in counts}
        gains = {
            count: hoped_yields[count] / (hoped[count + 1] + count * guess)
            for count in counts
            if losses[count] <= self._credit
        }
        best = max(gains, key=gains.__getitem__, default=0)
        if not best or gains[best] < _HOPE:
            return 0
        self._credit -= max(0.0, losses[best])
        return best

    def _guess_cost(self, source: str, single: float) -> float:
        """The cost of one guessed id, in evaluations of one id."""
        seconds = self._guessing.get(source)
        return _middle(seconds) / max(single, 1e-9) if seconds else _UNKNOWN_GUESS

    def _of(self, source: str) -> Acceptance:
        return self._acceptance.setdefault(source, Acceptance())

    def _at(self, held: int) -> EvaluationCosts:
        return self._costs.setdefault(held.bit_length(), EvaluationCosts())

    def _nearest(self, held: int) -> EvaluationCosts:
        """What is known of the size of context next to this one, where nothing is of this one."""
        measured = [size for size, costs in self._costs.items() if costs.measured]
        if not measured:
            return self._at(held)
        return self._costs[min(measured, key=lambda size: abs(size - held.bit_length()))]


def _yields(acceptance: float) -> list[float]:
    """The tokens that come of an evaluation with 0, 1, ... guessed ids."""
    yields, part = [1.0], 1.0
    for _ in range(MOST_GUESSED):
        part *= acceptance
        yields.append(yields[-1] + part)
    return yields


def _between(known: dict[int, float]) -> list[float]:
    """Costs of 0, 1, ... ids, on straight lines between those ``known``, never less for more ids."""
    counts = sorted(known)
    costs = [0.0, known[1]]
    for low, high in pairwise(counts):
        step = (known[high] - known[low]) / (high - low)
        for count in range(low + 1, high + 1):
            costs.append(max(costs[-1], known[low] + step * (count - low)))
    return costs


def _middle(values: Sequence[float] | deque[float]) -> float:
    """The median; of two in the middle the lower."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] if ordered else math.nan
