"""The knowledge base: files, pages, passages and their full-text index, in one SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.library.store import Library

__all__ = ["Library"]


def __getattr__(name: str) -> Any:
    if name == "Library":
        from chinese_alpaca_rag.library.store import Library

        return Library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
