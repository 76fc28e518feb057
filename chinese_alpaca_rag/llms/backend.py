"""What a backend is: it holds sequences of ids with their keys and values, and gives the next logits.

A backend knows nothing of messages, sampling, stop texts or threads: that is all said once, above it,
for every backend. Its methods are never called from two threads at once.

Most of the time one sequence grows. Earlier ones stay beside it, the least recently used until room runs out,
and ``keep`` goes on from whichever begins most alike. ``fork`` makes several rows of the sequence, which then
grow side by side in the same evaluations: for several prompts with one beginning, for beams, for guidance.
``keep`` ends that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped

Logits = npt.NDArray[np.float32]


class Backend(Protocol):
    """One context of one loaded model."""

    @property
    def batch(self) -> int:
        """The most ids, in tokens, that one ``evaluate`` takes: between two of them work can be called off."""

    @property
    def max_rows(self) -> int:
        """The most rows that ``fork`` makes."""

    @property
    def capacity(self) -> int | None:
        """The tokens that all rows can hold together; ``None`` is no known number."""

    @property
    def shares_cells(self) -> bool:
        """Whether what rows have in common is held, and counts, once for all of them."""

    @property
    def vocabulary(self) -> int:
        """The length of a row of logits."""

    def watch(self, cancelled: Cancellation) -> None:
        """From now on evaluations end with ``EvaluationStopped`` soon after ``cancelled`` is set, where they can."""

    @property
    def evaluated(self) -> int:
        """How many ids were ever evaluated, in tokens: counted where it is done."""

    def keep(self, ids: Sequence[int]) -> int:
        """Go on from the sequence with the longest common prefix with ``ids``; the number of tokens of it held.

        At least the last of ``ids`` is never kept, because its logits have to be computed. What a sequence held
        beyond the prefix stays for later where that costs nothing but room. Rows go: of them, what was held
        before the fork counts.
        """

    def turn_to(self, ids: Sequence[int]) -> int:
        """As ``keep``, letting go of nothing: for ``snapshot``. The length of the common prefix, in tokens."""

    def drop(self, position: int) -> None:
        """Let go of what the growing sequence holds from ``position`` on."""

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        """Append ``ids``, at least one and at most ``batch``, to the growing sequence.

        Logits are computed for the last ``outputs`` of them, at most ``max_outputs``. Room that is missing is
        taken from the other sequences, the least recently used first. Raises ``ModelError``.
        """

    @property
    def max_outputs(self) -> int:
        """The most ids of one ``evaluate`` whose logits are computed."""

    def logits(self, back: int = 0) -> Logits:
        """The logits after the last id evaluated but ``back``, one for each id of the vocabulary.

        Valid until the next call that evaluates; ``back`` is below the last call's ``outputs``.
        """

    @property
    def state_format(self) -> str:
        """What snapshots are in: the library that made them with its version, the type of keys, the kind of device."""

    def snapshot(self, start: int, end: int) -> bytes | bytearray | memoryview:
        """The keys and values of the growing sequence's ids from ``start`` to ``end`` (exclusive), for ``restore``.

        A backend of another context, process or day takes them, if it was opened with the same weights in the same
        way: who keeps them sees to that. They are no proof against damage.
        """

    def restore(self, ids: Sequence[int], state: memoryview) -> bool:
        """Append ``ids`` with the keys and values of a snapshot that was taken of them, behind the same prefix.

        False, with nothing changed, for a state that does not fit. No logits are there after it.
        """

    def fork(self, rows: int) -> None:
        """Make ``rows`` copies of the one sequence that is held."""

    def extend(self, rows: Sequence[Sequence[int]]) -> None:
        """Append to each row its ids, none to some if need be. Raises ``ModelError``.

        All of them together are evaluated at once: the caller keeps them near ``batch``.
        """

    def row_logits(self, row: int) -> Logits:
        """As ``logits``, for a row that got ids in the last ``extend``."""

    def reorder(self, order: Sequence[int]) -> None:
        """Row ``i`` becomes what row ``order[i]`` was; those that are not named go."""

    def forget(self) -> None:
        """Drop all that is held: after an interruption, of which nobody knows how far it let things go."""

    def close(self) -> None:
        """Free weights and context; a second call does nothing."""


@contextmanager
def forgetting(backend: Backend) -> Iterator[None]:
    """Whatever breaks in, Ctrl-C between two lines too, leaves no half of an evaluation behind."""
    try:
        yield
    except EvaluationStopped:
        raise
    except BaseException:
        backend.forget()
        raise


def common_prefix(held: Sequence[int] | npt.NDArray[np.int32], ids: Sequence[int]) -> int:
    """How many tokens ``held`` and ``ids`` share from the start, the last of ``ids`` left out."""
    length = min(len(held), len(ids) - 1)
    if length <= 0:
        return 0
    differs = np.asarray(held[:length]) != np.asarray(ids[:length])
    return int(differs.argmax()) if differs.any() else length
