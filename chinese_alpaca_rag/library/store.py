"""The knowledge base: files, their text and their passages, in one SQLite file in a folder.

Every change is one transaction, so after a kill at any moment each file is there whole or not at all.
One process writes at a time; any number read meanwhile. A ``Library`` may be used from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library import database
from chinese_alpaca_rag.library.database import STRETCH, storable, transaction, translated
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.library.records import FileRecord, ParsedDocument, Passage, PassageSpan
from chinese_alpaca_rag.library.terms import TERMS_VERSION, index_terms, query_terms

_FILE_COLUMNS = (
    "id, path, sha256, title, format, page_kind, encoding, missing, parser, size, modified_ns, ingested_at, pages, passages"
)
_PASSAGE_SELECT = """
    SELECT passages.id, passages.file_id, files.path, files.title, files.page_kind, pages.number, pages.label,
           passages.position, passages.start, passages."end", passages.heading, passages.page_id
    FROM passages JOIN files ON files.id = passages.file_id JOIN pages ON pages.id = passages.page_id
"""


class Library:
    """An open library; use it as a context manager, or call ``close``."""

    def __init__(self, folder: Path, connection: Any, *, readonly: bool) -> None:
        self.folder = folder
        self.readonly = readonly
        self._connection = connection
        self._guard = threading.RLock()
        self._writer = WriterLock(folder)

    @classmethod
    def open(cls, folder: Path | str, *, create: bool = False, readonly: bool = False) -> Library:
        """Open the library in ``folder``.

        LibraryNotFoundError where there is none (unless ``create``), LibraryFormatError where something
        else stands there or another version made it. The right to write is taken at the first change.
        """
        place = Path(folder)
        return cls(place, database.open_database(place, create=create, readonly=readonly), readonly=readonly)

    def close(self) -> None:
        """Give back the files and the right to write. May be called more than once."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._writer.release()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    def files(self) -> list[FileRecord]:
        """Every file, by path."""
        return self._files("ORDER BY path")

    def file(self, path: str) -> FileRecord | None:
        """The file of that path, exactly as it was stored."""
        found = self._files("WHERE path = CAST(? AS TEXT)", storable(path))
        return found[0] if found else None

    def files_with_content(self, sha256: str) -> list[FileRecord]:
        """Every file whose bytes have this digest, by path."""
        return self._files("WHERE sha256 = ? ORDER BY path", sha256)

    def page_text(self, path: str, page: int) -> str:
        """The stored text of page ``page`` (from 1); KeyError where the library holds no such page."""
        rows = self._rows(
            "SELECT pages.id FROM pages JOIN files ON files.id = pages.file_id"
            " WHERE files.path = CAST(? AS TEXT) AND pages.number = ?",
            storable(path),
            page,
        )
        if not rows:
            raise KeyError(f"no page {page} of {path!r}")
        return "".join(
            text for (text,) in self._rows("SELECT text FROM stretches WHERE page_id = ? ORDER BY start", rows[0][0])
        )

    def passages(self, path: str) -> list[Passage]:
        """The passages of one file, in reading order; none for a path that is not here."""
        where = "WHERE files.path = CAST(? AS TEXT) ORDER BY passages.position"
        with self._guard:
            return self._passages(self._rows(_PASSAGE_SELECT + where, storable(path)))

    def passage_count(self) -> int:
        """How many passages the library holds."""
        return int(self._rows("SELECT count(*) FROM passages")[0][0])

    def search(self, query: str, *, limit: int = 20, paths: Sequence[str] | None = None) -> list[tuple[Passage, float]]:
        """The passages that share terms with ``query``, best first, each with its BM25 score (higher is better).

        ``paths`` keeps to these files. Nothing is found for a query without terms.
        """
        terms = query_terms(query)
        if not terms or limit < 1:
            return []
        matched = " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
        sql = "SELECT rowid, -bm25(passage_terms, 2.0, 2.0, 1.0) AS score FROM passage_terms WHERE passage_terms MATCH ?"
        parameters: list[Any] = [matched]
        if paths is not None:
            marks = ", ".join("CAST(? AS TEXT)" for _ in paths)
            sql += (
                " AND rowid IN (SELECT passages.id FROM passages JOIN files ON files.id = passages.file_id"
                f" WHERE files.path IN ({marks}))"
            )
            parameters += map(storable, paths)
        with self._guard:
            scores = dict(self._rows(sql + " ORDER BY score DESC, rowid LIMIT ?", *parameters, limit))
            marks = ", ".join("?" * len(scores))
            found = self._passages(self._rows(f"{_PASSAGE_SELECT} WHERE passages.id IN ({marks})", *scores))
        ranked = sorted(found, key=lambda passage: (-scores[passage.id], passage.source, passage.page, passage.start))
        return [(passage, float(scores[passage.id])) for passage in ranked]

    # Writing

    def put_file(
        self,
        *,
        path: str,
        sha256: str,
        size: int,
        modified_ns: int,
        parser: str,
        document: ParsedDocument,
        spans: Sequence[PassageSpan],
    ) -> FileRecord:
        """Store a file with its pages and passages, in place of what stood at ``path``; one transaction.

        ValueError for a span outside its page.
        """
        texts = {page.number: page.text for page in document.pages}
        for span in spans:
            if span.page not in texts or not 0 <= span.start < span.end <= len(texts[span.page]):
                raise ValueError(f"no such place in {path!r}: {span}")
        stored_at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._change():
            self._drop(path)
            cursor = self._connection.execute(
                "INSERT INTO files (path, sha256, title, format, page_kind, encoding, missing, parser, size,"
                " modified_ns, ingested_at, pages, passages) VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT), ?, ?, ?,"
                " CAST(? AS TEXT), ?, ?, ?, ?, ?, ?)",
                (
                    storable(path), sha256, storable(document.title), document.format, document.page_kind,
                    document.encoding, storable(document.missing), parser, size, modified_ns, stored_at,
                    len(document.pages), len(spans),
                ),
            )  # fmt: skip
            file_id = int(cursor.lastrowid)
            page_ids = self._insert_pages(file_id, document)
            self._insert_passages(file_id, document.title, page_ids, texts, spans)
        record = self.file(path)
        assert record is not None  # noqa: S101
        return record

    def move_file(self, old_path: str, new_path: str, *, modified_ns: int) -> None:
        """The file now stands elsewhere with the same content; what stood at ``new_path`` goes. KeyError if unknown."""
        with self._change():
            if old_path != new_path:
                self._drop(new_path)
            changed = self._connection.execute(
                "UPDATE files SET path = CAST(? AS TEXT), modified_ns = ? WHERE path = CAST(? AS TEXT)",
                (storable(new_path), modified_ns, storable(old_path)),
            ).rowcount
            if not changed:
                raise KeyError(old_path)

    def touch_file(self, path: str, *, modified_ns: int) -> None:
        """The file's time changed and its content did not. KeyError if unknown."""
        with self._change():
            changed = self._connection.execute(
                "UPDATE files SET modified_ns = ? WHERE path = CAST(? AS TEXT)", (modified_ns, storable(path))
            ).rowcount
            if not changed:
                raise KeyError(path)

    def remove_file(self, path: str) -> None:
        """Take a file out, with everything of it. KeyError if unknown."""
        with self._change():
            if not self._drop(path):
                raise KeyError(path)

    # Inside

    @contextmanager
    def _change(self) -> Iterator[None]:
        if self.readonly:
            raise LibraryError(
                Words(zh=f"知识库 {self.folder} 以只读方式打开。", en=f"The library {self.folder} is open for reading only."),
                hint=Words(zh="以可写方式打开后再试。", en="Open it for writing and try again."),
            )
        with self._guard:
            self._writer.acquire()
            with translated(self.folder), transaction(self._connection):
                yield

    def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._guard, translated(self.folder):
            return self._connection.execute(sql, parameters).fetchall()  # type: ignore[no-any-return]

    def _files(self, clause: str, *parameters: Any) -> list[FileRecord]:
        rows = self._rows(f"SELECT {_FILE_COLUMNS} FROM files {clause}", *parameters)
        return [
            FileRecord(
                id=row[0], path=row[1], sha256=row[2], status="partial" if row[7] else "complete", title=row[3],
                format=row[4], page_kind=row[5], encoding=row[6], missing=row[7], parser=row[8], size=row[9],
                modified_ns=row[10], ingested_at=row[11], pages=row[12], passages=row[13],
            )
            for row in rows
        ]  # fmt: skip

    def _passages(self, rows: list[tuple[Any, ...]]) -> list[Passage]:
        return [Passage(*row[:11], text=self._text_at(row[11], row[8], row[9])) for row in rows]

    def _text_at(self, page_id: int, start: int, end: int) -> str:
        first = start - start % STRETCH
        rows = self._rows(
            "SELECT text FROM stretches WHERE page_id = ? AND start >= ? AND start < ? ORDER BY start",
            page_id, first, end,
        )  # fmt: skip
        return "".join(text for (text,) in rows)[start - first : end - first]

    def _insert_pages(self, file_id: int, document: ParsedDocument) -> dict[int, int]:
        page_ids: dict[int, int] = {}
        for page in document.pages:
            cursor = self._connection.execute(
                "INSERT INTO pages (file_id, number, label) VALUES (?, ?, CAST(? AS TEXT))",
                (file_id, page.number, storable(page.label)),
            )
            page_ids[page.number] = int(cursor.lastrowid)
            self._connection.executemany(
                "INSERT INTO stretches (page_id, start, text) VALUES (?, ?, CAST(? AS TEXT))",
                [
                    (cursor.lastrowid, start, storable(page.text[start : start + STRETCH]))
                    for start in range(0, len(page.text), STRETCH)
                ],
            )
        return page_ids

    def _insert_passages(
        self, file_id: int, title: str, page_ids: dict[int, int], texts: dict[int, str], spans: Sequence[PassageSpan]
    ) -> None:
        for position, span in enumerate(spans):
            cursor = self._connection.execute(
                'INSERT INTO passages (file_id, page_id, position, start, "end", heading)'
                " VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT))",
                (file_id, page_ids[span.page], position, span.start, span.end, storable(span.heading)),
            )
            self._connection.execute(
                "INSERT INTO passage_terms (rowid, title, heading, body) VALUES (?, ?, ?, ?)",
                (cursor.lastrowid, *_columns(title, span.heading, texts[span.page][span.start : span.end])),
            )

    def _drop(self, path: str) -> bool:
        """Delete a file inside the caller's transaction; False where there is none."""
        for passage in self.passages(path):
            self._connection.execute(
                "INSERT INTO passage_terms (passage_terms, rowid, title, heading, body) VALUES ('delete', ?, ?, ?, ?)",
                (passage.id, *_columns(passage.title, passage.heading, passage.text)),
            )
        deleted = self._connection.execute("DELETE FROM files WHERE path = CAST(? AS TEXT)", (storable(path),))
        return bool(deleted.rowcount)


def _columns(title: str, heading: str, text: str) -> tuple[str, str, str]:
    return " ".join(index_terms(title)), " ".join(index_terms(heading)), " ".join(index_terms(text))
