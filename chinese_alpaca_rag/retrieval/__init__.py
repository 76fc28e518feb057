"""Finding the passages that a question is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever

__all__ = ["LibraryRetriever"]


def __getattr__(name: str) -> Any:
    if name == "LibraryRetriever":
        from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever

        return LibraryRetriever
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
