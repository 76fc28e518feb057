"""The sequences that a backend holds at once: their ids, which of them goes on, and which goes first.

Where their keys and values lie is the backend's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Store = TypeVar("Store")

#: The most sequences that stay, with the one that grows.
MOST: Final = 8
#: What is worth a sequence of its own, in tokens that no other has; less is as quickly evaluated again.
LEAST_OWN: Final = 32
#: The least that is worth taking over from a sequence that goes on otherwise, in tokens.
LEAST_BEGINNING: Final = 16


class LiveSequence(Generic[Store]):
    """Ids, and ``store``: where a backend has their keys and values."""

    def __init__(self, store: Store, ids: Ids | None = None) -> None:
        self.store = store
        self._ids = np.empty(0, dtype=np.int32) if ids is None else ids.copy()
        self._length = len(self._ids)

    def __len__(self) -> int:
        """The number of tokens held."""
        return self._length

    @property
    def ids(self) -> Ids:
        """The ids held; valid until the next change."""
        return self._ids[: self._length]

    def append(self, ids: Sequence[int] | Ids) -> None:
        """Hold ``ids`` as well."""
        end = self._length + len(ids)
        if end > len(self._ids):
            larger = np.empty(2 * end, dtype=np.int32)
            larger[: self._length] = self.ids
            self._ids = larger
        self._ids[self._length : end] = ids
        self._length = end

    def cut(self, length: int) -> None:
        """Hold the first ``length`` tokens only."""
        self._length = length


class LiveSequences(Generic[Store]):
    """The one that grows, ``current``, and those that stay beside it."""

    def __init__(self, first: Store, released: Callable[[Store], None] = lambda _: None) -> None:
        """``first`` is an empty store; ``released`` is told of each store that is not needed any more."""
        self._released = released
        # By their last use, the current one last.
        self._by_use = [LiveSequence(first)]

    @property
    def current(self) -> LiveSequence[Store]:
        """The sequence that grows."""
        return self._by_use[-1]

    @property
    def others(self) -> Sequence[LiveSequence[Store]]:
        """Those that stay, the least recently used first."""
        return self._by_use[:-1]

    def beginning_of(self, ids: Ids) -> tuple[LiveSequence[Store], int]:
        """The sequence to go on from for ``ids``, and how many tokens of it they begin with.

        That is the current one, with nothing of it, where ``ids`` begin like none of them.
        """
        sequence, kept = self.current, 0
        for candidate in reversed(self._by_use):
            alike = _alike(candidate.ids, ids)
            if alike > kept and alike >= min(len(candidate), LEAST_BEGINNING):
                sequence, kept = candidate, alike
            if kept == len(ids):
                break
        return sequence, kept

    def use(self, sequence: LiveSequence[Store]) -> None:
        """Go on with ``sequence``."""
        self._by_use.remove(sequence)
        self._by_use.append(sequence)

    def begin(self, store: Store, ids: Ids) -> None:
        """Go on with a new sequence of ``ids``, whose keys and values are in ``store`` already."""
        self._by_use.append(LiveSequence(store, ids))

    def settle(self, before: LiveSequence[Store]) -> None:
        """Let go of the one that was current ``before`` if it is not worth it, and of one where they are too many."""
        if before in self.others and self._own(before) < LEAST_OWN:
            self._drop(before)
        if len(self._by_use) > MOST:
            # The one that costs least to evaluate again.
            self._drop(min(self.others, key=self._own))

    def drop_oldest(self) -> bool:
        """Let go of the least recently used; false when there is none but the current one."""
        if len(self._by_use) == 1:
            return False
        self._drop(self._by_use[0])
        return True

    def clear(self, first: Store) -> None:
        """Hold nothing, without telling anybody; ``first`` is an empty store."""
        self._by_use = [LiveSequence(first)]

    def __iter__(self) -> Iterator[LiveSequence[Store]]:
        """All of them, the least recently used first."""
        return iter(self._by_use)

    def _drop(self, sequence: LiveSequence[Store]) -> None:
        self._by_use.remove(sequence)
        self._released(sequence.store)

    def _own(self, sequence: LiveSequence[Store]) -> int:
        """How many tokens of ``sequence`` no other one has."""
        shared = (_alike(sequence.ids, other.ids) for other in self._by_use if other is not sequence)
        return len(sequence) - max(shared, default=0)


def _alike(one: Ids, other: Ids) -> int:
    """How many tokens both begin with."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
