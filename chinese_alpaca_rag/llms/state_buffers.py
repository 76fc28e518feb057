"""Memory for snapshots, used again: to a system, memory that was never written costs more than copying into it."""

from __future__ import annotations

import weakref
from typing import Final

import numpy as np
import numpy.typing as npt

#: What stays for the next snapshots, in bytes; those of large models take so long to compute that it does not matter.
_KEPT: Final = 64 << 20
_MOST: Final = 4


class StateBuffers:
    """Gives memory, and takes it back when nobody looks at it any more, in whichever thread that is."""

    def __init__(self) -> None:
        self._spare: list[npt.NDArray[np.uint8]] = []

    def take(self, size: int) -> memoryview:
        """``size`` bytes to write to, with anything in them."""
        # Popped one by one: other threads give back meanwhile.
        buffer, too_small = np.empty(0, dtype=np.uint8), []
        while self._spare and len(buffer) < size:
            buffer = self._spare.pop()
            if len(buffer) < size:
                too_small.append(buffer)
        if len(buffer) < size:
            buffer = np.empty(size, dtype=np.uint8)
        for other in too_small:
            self._give_back(other)
        # The view, and whatever is sliced from it, keeps this array and not only the buffer below it.
        array = buffer[:size]
        weakref.finalize(array, self._give_back, buffer).atexit = False
        return array.data

    def _give_back(self, buffer: npt.NDArray[np.uint8]) -> None:
        spare = sorted([*self._spare, buffer], key=len)[-_MOST:]
        while sum(map(len, spare)) > _KEPT:
            del spare[0]
        self._spare = spare
