"""Memory for snapshots, used again: to a system, memory that was never written costs more than copying into it."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

#: What stays for the next snapshots: so many buffers of so many bytes at most. Larger ones are of models that take
#: so long to compute them that it does not matter.
_MOST: Final = 3
_LARGEST: Final = 20 << 20


class StateBuffers:
    """Gives memory, and takes it back when nobody looks at it any more, in whichever thread that is."""

    def __init__(self) -> None:
        # Only single operations on it, between which another thread may do others.
        self._spare: deque[npt.NDArray[np.uint8]] = deque(maxlen=_MOST)

    def take(self, size: int) -> memoryview:
        """``size`` bytes to write to, with anything in them."""
        buffer = self._spare.popleft() if self._spare else np.empty(0, dtype=np.uint8)
        if len(buffer) < size:
            buffer = np.empty(size, dtype=np.uint8)
        # The view, and whatever is sliced from it, keeps this array and not only the buffer below it.
        array = buffer[:size]
        if len(buffer) <= _LARGEST:
            weakref.finalize(array, self._spare.append, buffer).atexit = False
        return array.data
