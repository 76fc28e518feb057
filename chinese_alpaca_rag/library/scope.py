"""Which part of a library is searched: some files, folders, tags, pages, or times."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chinese_alpaca_rag.library.database import storable

# The first character behind a folder's own, so that a folder's files are a range of paths.
_BEHIND_SEPARATOR = chr(ord(os.sep) + 1)
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Scope:
    """Passages that meet every condition that is given.

    ``paths`` are files or folders of the library, absolute, any of which will do; None for all, an empty tuple for
    none. ``tags``: a file must have each of them. ``pages``: the first and the last page, both included, from 1.
    ``since`` and ``until``, both included, are when a file was last changed, not when it was ingested; a time
    without a zone is this machine's.
    """

    paths: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    pages: tuple[int, int] | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no condition is given."""
        return self == Scope()


def passage_ids(connection: sqlite3.Connection, scope: Scope) -> set[int]:
    """The ids of the passages in ``scope``."""
    conditions: list[str] = ["1"]
    parameters: list[Any] = []
    if scope.paths is not None:
        # Numbers written out: there may be more files than SQLite allows parameters.
        numbers = ",".join(map(str, sorted(_files_at(connection, scope.paths))))
        conditions.append(f"passages.file_id IN ({numbers})")
    for tag in scope.tags:
        conditions.append("EXISTS (SELECT 1 FROM tags WHERE tags.file_id = passages.file_id AND tag = ?)")
        parameters.append(tag)
    if scope.pages is not None:
        conditions.append("(SELECT number FROM pages WHERE pages.id = passages.page_id) BETWEEN ? AND ?")
        parameters += scope.pages
    if scope.since is not None:
        conditions.append("(SELECT modified_ns FROM files WHERE files.id = passages.file_id) >= ?")
        parameters.append(int(scope.since.timestamp() * _NANOSECONDS))
    if scope.until is not None:
        conditions.append("(SELECT modified_ns FROM files WHERE files.id = passages.file_id) <= ?")
        parameters.append(int(scope.until.timestamp() * _NANOSECONDS))
    select = f"SELECT id FROM passages WHERE {' AND '.join(conditions)}"  # noqa: S608 - conditions are written above
    return {int(row[0]) for row in connection.execute(select, parameters)}


def _files_at(connection: sqlite3.Connection, paths: Sequence[str]) -> set[int]:
    """The ids of the files at ``paths`` or in folders of these names, and of those that have copies there."""
    found: set[int] = set()
    for path in paths:
        folder = path.rstrip(os.sep)
        within: list[Any] = [storable(path), storable(folder + os.sep), storable(folder + _BEHIND_SEPARATOR)]
        for table, column in (("files", "id"), ("copies", "file_id")):
            select = (
                f"SELECT {column} FROM {table} WHERE path = CAST(? AS TEXT)"  # noqa: S608
                " OR (path >= CAST(? AS TEXT) AND path < CAST(? AS TEXT))"
            )
            found.update(int(row[0]) for row in connection.execute(select, within))
    return found
