"""In which passages a term stands and how often, read from the full-text index and kept while it is not changed."""

from __future__ import annotations

import sqlite3
from array import array
from collections import OrderedDict
from typing import TypeAlias

#: Occurrences that are kept, of all terms together: eight bytes each.
MOST_KEPT = 4_000_000
#: More occurrences in one passage count no more.
MOST_COUNTED = 64

Places: TypeAlias = "tuple[array[int], array[int]]"


class Postings:
    """Reads terms' postings through one connection. Title, heading and body count alike here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._kept: OrderedDict[str, Places] = OrderedDict()
        self._size = 0
        self._opened = False

    def forget(self) -> None:
        """The index changed."""
        self._kept.clear()
        self._size = 0

    def of(self, term: str) -> Places:
        """The ids of the passages that hold ``term``, ascending, and how often each does, ``MOST_COUNTED`` at most."""
        found = self._kept.get(term)
        if found is not None:
            self._kept.move_to_end(term)
            return found
        self._open()
        rows = self._connection.execute(
            "SELECT doc, min(count(*), ?) FROM temp.term_places WHERE term = ? GROUP BY doc", (MOST_COUNTED, term)
        ).fetchall()
        passages, counts = zip(*rows, strict=True) if rows else ((), ())
        found = array("i", passages), array("i", counts)
        self._keep(term, found)
        return found

    def _open(self) -> None:
        """FTS5's own view of its index; a temporary table, so that a read-only library has it too."""
        if not self._opened:
            self._connection.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.term_places USING fts5vocab(main, passage_terms, instance)"
            )
            self._opened = True

    def _keep(self, term: str, found: Places) -> None:
        self._kept[term] = found
        self._size += len(found[0])
        while self._size > MOST_KEPT and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped[0])
