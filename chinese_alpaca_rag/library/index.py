"""The full-text index as it is written: one row of terms a passage, without the text itself."""

from __future__ import annotations

import sqlite3
import unicodedata

from chinese_alpaca_rag.library.records import Passage
from chinese_alpaca_rag.library.terms import index_terms


def index_passage(connection: sqlite3.Connection, passage_id: int, title: str, heading: str, text: str) -> None:
    """Put a passage's terms into the index."""
    connection.execute(
        "INSERT INTO passage_terms (rowid, title, heading, body) VALUES (?, ?, ?, ?)",
        (passage_id, _joined_terms(title), _joined_terms(heading), _joined_terms(text)),
    )


def unindex_passage(connection: sqlite3.Connection, passage: Passage) -> None:
    """Take a passage out of the index, which holds no content: FTS5 must be told the terms again."""
    connection.execute(
        "INSERT INTO passage_terms (passage_terms, rowid, title, heading, body) VALUES ('delete', ?, ?, ?, ?)",
        (passage.id, _joined_terms(passage.title), _joined_terms(passage.heading), _joined_terms(passage.text)),
    )


def clear_index(connection: sqlite3.Connection) -> None:
    """Empty the index, and note with which version of Unicode its next terms are made."""
    connection.execute("INSERT INTO passage_terms (passage_terms) VALUES ('delete-all')")
    connection.execute("REPLACE INTO about VALUES ('unicode', ?)", (unicodedata.unidata_version,))


def terms_are_current(connection: sqlite3.Connection) -> bool:
    """Whether this version of Unicode made the terms: ``unindex_passage`` needs the same ones."""
    made_with = connection.execute("SELECT value FROM about WHERE name = 'unicode'").fetchone()
    return bool(made_with == (unicodedata.unidata_version,))


def _joined_terms(text: str) -> str:
    return " ".join(index_terms(text))
