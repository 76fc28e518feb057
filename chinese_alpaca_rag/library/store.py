"""The knowledge base: files, their text and their passages, in one SQLite file in a folder.

Every change is one transaction, so after a kill at any moment each file is there whole or not at all.
One process writes at a time; any number read meanwhile. A ``Library`` may be used from several threads.
"""

from __future__ import annotations

import json
import os
import sqlite3
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
from chinese_alpaca_rag.library.derived import Derived, Forgetting
from chinese_alpaca_rag.library.index import clear_index, index_passage, terms_are_current, unindex_passage
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.library.queries import FILE_SELECT, PASSAGE_SELECT
from chinese_alpaca_rag.library.records import CopyRecord, FileRecord, ParsedDocument, Passage, PassageSpan
from chinese_alpaca_rag.library.scope import Scope, passage_ids
from chinese_alpaca_rag.library.search import PassageSearch
from chinese_alpaca_rag.library.vectors import digests_of_file, forget_vectors
from chinese_alpaca_rag.library.writing import check_spans, insert_document, insert_tags

_AT_ONCE = 500  # values in one list of SQL parameters


class Library:
    """An open library; use it as a context manager, or call ``close``.

    ``absolute_folder``, with links resolved, names it in the labels of its documents. A library that is moved has
    other labels from then on; what is kept under the old ones is used and forgotten no more, and goes with age.
    """

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, *, readonly: bool, derived: Sequence[Derived] = ()
    ) -> None:
        self.folder = folder
        self.absolute_folder = os.path.realpath(folder)
        self.readonly = readonly
        self._open_connection: sqlite3.Connection | None = connection
        self._guard = threading.RLock()
        self._writer = WriterLock(folder)
        self._search = PassageSearch(connection, self.passages_by_id)
        self._forgetting = Forgetting(self.absolute_folder, derived)
        self._gone: list[str] = []
        self._dropped: list[bytes] = []

    @classmethod
    def open(
        cls, folder: Path | str, *, create: bool = False, readonly: bool = False, derived: Sequence[Derived] = ()
    ) -> Library:
        """Open the library in ``folder``; with ``create``, to write, and make one where there is none.

        LibraryNotFoundError where there is none, LibraryFormatError where something else stands there or
        another version made it. The right to write is taken here with ``create``, else at the first change,
        and kept until ``close``: LibraryBusyError where another process holds it.

        From ``derived`` goes what was computed from a file before the file does, as soon as it is removed, replaced
        or moved; and with the right to write, all that is left of files that went without it.
        """
        place = Path(folder)
        connection = database.open_database(place, create=create, readonly=readonly)
        library = cls(place, connection, readonly=readonly, derived=derived)
        if create and not readonly:
            try:
                library._begin_writing()
            except BaseException:
                library.close()
                raise
        return library

    def close(self) -> None:
        """Give back the files and the right to write. May be called more than once."""
        with self._guard:
            if self._open_connection is not None:
                self._open_connection.close()
                self._open_connection = None
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

    def passage_ids(self, scope: Scope) -> set[int]:
        """The ids of the passages in a part of the library."""
        with self._guard, translated(self.folder):
            return passage_ids(self._connection, scope)

    def copies(self) -> list[CopyRecord]:
        """Every path that holds the same bytes as a file that is stored under another one, by path."""
        files = {record.id: record for record in self.files()}
        rows = self._rows("SELECT path, file_id, size, modified_ns, noted_at FROM copies ORDER BY path")
        return [CopyRecord(row[0], files[row[1]], row[2], row[3], row[4]) for row in rows]

    def copy(self, path: str) -> CopyRecord | None:
        """What ``path`` is a copy of, None where it is none."""
        rows = self._rows(
            "SELECT file_id, size, modified_ns, noted_at FROM copies WHERE path = CAST(? AS TEXT)", storable(path)
        )
        return CopyRecord(path, self._files("WHERE id = ?", rows[0][0])[0], *rows[0][1:]) if rows else None

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
        with self._guard:
            return self._passages("WHERE files.path = CAST(? AS TEXT) ORDER BY passages.position", storable(path))

    def passages_between(self, file_id: int, first: int, last: int) -> list[Passage]:
        """The passages of one file at positions ``first`` to ``last``, both included, in reading order."""
        where = "WHERE passages.file_id = ? AND passages.position BETWEEN ? AND ? ORDER BY passages.position"
        with self._guard:
            return self._passages(where, file_id, first, last)

    def passage_count(self) -> int:
        """How many passages the library holds."""
        return int(self._rows("SELECT count(*) FROM passages")[0][0])

    def search(self, query: str, *, limit: int = 20, scope: Scope | None = None) -> list[tuple[Passage, float]]:
        """The passages that share terms with ``query``, best first, each with its BM25 score (higher is better).

        ``scope`` keeps to a part of the library. Passages that hold what stands in quotation marks in the query, to
        the letter, come before all others, whatever their score. Nothing is found for a query without terms.
        """
        if limit < 1:
            return []
        with self._guard, translated(self.folder), transaction(self._connection, "DEFERRED"):
            return self._search.search(query, limit, scope or Scope())

    # What is computed from the files

    @property
    def derived_problems(self) -> tuple[LibraryError, ...]:
        """Why something that was computed from files that are gone could not be removed; empty where all went."""
        return tuple(self._forgetting.problems)

    def reconcile(self, derived: Sequence[Derived] | None = None) -> int:
        """Remove from ``derived`` (those given at opening) what is of files that this library does not hold any more.

        Readers may call it as well. Gives what ``derived`` count as removed; ``derived_problems`` has what failed.
        """
        forgetting = self._forgetting if derived is None else Forgetting(self.absolute_folder, derived)
        if not forgetting.derived:
            return 0
        held = {(path, sha256) for path, sha256 in self._rows("SELECT path, sha256 FROM files")}
        count = forgetting.forget_all_but(held)
        if forgetting is not self._forgetting:
            self._forgetting.problems += forgetting.problems
        return count

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
        check_spans(path, document, spans)
        stored_at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._change():
            former = self.file(path)
            self._drop(path)
            file_id = insert_document(
                self._connection,
                document,
                spans,
                path=path, sha256=sha256, size=size, modified_ns=modified_ns, parser=parser, stored_at=stored_at,
            )  # fmt: skip
            insert_tags(self._connection, file_id, former.tags if former is not None else ())
            return self._files("WHERE id = ?", file_id)[0]

    def put_copy(self, path: str, *, of: str, size: int, modified_ns: int) -> FileRecord:
        """``path`` holds the same bytes as the file ``of``, which is stored once; gives that file's record.

        When the file ``of`` changes, moves or goes, the first of its copies stands for the old content.
        KeyError for a file that is not here.
        """
        noted_at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._change():
            if path != of:
                self._drop(path)
            record = self.file(of)
            if record is None or path == of:
                raise KeyError(of)
            self._connection.execute(
                "INSERT INTO copies (path, file_id, size, modified_ns, noted_at) VALUES (CAST(? AS TEXT), ?, ?, ?, ?)",
                (storable(path), record.id, size, modified_ns, noted_at),
            )
            return self._files("WHERE id = ?", record.id)[0]

    def move_file(self, old_path: str, new_path: str, *, modified_ns: int) -> None:
        """The file now stands elsewhere with the same content; what stood at ``new_path`` goes.

        A title that was only the file's name follows it. KeyError for a file that is not here.
        """
        with self._change():
            if old_path != new_path:
                self._drop(new_path)
            record = self.file(old_path)
            if record is None:
                raise KeyError(old_path)
            self._rename(record, new_path, modified_ns)

    def _rename(self, record: FileRecord, path: str, modified_ns: int) -> None:
        self._gone.append(record.path)
        renamed = record.title == Path(record.path).stem != Path(path).stem
        title = Path(path).stem if renamed else record.title
        if renamed:
            for passage in self.passages(record.path):
                unindex_passage(self._connection, passage)
                index_passage(self._connection, passage.id, title, passage.heading, passage.text)
        self._connection.execute(
            "UPDATE files SET path = CAST(? AS TEXT), title = CAST(? AS TEXT), modified_ns = ? WHERE id = ?",
            (storable(path), storable(title), modified_ns, record.id),
        )

    def touch_file(self, path: str, *, modified_ns: int) -> None:
        """The time of a file, or of a copy of one, changed and its content did not. KeyError if unknown."""
        with self._change():
            for table in ("files", "copies"):
                update = f"UPDATE {table} SET modified_ns = ? WHERE path = CAST(? AS TEXT)"  # noqa: S608 - our names
                if self._connection.execute(update, (modified_ns, storable(path))).rowcount:
                    return
            raise KeyError(path)

    def tag_files(self, paths: Sequence[str], *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Put tags on files and take tags off them, all in one transaction; KeyError for a file that is not here."""
        with self._change():
            for path in paths:
                record = self.file(path)
                if record is None:
                    raise KeyError(path)
                for tag in remove:
                    self._connection.execute("DELETE FROM tags WHERE file_id = ? AND tag = ?", (record.id, tag))
                insert_tags(self._connection, record.id, add)

    def remove_file(self, path: str) -> None:
        """Take a file out, with everything of it. KeyError if unknown."""
        self.remove_files([path])

    def remove_files(self, paths: Sequence[str]) -> None:
        """Take files out together, all of them or, with a KeyError for one that is unknown, none."""
        with self._change():
            for path in paths:
                if not self._drop(path):
                    raise KeyError(path)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction for whoever looks after the library (``care``); LibraryError where it is read-only."""
        with self._change():
            yield

    # Inside

    @contextmanager
    def _change(self) -> Iterator[None]:
        if self.readonly:
            raise LibraryError(
                Words(
                    zh=f"知识库 {self.folder} 以只读方式打开。",
                    en=f"The library {self.folder} is open for reading only.",
                ),
                hint=Words(zh="以可写方式打开后再试。", en="Open it for writing and try again."),
            )
        with self._guard:
            self._begin_writing()
            self._gone.clear()
            self._dropped.clear()
            with translated(self.folder), transaction(self._connection):
                if not terms_are_current(self._connection):
                    self.index_anew()
                yield
                forget_vectors(self._connection, self._dropped)
                # Before the change is kept: a kill in between loses what can be computed again, and leaves nothing.
                self._forgetting.forget_files(self._gone)
            self._search.forget()

    def _begin_writing(self) -> None:
        if not self._writer.held:
            self._writer.acquire()
            self.reconcile()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open_connection is None:
            raise ValueError(f"the library {self.folder} is closed")
        return self._open_connection

    def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._guard, translated(self.folder):
            return self._connection.execute(sql, parameters).fetchall()

    def _files(self, clause: str, *parameters: Any) -> list[FileRecord]:
        rows = self._rows(FILE_SELECT + clause, *parameters)
        return [
            FileRecord(
                id=row[0], path=row[1], sha256=row[2], status="partial" if row[7] else "complete", title=row[3],
                format=row[4], page_kind=row[5], encoding=row[6], missing=row[7], parser=row[8], size=row[9],
                modified_ns=row[10], ingested_at=row[11], pages=row[12], passages=row[13],
                confidence=row[14], hidden=row[15], tags=tuple(json.loads(row[16])), copies=tuple(json.loads(row[17])),
            )
            for row in rows
        ]  # fmt: skip

    def _passages(self, clause: str, *parameters: Any) -> list[Passage]:
        return [
            Passage(
                id=row[0], file_id=row[1], source=row[2], title=row[3], page_kind=row[4], page=row[5],
                page_label=row[6], position=row[7], start=row[8], end=row[9], heading=row[10],
                text=row[12][row[8] % STRETCH :][: row[9] - row[8]], library=self.absolute_folder, sha256=row[11],
            )
            for row in self._rows(PASSAGE_SELECT + clause, *parameters)
        ]  # fmt: skip

    def passages_by_id(self, ids: Sequence[int]) -> list[Passage]:
        """The passages with these ids, in no particular order, without those that are not there."""
        found: list[Passage] = []
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            found += self._passages(f"WHERE passages.id IN ({', '.join('?' * len(some))})", *some)
        return found

    def _drop(self, path: str) -> bool:
        """Delete a file or a copy of one inside the caller's transaction; False where there is none.

        A file of which there are copies goes on under the path of the first of them.
        """
        if self._connection.execute("DELETE FROM copies WHERE path = CAST(? AS TEXT)", (storable(path),)).rowcount:
            return True
        record = self.file(path)
        if record is None:
            return False
        heir = next((copy for copy in self.copies() if copy.file.id == record.id), None) if record.copies else None
        if heir is not None:
            self._connection.execute("DELETE FROM copies WHERE path = CAST(? AS TEXT)", (storable(heir.path),))
            self._rename(record, heir.path, heir.modified_ns)
            return True
        for passage in self.passages(path):
            unindex_passage(self._connection, passage)
        self._dropped += digests_of_file(self._connection, record.id)
        self._connection.execute("DELETE FROM files WHERE id = ?", (record.id,))
        # In the same transaction, so that a kill before the rest is erased (``care.erase_deleted``) is not forgotten.
        self._connection.execute("REPLACE INTO about VALUES ('erase', 'due')")
        self._gone.append(path)
        return True

    def index_anew(self) -> None:
        """Index every passage again, inside the caller's transaction."""
        clear_index(self._connection)
        for record in self.files():
            for passage in self.passages(record.path):
                index_passage(self._connection, passage.id, passage.title, passage.heading, passage.text)
