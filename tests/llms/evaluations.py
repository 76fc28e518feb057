"""Counting what a model really evaluates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chinese_alpaca_rag.llms.local_chat import LocalChat


class Evaluations:
    """Sits between a model and its backend; ``batches`` are the numbers of ids of every evaluation."""

    def __init__(self, model: LocalChat) -> None:
        self.batches: list[int] = []
        self.before: Callable[[], None] = lambda: None
        backend = model._opened()
        evaluate = backend.evaluate

        def counted(ids: Sequence[int]) -> None:
            self.before()
            self.batches.append(len(ids))
            evaluate(ids)

        vars(backend)["evaluate"] = counted

    @property
    def tokens(self) -> int:
        return sum(self.batches)
