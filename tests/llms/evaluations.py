"""Counting what a model really evaluates, and evaluating without a model object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chinese_alpaca_rag.llms.backend import Backend, Logits
from chinese_alpaca_rag.llms.local_chat import LocalChat


class Evaluations:
    """Sits between a model and its backend; ``batches`` are the numbers of ids of every evaluation."""

    def __init__(self, model: LocalChat) -> None:
        self.batches: list[int] = []
        self.before: Callable[[], None] = lambda: None
        backend = model._opened()
        evaluate = backend.evaluate

        def counted(ids: Sequence[int], outputs: int = 1) -> None:
            self.before()
            self.batches.append(len(ids))
            evaluate(ids, outputs)

        vars(backend)["evaluate"] = counted

    @property
    def tokens(self) -> int:
        return sum(self.batches)


def next_logits(backend: Backend, ids: Sequence[int]) -> Logits:
    """The logits after ``ids``, whatever the backend held before; a copy."""
    position = backend.keep(ids)
    while position < len(ids):
        backend.evaluate(ids[position : position + backend.batch])
        position += backend.batch
    return backend.logits().copy()
