"""Documents to put into a library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from chinese_alpaca_rag.library.records import FileRecord, Page, PageKind, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.store import Library


def parsed(*texts: str, title: str = "手册", page_kind: PageKind = "page", missing: str = "") -> ParsedDocument:
    """A document of one page a text."""
    pages = tuple(Page(number, text, label=f"p{number}") for number, text in enumerate(texts, start=1))
    return ParsedDocument(format="txt", title=title, pages=pages, page_kind=page_kind, missing=missing)


def whole_pages(document: ParsedDocument, heading: str = "") -> list[PassageSpan]:
    """One passage a page that has text."""
    return [PassageSpan(page.number, 0, len(page.text), heading) for page in document.pages if page.text]


def put(
    library: Library,
    path: str,
    *texts: str,
    title: str = "手册",
    heading: str = "",
    missing: str = "",
    spans: Sequence[PassageSpan] | None = None,
) -> FileRecord:
    """Store a file whose passages are its pages, or ``spans``."""
    document = parsed(*texts, title=title, missing=missing)
    return library.put_file(
        path=path,
        sha256=hashlib.sha256("\f".join(texts).encode("utf-8", "surrogatepass")).hexdigest(),
        size=sum(len(text.encode("utf-8", "surrogatepass")) for text in texts),
        modified_ns=1_700_000_000_000_000_001,
        parser="text/1",
        document=document,
        spans=whole_pages(document, heading) if spans is None else spans,
    )
