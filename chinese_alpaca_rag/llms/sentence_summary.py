"""A summary out of a document's own sentences: the central ones, none saying again what another says.

Centrality is that of a degree-based LexRank (Erkan and Radev, 2004) against the centroid of all sentences;
redundancy is removed by maximal marginal relevance (Carbonell and Goldstein, 1998).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.question_form import bare
from chinese_alpaca_rag.llms.sentence_features import terms_of
from chinese_alpaca_rag.sentences import sentence_spans
from chinese_alpaca_rag.words import plain

_SHORTEST = 8
_LONGEST = 200
_NOVELTY = 0.5
_LEAD = 0.35


@dataclass(frozen=True)
class SummarySentence:
    """A sentence of ``sources[source]``: ``text[start:end]``."""

    source: int
    start: int
    end: int


@dataclass
class _Candidate:
    place: SummarySentence
    size: int
    vector: dict[str, float]
    worth: float = 0.0
    likest: float = 0.0


def summarize_sentences(sources: Sequence[SourceText], max_characters: int) -> list[SummarySentence]:
    """Representative sentences of all ``sources`` in document order, together about ``max_characters`` long.

    At least one sentence is given where there is any.
    """
    candidates = _candidates(sources)
    if not candidates:
        return []
    _judge(candidates)
    chosen: list[_Candidate] = []
    left = max_characters
    while candidates:
        best = max(candidates, key=lambda item: item.worth - _NOVELTY * item.likest)
        candidates.remove(best)
        if chosen and best.size > left:
            continue
        chosen.append(best)
        left -= best.size
        if left < _SHORTEST:
            break
        for other in candidates:
            other.likest = max(other.likest, _likeness(best.vector, other.vector))
    return sorted((item.place for item in chosen), key=lambda place: (place.source, place.start))


def _candidates(sources: Sequence[SourceText]) -> list[_Candidate]:
    found: list[_Candidate] = []
    seen: set[str] = set()
    for index, source in enumerate(sources):
        for start, end in sentence_spans(source.text):
            letters = bare(plain(source.text[start:end]))
            if letters and letters not in seen:
                seen.add(letters)
                characters, words, _ = terms_of(plain(source.text[start:end]))
                vector = dict.fromkeys(words or characters, 1.0)
                found.append(_Candidate(SummarySentence(index, start, end), end - start, vector))
    usual = [item for item in found if _SHORTEST <= item.size <= _LONGEST]
    return usual or found


def _judge(candidates: list[_Candidate]) -> None:
    """Weigh terms by rarity, make vectors of length one, and set each sentence's worth."""
    frequency = Counter(term for item in candidates for term in item.vector)
    count = len(candidates)
    centroid: dict[str, float] = {}
    for item in candidates:
        for term in item.vector:
            item.vector[term] *= math.log1p(count / frequency[term])
        length = math.sqrt(sum(value * value for value in item.vector.values())) or 1.0
        for term in item.vector:
            item.vector[term] /= length
            # A term of one sentence only says nothing of what the sentences have in common.
            if frequency[term] > 1:
                centroid[term] = centroid.get(term, 0.0) + item.vector[term]
    length = math.sqrt(sum(value * value for value in centroid.values())) or 1.0
    first: set[int] = set()
    for item in candidates:
        item.worth = _likeness(item.vector, centroid) / length
        if item.place.source not in first:
            first.add(item.place.source)
            item.worth *= 1 + _LEAD


def _likeness(one: dict[str, float], other: dict[str, float]) -> float:
    if len(one) > len(other):
        one, other = other, one
    return sum(value * other[term] for term, value in one.items() if term in other)
