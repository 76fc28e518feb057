"""One ``llama_batch``, filled from arrays: what llama.cpp is to evaluate at once, for which sequences."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class TokenBatch:
    """Room for ``size`` tokens of the sequences below ``sequences``. ``structure`` goes to ``llama_decode``."""

    def __init__(self, lib: Any, size: int, sequences: int) -> None:
        self._tokens = np.empty(size, dtype=np.int32)
        self._positions = np.empty(size, dtype=np.int32)
        self._outputs = np.zeros(size, dtype=np.int8)
        # Each token belongs to a list of sequences: here always a list of one, all of which lie in one array.
        self._list_lengths = np.ones(size, dtype=np.int32)
        self._numbers = np.arange(sequences, dtype=np.int32)
        self._addresses = self._numbers.ctypes.data + self._numbers.itemsize * np.arange(sequences, dtype=np.uintp)
        self._lists = np.empty(size, dtype=np.uintp)
        integers = ctypes.POINTER(ctypes.c_int32)
        self.structure: Any = lib.llama_batch(
            token=self._tokens.ctypes.data_as(integers),
            pos=self._positions.ctypes.data_as(integers),
            n_seq_id=self._list_lengths.ctypes.data_as(integers),
            seq_id=self._lists.ctypes.data_as(ctypes.POINTER(integers)),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def __len__(self) -> int:
        """How many tokens it holds."""
        return int(self.structure.n_tokens)

    def clear(self) -> None:
        """Hold nothing."""
        self.structure.n_tokens = 0

    def add(self, ids: Sequence[int] | npt.NDArray[np.int32], position: int, sequence: int, outputs: int) -> None:
        """Append ``ids``, the first at ``position`` of ``sequence``; logits are wanted of the last ``outputs``.

        Raises ``ValueError`` where they do not fit: llama.cpp would end the process.
        """
        start = len(self)
        end = start + len(ids)
        if end > len(self._tokens):
            raise ValueError(f"{end} tokens in a batch of {len(self._tokens)}")
        self._tokens[start:end] = ids
        self._positions[start:end] = np.arange(position, position + len(ids))
        self._lists[start:end] = self._addresses[sequence]
        self._outputs[start:end] = 0
        self._outputs[end - outputs : end] = 1
        self.structure.n_tokens = end
