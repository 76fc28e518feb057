"""What a backend is: it holds one sequence of ids with its keys and values, and gives the next logits.

A backend knows nothing of messages, sampling, stop texts or threads: that is all said once, above it,
for every backend. Its methods are never called from two threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


class Backend(Protocol):
    """One context of one loaded model."""

    @property
    def batch(self) -> int:
        """The most ids, in tokens, that one ``evaluate`` takes: between two of them work can be called off."""

    def keep(self, ids: Sequence[int]) -> int:
        """Drop what is held beyond its longest common prefix with ``ids``; the number of tokens still held.

        At least the last of ``ids`` is never kept, because its logits have to be computed.
        """

    def evaluate(self, ids: Sequence[int]) -> None:
        """Append ``ids``, at least one and at most ``batch``, to what is held. Raises ``ModelError``."""

    def logits(self) -> Logits:
        """The logits after the last id held, one for each id of the vocabulary; valid until the next call."""

    def close(self) -> None:
        """Free weights and context; a second call does nothing."""


def common_prefix(held: Sequence[int] | npt.NDArray[np.int32], ids: Sequence[int]) -> int:
    """How many tokens ``held`` and ``ids`` share from the start, the last of ``ids`` left out."""
    length = min(len(held), len(ids) - 1)
    if length <= 0:
        return 0
    differs = np.asarray(held[:length]) != np.asarray(ids[:length])
    return int(differs.argmax()) if differs.any() else length


def next_logits(backend: Backend, ids: Sequence[int]) -> Logits:
    """The logits after ``ids``, whatever the backend held before; a copy."""
    position = backend.keep(ids)
    while position < len(ids):
        backend.evaluate(ids[position : position + backend.batch])
        position += backend.batch
    return backend.logits().copy()
