"""Finding the passages that a question is about."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.retrieval.faiss_store import FaissStore
    from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever

__all__ = ["FaissStore", "LibraryRetriever"]

_WHERE = {"FaissStore": "faiss_store", "LibraryRetriever": "lexical"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
