"""Several prompts side by side over one shared beginning."""

from __future__ import annotations

from collections.abc import Sequence

from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.prefixes import Prefixes


def shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all of ``rows`` begin with, at least one of each left out."""
    limit = min(map(len, rows)) - 1
    first = rows[0]
    for position in range(limit):
        if any(row[position] != first[position] for row in rows[1:]):
            return position
    return limit


def prefill_rows(
    prefixes: Prefixes,
    backend: Backend,
    rows: Sequence[Sequence[int]],
    segments: Sequence[Segment],
    cancelled: Cancellation,
) -> int | None:
    """Evaluate ``rows`` so that the logits after each stand ready; what they share is evaluated once.

    ``segments`` are the first row's. The number of tokens that need not be evaluated, of those that all share;
    ``None`` when it was called off.
    """
    shared = shared_beginning(rows)
    kept = prefixes.prefill(backend, rows[0], segments, cancelled, end=shared)
    if kept is None:
        return None
    backend.fork(len(rows))
    # Every row ends in the last step, so that all logits come from it: short rows begin later.
    share = max(1, backend.batch // len(rows))
    steps = max(-(-(len(row) - shared) // share) for row in rows)
    for step in range(steps, 0, -1):
        if cancelled.is_set():
            return None
        backend.extend([row[max(shared, len(row) - step * share) : len(row) - (step - 1) * share] for row in rows])
    return kept
