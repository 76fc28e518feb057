"""Which questions are asked over one prompt: those for which much the same was found.

Read together, what several questions have in common is evaluated once; but each of them then stands behind what was
found for the others as well. A question joins where it saves more than that costs, by the figures of ``sticky``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chinese_alpaca_rag.chains.sources import Excerpt, size_of
from chinese_alpaca_rag.chains.sticky import EXTRA_COST, MOST_EXTRA

#: Whether the prompts of these questions (by their places), each over all of these passages, fit the window.
Fits = Callable[[Sequence[int], Sequence[Excerpt]], bool]

# Questions that are tried for a group after the best one did not fit.
_ATTEMPTS = 4


def group_questions(found: Sequence[Sequence[Excerpt]], most: int, fits: Fits) -> list[list[int]]:
    """The questions' places in groups of at most ``most``, in the order in which they had better be asked.

    ``found`` are the passages that each question needs; one that has to be asked alone needs none. A group is followed
    by the question that has most in common with it: its prompt can begin as the last one did.
    """
    waiting = list(range(len(found)))
    groups: list[list[int]] = []
    group: _Group | None = None
    while waiting:
        last = group
        first = waiting[0] if last is None else max(waiting, key=last.common)
        waiting.remove(first)
        group = _Group(found, first)
        while len(group.members) < most and (joining := _next(group, waiting, fits)) is not None:
            group.add(joining)
            waiting.remove(joining)
        groups.append(group.members)
    return groups


class _Group:
    """Questions and all that was found for them; sizes are in bytes."""

    def __init__(self, found: Sequence[Sequence[Excerpt]], first: int) -> None:
        self._found = found
        self.members: list[int] = []
        self.passages: dict[Excerpt, int] = {}
        self.add(first)

    def add(self, place: int) -> None:
        """Another question."""
        self.members.append(place)
        self.passages |= {excerpt: size_of(excerpt) for excerpt in self._found[place]}

    def common(self, place: int) -> int:
        """How much of what a question needs is here, in bytes."""
        return sum(self.passages.get(excerpt, 0) for excerpt in self._found[place])

    def passages_with(self, place: int) -> list[Excerpt]:
        """All that the prompt would hold if a question joined."""
        return list(dict.fromkeys([*self.passages, *self._found[place]]))

    def gain(self, place: int) -> float:
        """What is saved when a question joins, less what it costs; not above 0 where it had better not."""
        common = self.common(place)
        if not common:
            return 0.0
        own = {excerpt: size_of(excerpt) for excerpt in self._found[place]}
        whole = sum((self.passages | own).values())
        before = sum(self.passages.values())
        for member in (*self.members, place):
            needed = sum(size_of(excerpt) for excerpt in self._found[member])
            if whole - needed > MOST_EXTRA * needed:
                return 0.0
        extra = len(self.members) * (whole - before) + whole - sum(own.values())
        return common - EXTRA_COST * extra


def _next(group: _Group, waiting: Sequence[int], fits: Fits) -> int | None:
    """The question that gains most by joining the group; of equals the first."""
    gains = {place: group.gain(place) for place in waiting}
    best = sorted((place for place in waiting if gains[place] > 0), key=lambda place: -gains[place])
    for place in best[:_ATTEMPTS]:
        if fits([*group.members, place], group.passages_with(place)):
            return place
    return None
