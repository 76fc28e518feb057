"""Finding the passages that a question is about."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.retrieval.arranging import (
        ArrangingRetriever,
        expanded,
        spread_over_files,
        without_near_duplicates,
    )
    from chinese_alpaca_rag.retrieval.chroma_cache import open_chroma_vectors
    from chinese_alpaca_rag.retrieval.dense import LibraryVectors
    from chinese_alpaca_rag.retrieval.embeddings import LocalEmbeddings
    from chinese_alpaca_rag.retrieval.faiss_store import FaissStore
    from chinese_alpaca_rag.retrieval.hybrid import HybridRetriever
    from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever
    from chinese_alpaca_rag.retrieval.library_vectors import open_library_vectors
    from chinese_alpaca_rag.retrieval.multi_query import MultiQueryRetriever, model_queries, parts_of
    from chinese_alpaca_rag.retrieval.postgres import open_postgres_vectors
    from chinese_alpaca_rag.retrieval.reranking import CrossEncoderReranker, Reranker, RerankingRetriever

__all__ = [
    "ArrangingRetriever",
    "CrossEncoderReranker",
    "FaissStore",
    "HybridRetriever",
    "LibraryRetriever",
    "LibraryVectors",
    "LocalEmbeddings",
    "MultiQueryRetriever",
    "Reranker",
    "RerankingRetriever",
    "expanded",
    "model_queries",
    "open_chroma_vectors",
    "open_library_vectors",
    "open_postgres_vectors",
    "parts_of",
    "spread_over_files",
    "without_near_duplicates",
]

_WHERE = {
    "ArrangingRetriever": "arranging",
    "CrossEncoderReranker": "reranking",
    "FaissStore": "faiss_store",
    "HybridRetriever": "hybrid",
    "LibraryRetriever": "lexical",
    "LibraryVectors": "dense",
    "LocalEmbeddings": "embeddings",
    "MultiQueryRetriever": "multi_query",
    "Reranker": "reranking",
    "RerankingRetriever": "reranking",
    "expanded": "arranging",
    "model_queries": "multi_query",
    "open_chroma_vectors": "chroma_cache",
    "open_library_vectors": "library_vectors",
    "open_postgres_vectors": "postgres",
    "parts_of": "multi_query",
    "spread_over_files": "arranging",
    "without_near_duplicates": "arranging",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
