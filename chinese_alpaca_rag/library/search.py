"""Full-text search over the passages of a library.

Two steps. SQLite's FTS5 finds candidates by the question's rarer terms: as many of them, rarest first, as
have ``POSTINGS`` occurrences between them, so that a large library is searched in milliseconds. The
candidates are then scored with all terms by BM25F (Robertson, Zaragoza and Taylor, 2004), with Lucene's
inverse document frequency, which stays above zero in a small library where FTS5's own does not.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from chinese_alpaca_rag.library.records import Passage
from chinese_alpaca_rag.library.terms import index_words, query_terms
from chinese_alpaca_rag.script import comparable
from chinese_alpaca_rag.words import is_chinese

POSTINGS = 20_000
CANDIDATES = 64
MOST_TERMS = 2_000
# Saturation and length normalisation, as Anserini has them; an occurrence in a heading or title counts as so many.
K1 = 0.9
B = 0.4
IN_HEADING = 1.0
IN_TITLE = 0.6

PassagesById = Callable[[Sequence[int]], list[Passage]]


class PassageSearch:
    """Searches one connection, and remembers what it counted there until ``forget`` or another's change."""

    def __init__(self, connection: sqlite3.Connection, passages_by_id: PassagesById) -> None:
        self._connection = connection
        self._passages_by_id = passages_by_id
        self._counts: dict[str, int] = {}
        self._size: tuple[int, float] | None = None
        self._state = -1

    def forget(self) -> None:
        """The library changed through this connection."""
        self._counts.clear()
        self._size = None

    def search(self, query: str, limit: int, file_ids: Sequence[int] | None) -> list[tuple[Passage, float]]:
        """The best ``limit`` passages with their scores, of the files ``file_ids`` only unless that is None."""
        self._notice_changes()
        rarity = self._rarity(query_terms(query))
        rarest = self._within_budget(list(rarity))
        enough = max(CANDIDATES, 2 * limit)
        found = self._candidates(rarest, enough, file_ids)
        if len(found) < enough and len(rarest) < len(rarity):
            found = self._candidates(list(rarity), enough, file_ids)
        wanted = _Wanted(rarity)
        scored = [(passage, self._score(passage, rarity, wanted)) for passage in self._passages_by_id(found)]
        scored.sort(key=lambda pair: (-pair[1], pair[0].source, pair[0].page, pair[0].start))
        return scored[:limit]

    def _notice_changes(self) -> None:
        state = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        if state != self._state:
            self.forget()
            self._state = state

    def _rarity(self, terms: Sequence[str]) -> dict[str, float]:
        """The inverse document frequency of the terms that occur, the rarest first; of very many, the rarest."""
        total, _ = self._totals()
        counts = {term: count for term in terms if (count := self._count(term))}
        # Among equally rare terms a checksum chooses, so that no part of a very long question goes unread.
        rarest = sorted(counts, key=lambda term: (counts[term], crc32(term.encode("utf-8", "surrogatepass"))))
        return {term: math.log1p((total - counts[term] + 0.5) / (counts[term] + 0.5)) for term in rarest[:MOST_TERMS]}

    def _totals(self) -> tuple[int, float]:
        """How many passages there are, and their mean length in characters."""
        if self._size is None:
            total, characters = self._connection.execute(
                'SELECT count(*), total("end" - start) FROM passages'
            ).fetchone()
            self._size = int(total), float(characters) / max(1, int(total))
        return self._size

    def _count(self, term: str) -> int:
        """In how many passages a term stands, title and headings included."""
        if term not in self._counts:
            matched = "SELECT count(*) FROM passage_terms WHERE passage_terms MATCH ?"
            self._counts[term] = int(self._connection.execute(matched, (_quoted([term]),)).fetchone()[0])
        return self._counts[term]

    def _within_budget(self, terms: Sequence[str]) -> list[str]:
        budget = POSTINGS
        for place, term in enumerate(terms):
            budget -= self._counts[term]
            if budget < 0:
                return list(terms[: max(1, place)])
        return list(terms)

    def _candidates(self, terms: Sequence[str], enough: int, file_ids: Sequence[int] | None) -> list[int]:
        """The ids of the passages that FTS5 ranks best by ``terms``."""
        if not terms:
            return []
        # Numbers written out: a list of files may be longer than SQLite allows parameters.
        numbers = "" if file_ids is None else ",".join(map(str, map(int, file_ids)))
        only = f"AND rowid IN (SELECT id FROM passages WHERE file_id IN ({numbers}))" if file_ids is not None else ""  # noqa: S608
        best = f"ORDER BY bm25(passage_terms, {IN_TITLE}, {IN_HEADING}, 1.0), rowid LIMIT ?"
        select = "SELECT rowid FROM passage_terms WHERE passage_terms MATCH ?"
        rows = self._connection.execute(f"{select} {only} {best}", (_quoted(terms), enough))
        return [int(row[0]) for row in rows]

    def _score(self, passage: Passage, rarity: dict[str, float], wanted: _Wanted) -> float:
        _, mean_length = self._totals()
        counts = wanted.counts(passage.text)
        for weight, above in ((IN_HEADING, passage.heading), (IN_TITLE, passage.title)):
            for term, count in wanted.counts_above(above).items():
                counts[term] = counts.get(term, 0.0) + weight * count
        norm = K1 * (1 - B + B * len(passage.text) / (mean_length or 1.0))
        return sum(rarity[term] * count * (K1 + 1) / (count + norm) for term, count in counts.items())


class _Wanted:
    """Counts certain terms in texts, which is far cheaper than splitting the texts into all of theirs."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._chinese = [term for term in terms if is_chinese(term)]
        self._words = frozenset(term for term in terms if not is_chinese(term))
        self._above: dict[str, dict[str, float]] = {}

    def counts(self, text: str) -> dict[str, float]:
        """How often each wanted term that occurs stands in ``text``."""
        plain = comparable(text)
        # Chinese stands where its characters stand. A word must be split off: 15 does not stand in 2015.
        found = {term: float(plain.count(term)) for term in self._chinese if term in plain}
        if self._words:
            for term in index_words(text):
                if term in self._words:
                    found[term] = found.get(term, 0.0) + 1.0
        return found

    def counts_above(self, text: str) -> dict[str, float]:
        """The same for a title or heading, which many passages share."""
        if text not in self._above:
            self._above[text] = self.counts(text)
        return self._above[text]


def _quoted(terms: Sequence[str]) -> str:
    """An FTS5 expression for any of ``terms``; quoted, no character of a term is read as syntax."""
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
