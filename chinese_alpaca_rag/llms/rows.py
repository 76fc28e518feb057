"""Several prompts side by side over one shared beginning."""

from __future__ import annotations

from collections.abc import Sequence

from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.cancellation import Cancellation


def shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all of ``rows`` begin with, at least one of each left out."""
    limit = min(map(len, rows)) - 1
    first = rows[0]
    for position in range(limit):
        if any(row[position] != first[position] for row in rows[1:]):
            return position
    return limit


def prefill_rows(backend: Backend, rows: Sequence[Sequence[int]], cancelled: Cancellation) -> int | None:
    """Evaluate ``rows`` so that the logits after each stand ready; what they share is evaluated once.

    The number of tokens that were held already, of those that all share; ``None`` when it was called off.
    """
    shared = shared_beginning(rows)
    beginning = list(rows[0][: shared + 1])
    kept = position = backend.keep(beginning)
    while position < shared:
        if cancelled.is_set():
            return None
        backend.evaluate(beginning[position : min(position + backend.batch, shared)])
        position += backend.batch
    backend.fork(len(rows))
    # Every row ends in the last step, so that all logits come from it: short rows begin later.
    share = max(1, backend.batch // len(rows))
    steps = max(-(-(len(row) - shared) // share) for row in rows)
    for step in range(steps, 0, -1):
        if cancelled.is_set():
            return None
        backend.extend([row[max(shared, len(row) - step * share) : len(row) - (step - 1) * share] for row in rows])
    return kept
