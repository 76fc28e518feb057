"""Full-text search over the passages of a library.

Two steps. Candidates are the passages that hold most of the question's rarer terms, weighed by their rarity: as many
terms, rarest first, as have ``POSTINGS`` occurrences between them, so that a large library is searched in
milliseconds. The candidates are then scored with all terms by BM25F (Robertson, Zaragoza and Taylor, 2004), with
Lucene's inverse document frequency, which stays above zero in a small library, and with runs of three characters
that stand in the question.
"""

from __future__ import annotations

import heapq
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from chinese_alpaca_rag.library.postings import MOST_COUNTED, Postings
from chinese_alpaca_rag.library.records import Passage
from chinese_alpaca_rag.library.scope import Scope, passage_ids
from chinese_alpaca_rag.library.terms import index_words, query_terms, query_triples, quotes_in
from chinese_alpaca_rag.script import comparable
from chinese_alpaca_rag.words import is_chinese, plain

POSTINGS = 6_000
CANDIDATES = 32
MOST_TERMS = 2_000
# So few passages in the scope are scored without looking for candidates.
FEW = 256
# Counts of terms that are remembered.
MOST_COUNTS = 200_000
# Saturation and length normalisation; an occurrence in a heading or title counts as so many; a run of three
# characters weighs so much of its rarer pair. ``python -m benchmarks.fit_lexical_weights`` compares choices.
K1 = 1.2
B = 0.0
IN_HEADING = 1.0
IN_TITLE = 0.6
TRIPLE = 0.6

PassagesById = Callable[[Sequence[int]], list[Passage]]


class PassageSearch:
    """Searches one connection, and remembers what it counted there until ``forget`` or another's change."""

    def __init__(self, connection: sqlite3.Connection, passages_by_id: PassagesById) -> None:
        self._connection = connection
        self._passages_by_id = passages_by_id
        self._postings = Postings(connection)
        self._counts: dict[str, int] = {}
        self._size: tuple[int, float] | None = None
        self._state = -1

    def forget(self) -> None:
        """The library changed through this connection."""
        self._counts.clear()
        self._postings.forget()
        self._size = None

    def search(self, query: str, limit: int, scope: Scope) -> list[tuple[Passage, float]]:
        """The best ``limit`` passages of ``scope`` with their scores.

        Those that hold what stands in quotation marks in the query, to the letter, come before the others.
        """
        self._notice_changes()
        rarity = self._rarity(query_terms(query))
        if not rarity:
            return []
        within = None if scope.is_everything else passage_ids(self._connection, scope)
        quotes = quotes_in(query)
        wanted = _Wanted(rarity, query_triples(query))
        scored = []
        for passage in self._passages_by_id(self._found(rarity, quotes, max(CANDIDATES, 2 * limit), within)):
            score = self._score(passage, rarity, wanted)
            if score > 0:
                scored.append((passage, score))
        held = {passage.id: sum(holds_quote(passage, quote) for quote in quotes) for passage, _ in scored}
        scored.sort(key=lambda one: (-held[one[0].id], -one[1], one[0].source, one[0].page, one[0].start))
        return scored[:limit]

    def _notice_changes(self) -> None:
        state = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        if state != self._state or len(self._counts) > MOST_COUNTS:
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
            self._counts[term] = int(self._connection.execute(matched, (_all_of([term]),)).fetchone()[0])
        return self._counts[term]

    def _found(
        self, rarity: dict[str, float], quotes: Sequence[str], enough: int, within: set[int] | None
    ) -> list[int]:
        """The ids of the passages worth scoring: those with most of the rarest terms, and with what is quoted."""
        if within is not None and len(within) <= FEW:
            return sorted(within)
        weights: dict[int, float] = {}
        weight_of = weights.get
        # What holds a quote comes before all that holds but its terms.
        heaviest = (K1 + 1) * sum(rarity.values())
        for quote in quotes:
            for passage in self._holding_all(query_terms(quote)[:MOST_TERMS]):
                if within is None or passage in within:
                    weights[passage] = weight_of(passage, 0.0) + heaviest
        budget = POSTINGS
        for number, (term, weight) in enumerate(rarity.items()):
            budget -= self._counts[term]
            if budget < 0 and number and len(weights) >= enough:
                break
            weighed = [weight * count * (K1 + 1) / (count + K1) for count in range(MOST_COUNTED + 1)]
            passages, counts = self._postings.of(term)
            if within is None:
                for passage, count in zip(passages, counts, strict=True):
                    weights[passage] = weight_of(passage, 0.0) + weighed[count]
                continue
            for passage, count in zip(passages, counts, strict=True):
                if passage in within:
                    weights[passage] = weight_of(passage, 0.0) + weighed[count]
        return heapq.nlargest(enough, weights, key=weights.__getitem__)

    def _holding_all(self, terms: Sequence[str]) -> list[int]:
        """The ids of the passages that hold every one of ``terms``."""
        select = "SELECT rowid FROM passage_terms WHERE passage_terms MATCH ?"
        return [int(row[0]) for row in self._connection.execute(select, (_all_of(terms),))]

    def _score(self, passage: Passage, rarity: dict[str, float], wanted: _Wanted) -> float:
        _, mean_length = self._totals()
        counts = wanted.counts(passage.text)
        for weight, above in ((IN_HEADING, passage.heading), (IN_TITLE, passage.title)):
            for term, count in wanted.counts_above(above).items():
                counts[term] = counts.get(term, 0.0) + weight * count
        norm = K1 * (1 - B + B * len(passage.text) / (mean_length or 1.0))
        return sum(wanted.weights[term] * count * (K1 + 1) / (count + norm) for term, count in counts.items())


class _Wanted:
    """Counts certain terms in texts, which is far cheaper than splitting the texts into all of theirs."""

    def __init__(self, rarity: dict[str, float], triples: Iterable[str]) -> None:
        self.weights = dict(rarity)
        for triple in triples:
            if triple[:2] in rarity and triple[1:] in rarity:
                self.weights[triple] = TRIPLE * min(rarity[triple[:2]], rarity[triple[1:]])
        self._chinese = [term for term in self.weights if is_chinese(term)]
        self._words = frozenset(term for term in rarity if not is_chinese(term))
        self._above: dict[str, dict[str, float]] = {}

    def counts(self, text: str) -> dict[str, float]:
        """How often each wanted term that occurs stands in ``text``."""
        folded = comparable(text)
        # Chinese stands where its characters stand. A word must be split off: 15 does not stand in 2015.
        found = {term: float(folded.count(term)) for term in self._chinese if term in folded}
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


def holds_quote(passage: Passage, quote: str) -> bool:
    """Whether ``quote``, as ``terms.quotes_in`` gives it, stands in a passage's text, heading or title."""
    return any(quote in " ".join(plain(text).split()) for text in (passage.text, passage.heading, passage.title))


def _all_of(terms: Sequence[str]) -> str:
    """An FTS5 expression for all of ``terms``; quoted, no character of a term is read as syntax."""
    return " AND ".join('"' + term.replace('"', '""') + '"' for term in terms)
