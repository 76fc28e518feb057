"""Finding the passages that a question is about."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.retrieval.faiss_store import FaissStore
    from chinese_alpaca_rag.retrieval.hybrid import HybridRetriever
    from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever
    from chinese_alpaca_rag.retrieval.library_vectors import open_library_vectors

__all__ = ["FaissStore", "HybridRetriever", "LibraryRetriever", "open_library_vectors"]

_WHERE = {
    "FaissStore": "faiss_store",
    "HybridRetriever": "hybrid",
    "LibraryRetriever": "lexical",
    "open_library_vectors": "library_vectors",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
