"""Keys and values of a part of a sequence, out of a llama.cpp context as bytes and into one again.

llama.cpp writes the state of a whole sequence only. A part of one becomes a sequence of its own for that time:
cells belong to any number of sequences, and none is copied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.state_buffers import StateBuffers

_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)
# llama_kv_cache::state_write: magic, sequence, number of streams, number of cells; then each cell's position,
# number of sequences and sequence; then all keys and all values, cell by cell.
_HEADER: Final = np.dtype([("magic", "<u4"), ("sequence", "<i4"), ("streams", "<u4"), ("cells", "<u4")])
_CELL: Final = np.dtype([("position", "<i4"), ("sequences", "<u4"), ("sequence", "<i4")])
_KIND: Final = 20


class SequenceStates:
    """The states of ``context``'s sequences; ``scratch`` is a sequence that nobody else uses."""

    def __init__(self, lib: Any, context: Any, scratch: int) -> None:
        self._lib = lib
        self._context = context
        self._memory = lib.llama_get_memory(context)
        self._scratch = scratch
        self._buffers = StateBuffers()

    def taken(self, sequence: int, start: int, end: int) -> memoryview:
        """The keys and values of the positions ``start`` to ``end`` (exclusive) of ``sequence``.

        Raises ``ModelError``.
        """
        self._lib.llama_memory_seq_cp(self._memory, sequence, self._scratch, start, end)
        try:
            size = self._lib.llama_state_seq_get_size(self._context, self._scratch)
            state = self._buffers.take(size)
            written = self._lib.llama_state_seq_get_data(self._context, _pointer(state), size, self._scratch)
        finally:
            self._clear()
        if written != size:
            raise ModelError(
                Words(
                    zh=f"llama.cpp 只写出了 {size} 字节状态中的 {written} 字节。",
                    en=f"llama.cpp wrote {written} bytes of a state of {size}.",
                ),
                hint=Words(zh="请用更小的窗口重试。", en="Try a smaller window."),
            )
        return state

    def put(self, state: memoryview, sequence: int, start: int, end: int, make_room: Callable[[], bool]) -> bool:
        """Append to ``sequence``, which holds ``start`` tokens, a state of the positions up to ``end``.

        False where it is of anything else. ``make_room`` frees cells where they are missing, and is false when
        there is nothing left to free.
        """
        if not _is_of(state, start, end):
            return False
        while True:
            read = self._lib.llama_state_seq_set_data(self._context, _pointer(state), len(state), self._scratch)
            if read == len(state):
                self._lib.llama_memory_seq_cp(self._memory, self._scratch, sequence, -1, -1)
            # What was read in part, or with something behind it, goes again.
            self._clear()
            if read:
                return bool(read == len(state))
            if not self._is_like_own(state, end - start) or not make_room():
                return False

    def _is_like_own(self, state: memoryview, cells: int) -> bool:
        """Whether a state of so many cells is what this context writes, as far as its sizes and first types tell."""
        for sequence in range(self._scratch):
            if self._lib.llama_memory_seq_pos_max(self._memory, sequence) >= 1:
                one, two = self.taken(sequence, 0, 1), self.taken(sequence, 0, 2)
                size = len(one) + (cells - 1) * (len(two) - len(one))
                return len(state) == size and _kind(state, cells) == _kind(one, 1)
        return False

    def _clear(self) -> None:
        self._lib.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)


def _is_of(state: memoryview, start: int, end: int) -> bool:
    """Whether the state says that it is of one sequence's positions ``start`` to ``end``, each once, in any order."""
    if state.nbytes < _HEADER.itemsize + (end - start) * _CELL.itemsize:
        return False
    header = np.frombuffer(state, _HEADER, count=1)[0]
    if header["streams"] != 1 or header["cells"] != end - start:
        return False
    cells = np.frombuffer(state, _CELL, count=end - start, offset=_HEADER.itemsize)
    positions = np.sort(cells["position"])
    return bool((cells["sequences"] == 1).all() and np.array_equal(positions, np.arange(start, end)))


def _kind(state: memoryview, cells: int) -> bytes:
    """The magic, and what stands behind the cells: how values lie, the number of layers, the first keys' type."""
    start = _HEADER.itemsize + cells * _CELL.itemsize
    return bytes(state[:4]) + bytes(state[start : start + _KIND])


def _pointer(state: memoryview) -> Any:
    array: npt.NDArray[np.uint8] = np.frombuffer(state, np.uint8)
    return array.ctypes.data_as(_BYTES)
