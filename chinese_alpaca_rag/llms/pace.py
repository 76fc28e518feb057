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
_MOST_BETWEEN: Final = 16
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
    """What evaluating several ids takes, in evaluations of one id, where so much is held as ``at`` one size of context.

    Seconds are compared with those of single ids just before only, and middle values count: others use the machine.
    """

    def __init__(self) -> None:
        self._singles: deque[float] = deque(maxlen=5)
        self._since_single = 0
        self._ratios: dict[int, deque[float]] = {}
        self._expected: list[float] | None = None

    def record(self, ids: int, seconds: float) -> None:
        """Count in an evaluation of ``ids`` ids."""
        if ids == 1:
            self._singles.append(seconds)
            self._since_single = 0
            return
        self._since_single += 1
        if self.single is not None and self._since_single <= _COMPARABLE:
            ratio = max(1.0, seconds / max(self.single, 1e-9))
            self._ratios.setdefault(ids, deque(maxlen=_REMEMBERED)).append(ratio)
            self._expected = None

    @property
    def single(self) -> float | None:
        """The seconds of one id; ``None`` until they are known."""
        return _middle(self._singles) if len(self._singles) >= _LEAST_SINGLES else None

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
            known = {1: 1.0, **{ids: _middle(ratios) for ids, ratios in sorted(self._ratios.items())}}
            last = max(known)
            slope = (known[last] - 1) / (last - 1) if last > 1 else _UNKNOWN_SLOPE
            known[MOST_GUESSED + 2] = known[last] + slope * (MOST_GUESSED + 2 - last)
            self._expected = _between(known)
        return self._expected

    def hoped_for(self) -> Sequence[float]:
        """As ``expected``, where what was not measured well costs no more than fewer ids do."""
        sure = {ids: _middle(ratios) for ids, ratios in sorted(self._ratios.items()) if len(ratios) >= _SURE}
        known = {1: 1.0, **sure}
        known[MOST_GUESSED + 2] = max(known.values())
        return _between(known)


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
        most = min(most, MOST_GUESSED)
        single = costs.single
        if most < 1 or single is None or costs.due_for_a_single:
            return 0
        guess = self._guess_cost(source, single) if costly else 0.0
        acceptance = self._of(source).probability
        expected = (costs if costs.measured else self._nearest(held)).expected()
        yields = _yields(acceptance, most)
        spent = [expected[count + 1] + count * guess for count in range(most + 1)]
        best = max(range(1, most + 1), key=lambda count: yields[count] / spent[count])
        if yields[best] >= _WORTH * spent[best]:
            return best
        return self._worth_trying(costs, yields, spent, acceptance, guess, costly=costly)

    def _worth_trying(
        self,
        costs: EvaluationCosts,
        yields: Sequence[float],
        spent: Sequence[float],
        acceptance: float,
        guess: float,
        *,
        costly: bool,
    ) -> int:
        """As ``worth`` where no gain is expected: what might be one, if what is known were known better."""
        hoped = costs.hoped_for()
        if self._credit >= _MOST_CREDIT:
            # Nothing was tried for long: what was measured then may not be true any more.
            hoped = [1 + (cost - 1) / 2 for cost in hoped]
        most = len(yields) - 1
        # Of what costs nothing to guess it is known how often it is right.
        hoped_yields = _yields(max(acceptance, _HOPED_FOR), most) if costly else yields
        affordable = [count for count in range(1, most + 1) if spent[count] - yields[count] <= self._credit]
        if not affordable:
            return 0
        gains = {count: hoped_yields[count] / (hoped[count + 1] + count * guess) for count in affordable}
        best = max(gains, key=lambda count: gains[count])
        if gains[best] < _HOPE:
            return 0
        self._credit -= max(0.0, spent[best] - yields[best])
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


def _yields(acceptance: float, most: int) -> list[float]:
    """The tokens that come of an evaluation with 0, 1, ... ``most`` guessed ids."""
    yields, part = [1.0], 1.0
    for _ in range(most):
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
