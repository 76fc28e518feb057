"""What embedding models made of a library's passages, kept in the library's own file.

A vector belongs to a passage's text, by its digest: a text that stands in several files, or comes back in another
version of its file, is embedded once. It goes in the transaction in which the last passage with that text goes.
This room knows vectors as bytes only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from chinese_alpaca_rag.library.database import translated

if TYPE_CHECKING:
    from chinese_alpaca_rag.library.store import Library

#: Vectors of so many models stay; those of the one that made some the longest ago go when another one is added.
MOST_EMBEDDERS = 2

_DIGEST_BYTES = 16
_AT_ONCE = 500


def text_digest(text: str) -> bytes:
    """16 bytes of BLAKE2b of a passage's text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Embedder:
    """A model whose vectors are kept. ``probe``: its vector, float32 as bytes, of a text that is always the same."""

    id: int
    fingerprint: str
    probe: bytes


class PassageVectors:
    """The vectors of one library. Reading never changes it; each ``put`` is one transaction."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def embedders(self) -> list[Embedder]:
        """The models whose vectors are kept, the one that last made some first."""
        rows = self._rows("SELECT id, fingerprint, probe FROM embedders ORDER BY used_at DESC, id DESC")
        return [Embedder(int(row[0]), str(row[1]), bytes(row[2])) for row in rows]

    def use(self, fingerprint: str, probe: bytes, known: Embedder | None = None) -> Embedder:
        """Note that a model makes vectors now, ``known`` or a new one; beyond ``MOST_EMBEDDERS`` none are kept."""
        now = datetime.now(UTC).isoformat()
        with self._library.changing():
            connection = self._library._connection
            if known is None:
                cursor = connection.execute(
                    "INSERT INTO embedders (fingerprint, probe, used_at) VALUES (?, ?, ?)", (fingerprint, probe, now)
                )
                known = Embedder(int(cursor.lastrowid or 0), fingerprint, probe)
            else:
                connection.execute("UPDATE embedders SET used_at = ? WHERE id = ?", (now, known.id))
            stale = [one.id for one in self.embedders() if one.id != known.id][MOST_EMBEDDERS - 1 :]
            connection.executemany("DELETE FROM embedders WHERE id = ?", [(number,) for number in stale])
            fill_digests(self._library)
        return known

    def without(self, embedder: Embedder | None) -> dict[bytes, int]:
        """The digests of the texts that have no vector, each with the id of a passage that holds it; all for None."""
        rows = self._rows(
            "SELECT digest, min(id) FROM passages WHERE digest IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM vectors WHERE embedder_id = ? AND vectors.digest = passages.digest)"
            " GROUP BY digest ORDER BY min(id)",
            embedder.id if embedder is not None else None,
        )
        return {bytes(row[0]): int(row[1]) for row in rows}

    def put(self, embedder: Embedder, vectors: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep vectors, float32 as bytes, by the digests of their texts; those of texts that went meanwhile are not."""
        with self._library.changing():
            self._library._connection.executemany(
                "INSERT OR REPLACE INTO vectors (embedder_id, digest, vector)"
                " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM passages WHERE digest = ?2)"
                " AND EXISTS (SELECT 1 FROM embedders WHERE id = ?1)",
                [(embedder.id, digest, vector) for digest, vector in vectors],
            )

    def read(self, embedder: Embedder) -> tuple[list[int], bytes]:
        """The ids of the passages that have a vector, ascending, and their vectors one behind the other."""
        rows = self._rows(
            "SELECT passages.id, vectors.vector FROM passages JOIN vectors ON vectors.digest = passages.digest"
            " WHERE vectors.embedder_id = ? ORDER BY passages.id",
            embedder.id,
        )
        return [int(row[0]) for row in rows], b"".join(row[1] for row in rows)

    def state(self) -> tuple[int, int]:
        """Another value after every change of the library, by this process or another."""
        connection = self._library._connection
        with self._library._guard, translated(self._library.folder):
            return int(connection.execute("PRAGMA data_version").fetchone()[0]), connection.total_changes

    def _rows(self, sql: str, *parameters: object) -> list[tuple[bytes, ...]]:
        return self._library._rows(sql, *parameters)


def fill_digests(library: Library) -> None:
    """Inside the caller's transaction: give passages of former formats, which had none, their digests."""
    left = [row[0] for row in library._rows("SELECT id FROM passages WHERE digest IS NULL")]
    for start in range(0, len(left), _AT_ONCE):
        library._connection.executemany(
            "UPDATE passages SET digest = ? WHERE id = ?",
            [(text_digest(one.text), one.id) for one in library.passages_by_id(left[start : start + _AT_ONCE])],
        )


def digests_of_file(connection: sqlite3.Connection, file_id: int) -> list[bytes]:
    """The digests of a file's passages."""
    rows = connection.execute("SELECT digest FROM passages WHERE file_id = ? AND digest IS NOT NULL", (file_id,))
    return [bytes(row[0]) for row in rows]


def forget_vectors(connection: sqlite3.Connection, digests: Sequence[bytes]) -> None:
    """Inside the caller's transaction: erase the vectors of those texts that no passage holds any more."""
    connection.executemany(
        "DELETE FROM vectors WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM passages WHERE digest = ?1)",
        [(digest,) for digest in set(digests)],
    )
