"""A document's rows as they are written, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from chinese_alpaca_rag.library.database import STRETCH, storable
from chinese_alpaca_rag.library.index import index_passage
from chinese_alpaca_rag.library.records import ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.vectors import text_digest


def check_spans(path: str, document: ParsedDocument, spans: Sequence[PassageSpan]) -> None:
    """ValueError for a span that lies outside of its page."""
    lengths = {page.number: len(page.text) for page in document.pages}
    for span in spans:
        if span.page not in lengths or not 0 <= span.start < span.end <= lengths[span.page]:
            raise ValueError(f"no such place in {path!r}: {span}")


def insert_document(
    connection: sqlite3.Connection,
    document: ParsedDocument,
    spans: Sequence[PassageSpan],
    *,
    path: str,
    sha256: str,
    size: int,
    modified_ns: int,
    parser: str,
    stored_at: str,
) -> int:
    """A file with its pages, passages and terms; gives its id."""
    cursor = connection.execute(
        "INSERT INTO files (path, sha256, title, format, page_kind, encoding, missing, parser, size,"
        " modified_ns, ingested_at, pages, passages, confidence, hidden) VALUES (CAST(? AS TEXT), ?,"
        " CAST(? AS TEXT), ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT))",
        (
            storable(path), sha256, storable(document.title), document.format, document.page_kind,
            document.encoding, storable(document.missing), parser, size, modified_ns, stored_at,
            len(document.pages), len(spans), document.confidence, storable(document.hidden),
        ),
    )  # fmt: skip
    file_id = int(cursor.lastrowid or 0)
    page_ids = _insert_pages(connection, file_id, document)
    texts = {page.number: page.text for page in document.pages}
    for position, span in enumerate(spans):
        text = texts[span.page][span.start : span.end]
        cursor = connection.execute(
            'INSERT INTO passages (file_id, page_id, position, start, "end", heading, digest)'
            " VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?)",
            (file_id, page_ids[span.page], position, span.start, span.end, storable(span.heading), text_digest(text)),
        )
        index_passage(connection, int(cursor.lastrowid or 0), document.title, span.heading, text)
    return file_id


def insert_tags(connection: sqlite3.Connection, file_id: int, tags: Sequence[str]) -> None:
    """Tags of a file; those that it has already stay as they are."""
    rows = [(file_id, storable(tag)) for tag in tags]
    connection.executemany("INSERT OR IGNORE INTO tags (file_id, tag) VALUES (?, CAST(? AS TEXT))", rows)


def _insert_pages(connection: sqlite3.Connection, file_id: int, document: ParsedDocument) -> dict[int, int]:
    page_ids: dict[int, int] = {}
    for page in document.pages:
        cursor = connection.execute(
            "INSERT INTO pages (file_id, number, label) VALUES (?, ?, CAST(? AS TEXT))",
            (file_id, page.number, storable(page.label)),
        )
        page_ids[page.number] = int(cursor.lastrowid or 0)
        connection.executemany(
            "INSERT INTO stretches (page_id, start, text) VALUES (?, ?, CAST(? AS TEXT))",
            [
                (cursor.lastrowid, start, storable(page.text[start : start + STRETCH]))
                for start in range(0, len(page.text), STRETCH)
            ],
        )
    return page_ids
