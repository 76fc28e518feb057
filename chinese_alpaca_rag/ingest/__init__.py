"""Files to text to passages: decoding, parsing in a child process, splitting, and the pipeline into a library.

::

    documents = load_documents("报告.pdf")           # LangChain Documents, each with its exact place
    documents = DocumentFileLoader("报告.pdf").load()
    parts = ChineseTextSplitter(chunk_size=400).split_documents(other_documents)
    outcomes = ingest_paths([Path("资料")], library)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.ingest.cleaning import cleaned
    from chinese_alpaca_rag.ingest.documents import DocumentFileLoader, load_documents
    from chinese_alpaca_rag.ingest.pipeline import FileOutcome, ingest_paths
    from chinese_alpaca_rag.ingest.reading import read_document
    from chinese_alpaca_rag.ingest.text_splitter import ChineseTextSplitter

_HOMES = {
    "cleaning": ("cleaned",),
    "documents": ("DocumentFileLoader", "load_documents"),
    "pipeline": ("FileOutcome", "ingest_paths"),
    "reading": ("read_document",),
    "text_splitter": ("ChineseTextSplitter",),
}

__all__ = [
    "ChineseTextSplitter",
    "DocumentFileLoader",
    "FileOutcome",
    "cleaned",
    "ingest_paths",
    "load_documents",
    "read_document",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
