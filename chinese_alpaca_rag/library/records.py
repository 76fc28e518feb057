"""What a library holds, as plain frozen records.

A *page* is the unit of text that offsets count in: a PDF page, a slide, a sheet; formats without
pages (text, Markdown, HTML, Word) have one page, number 1. Offsets are Python string indices
(Unicode code points), zero-based, end exclusive: ``passage.text == page.text[passage.start:passage.end]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PageKind = Literal["page", "slide", "sheet", "whole"]


@dataclass(frozen=True)
class Page:
    """One page of cleaned text. ``number`` counts from 1; ``label`` is a sheet's or slide's own name."""

    number: int
    text: str
    label: str = ""


@dataclass(frozen=True)
class PassageSpan:
    """Where a passage lies, before it has an id: ``page`` number, ``start`` and ``end`` in its text.

    ``heading`` is the path of headings above it, joined by `` › ``, empty where there is none.
    """

    page: int
    start: int
    end: int
    heading: str = ""


@dataclass(frozen=True)
class ParsedDocument:
    """One file, read: its pages and what is known of it.

    ``title`` is the document's own or else the file's name without its suffix. ``encoding`` is empty
    for formats that carry their own; ``confidence`` is how sure it is, between 0 and 1. ``missing`` says, for a file
    read only in part, what is not here; ``hidden`` what was left out because no reader sees it. ``pictures`` are the
    numbers of pages that show something and hold no text, where they are still to be read.
    """

    format: str
    title: str
    pages: tuple[Page, ...]
    page_kind: PageKind = "whole"
    encoding: str = ""
    missing: str = ""
    confidence: float = 1.0
    hidden: str = ""
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True)
class FileRecord:
    """One file of the library. ``path`` is absolute; ``size`` in bytes; ``ingested_at`` is ISO 8601 UTC.

    ``tags`` are in order; ``copies`` are other paths with the same bytes; ``confidence`` and ``hidden`` are as in
    :class:`ParsedDocument`.
    """

    id: int
    path: str
    sha256: str
    status: Literal["complete", "partial"]
    title: str
    format: str
    page_kind: PageKind
    encoding: str
    missing: str
    parser: str
    size: int
    modified_ns: int
    ingested_at: str
    pages: int
    passages: int
    confidence: float = 1.0
    hidden: str = ""
    tags: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class CopyRecord:
    """A path with the same bytes as ``file``, whose text is stored once. ``noted_at`` is ISO 8601 UTC."""

    path: str
    file: FileRecord
    size: int
    modified_ns: int
    noted_at: str


@dataclass(frozen=True)
class Passage:
    """A passage with its place. ``position`` counts from 0 within the file, in reading order.

    ``library`` is the absolute folder of its library and ``sha256`` the digest of its file's bytes; both are empty
    outside of a library.
    """

    id: int
    file_id: int
    source: str
    title: str
    page_kind: PageKind
    page: int
    page_label: str
    position: int
    start: int
    end: int
    heading: str
    text: str
    library: str = ""
    sha256: str = ""
