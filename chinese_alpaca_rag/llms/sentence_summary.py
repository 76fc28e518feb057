"""A summary out of documents' own sentences: central ones, spread over the documents, none repeating another.

A sentence is central when it shares much with all the others: the cosine to their centroid (Radev and others,
2004). Repetition is kept out by maximal marginal relevance (Carbonell and Goldstein, 1998), and so is taking
all from one place: a source that was drawn from counts as partly said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.question_form import without_function_words
from chinese_alpaca_rag.llms.sentence_features import LONGEST_QUOTE, Sentence, sentences_of

_SHORTEST = 16  # characters; a shorter sentence says too little without its neighbours
_REPETITION = 0.6
_SAME_SOURCE = 0.35
_FIRST_OF_SOURCE = 1.25
_PRONOUN = 0.7  # what it stands for was said in a sentence before


@dataclass(eq=False)
class _Candidate:
    sentence: Sentence
    vector: dict[str, float]
    worth: float = 0.0
    said: float = 0.0

    @property
    def size(self) -> int:
        return self.sentence.end - self.sentence.start


def summarize_sentences(sources: Sequence[SourceText], max_characters: int) -> list[tuple[int, int, int]]:
    """Representative sentences of all ``sources`` in document order, together at most ``max_characters`` long.

    Each is an index into ``sources`` with start and end offsets. One sentence is given even if it is longer.
    """
    candidates = [_Candidate(sentence, {}) for sentence in _worth_quoting(sources, max_characters)]
    _judge(candidates)
    chosen: list[Sentence] = []
    left = max_characters
    while candidates:
        best = max(candidates, key=lambda candidate: candidate.worth - _REPETITION * candidate.said)
        chosen.append(best.sentence)
        left -= best.size
        candidates = [candidate for candidate in candidates if candidate is not best and candidate.size <= left]
        for other in candidates:
            likeness = _product(best.vector, other.vector)
            if other.sentence.source == best.sentence.source:
                likeness = max(likeness, _SAME_SOURCE)
            other.said = max(other.said, likeness)
    return sorted((sentence.source, sentence.start, sentence.end) for sentence in chosen)


def _worth_quoting(sources: Sequence[SourceText], max_characters: int) -> list[Sentence]:
    """Whole sentences where they are enough for a summary; else rows and list items too; else whatever there is."""
    everything = [sentence for row in sentences_of(sources) for sentence in row]
    plain = [sentence for sentence in everything if not sentence.is_heading and not sentence.is_question]
    whole = [
        sentence
        for sentence in plain
        if sentence.is_complete
        and len(sentence.letters) >= _SHORTEST
        and sentence.end - sentence.start <= LONGEST_QUOTE
    ]
    if sum(sentence.end - sentence.start for sentence in whole) >= max_characters:
        return whole
    return plain or everything


def _judge(candidates: Sequence[_Candidate]) -> None:
    """Set each candidate's vector, of terms by rarity and of length 1, and its worth."""
    terms = [_content(candidate.sentence) for candidate in candidates]
    frequency = Counter(term for some in terms for term in some)
    centroid: dict[str, float] = {}
    for candidate, some in zip(candidates, terms, strict=True):
        candidate.vector = _unit({term: math.log1p(len(candidates) / frequency[term]) for term in some})
        for term, value in candidate.vector.items():
            # A term of one sentence only says nothing of what the sentences have in common.
            if frequency[term] > 1:
                centroid[term] = centroid.get(term, 0.0) + value
    centroid = _unit(centroid)
    opened: set[int] = set()
    for candidate in candidates:
        candidate.worth = _product(candidate.vector, centroid)
        if candidate.sentence.opens_with_pronoun:
            candidate.worth *= _PRONOUN
        if candidate.sentence.source not in opened:
            opened.add(candidate.sentence.source)
            candidate.worth *= _FIRST_OF_SOURCE


def _content(sentence: Sentence) -> list[str]:
    """The words of a sentence, without pairs of particles and the like; its characters where it has no other."""
    words = [word for word in sentence.words if without_function_words(word).strip()]
    return words or list(sentence.characters)


def _unit(vector: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {term: value / length for term, value in vector.items()}


def _product(one: dict[str, float], other: dict[str, float]) -> float:
    if len(one) > len(other):
        one, other = other, one
    return sum(value * other[term] for term, value in one.items() if term in other)
