"""What a question puts in quotation marks is wanted to the letter, however passages are ranked."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.documents import Document

from chinese_alpaca_rag.library.terms import quotes_in
from chinese_alpaca_rag.words import plain


def quotes_first(documents: Sequence[Document], query: str) -> list[Document]:
    """``documents`` in their order, but those before others that hold more of what is quoted in ``query``."""
    quotes = quotes_in(query)
    if not quotes:
        return list(documents)
    return sorted(documents, key=lambda document: -sum(_holds(document, quote) for quote in quotes))


def _holds(document: Document, quote: str) -> bool:
    places = (document.page_content, document.metadata.get("heading", ""), document.metadata.get("title", ""))
    return any(quote in " ".join(plain(str(text)).split()) for text in places)
