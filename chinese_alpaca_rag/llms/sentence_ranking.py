"""Which sentence of some sources answers a question: one weight for each feature of ``sentence_features``.

The weights were fitted by ``python -m benchmarks.fit_sentence_weights``, a conditional logit over the sentences
of each question, and judged by cross-validation over documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.question_form import without_function_words
from chinese_alpaca_rag.llms.sentence_features import QuestionFeatures


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of ``sources[source]``: ``text[start:end]``. ``chance`` adds up to 1 over all sentences."""

    source: int
    start: int
    end: int
    chance: float


def rank_sentences(question: str, sources: Sequence[SourceText]) -> list[RankedSentence]:
    """The sentences of ``sources``, the likeliest answer first; none where nothing of ``question`` stands in them."""
    features = QuestionFeatures(question, sources)
    if not any(without_function_words(term).strip() for term in features.matched_terms):
        return []
    scored = [
        (sum(WEIGHTS[name] * value for name, value in values.items()), sentence) for sentence, values in features.all()
    ]
    best = max(score for score, _ in scored)
    odds = [(math.exp(score - best), sentence) for score, sentence in scored]
    total = sum(odd for odd, _ in odds)
    return [
        RankedSentence(source=sentence.source, start=sentence.start, end=sentence.end, chance=odd / total)
        for odd, sentence in sorted(odds, key=lambda pair: -pair[0])
    ]


WEIGHTS: dict[str, float] = {
    "source": 6.9,
    "source_of_best": 6.791,
    "source_is_best": 0.326,
    "words": -3.158,
    "characters": 1.455,
    "local_words": 3.274,
    "local_characters": 3.379,
    "words_before": 0.497,
    "words_after": 0.364,
    "words_above": -0.83,
    "first": -0.365,
    "position": -0.257,
    "short": -0.763,
    "new_characters": -0.295,
    "before": 1.24,
    "after": 2.955,
    "longest": -0.009,
    "numbers": 4.186,
    "time": 1.578,
    "time_missing": -0.906,
    "number": 2.199,
    "count": 0.95,
    "unit": 2.423,
    "duration": 7.636,
    "person": 1.161,
    "place": 2.417,
    "reason": 1.959,
    "list": 2.055,
    "list_size": 0.186,
    "reason_size": -0.069,
    "manner_size": 0.252,
}
