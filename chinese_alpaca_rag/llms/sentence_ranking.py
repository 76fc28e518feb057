"""Which sentence of some sources answers a question: one weight for each feature of ``sentence_features``.

The weights were fitted by ``python -m benchmarks.fit_sentence_weights``, a conditional logit over the sentences
of each question, and judged by cross-validation over documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.sentence_features import QuestionFeatures

# Below it the sources speak of something else. Of questions whose passage was among the sources none lies below
# (the least has 0.21), of questions whose passage was taken away three in ten.
LEAST_COVERAGE = 0.15


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of ``sources[source]``: ``text[start:end]``. ``chance`` adds up to 1 over all sentences."""

    source: int
    start: int
    end: int
    chance: float


def rank_sentences(question: str, sources: Sequence[SourceText]) -> list[RankedSentence]:
    """The sentences of ``sources``, the likeliest answer first; none where they say next to nothing of ``question``."""
    features = QuestionFeatures(question, sources)
    if features.coverage() < LEAST_COVERAGE:
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
    "source_terms": 9.447,
    "source_lead": 3.297,
    "words": -3.551,
    "words_near": 0.894,
    "words_behind_lead": 3.025,
    "local_words": 1.991,
    "local_characters": 3.348,
    "words_before": 1.137,
    "words_above": -1.316,
    "heading_above": 4.129,
    "question_before": 5.185,
    "after": 1.222,
    "longest": 3.057,
    "marks": 2.666,
    "new_characters": -0.162,
    "pronoun": 0.791,
    "is_question": -6.175,
    "is_heading": -4.889,
    "time": 1.788,
    "number": 0.778,
    "unit": 2.807,
    "duration": 0.839,
    "person": 1.693,
    "place": 2.508,
    "reason": 2.481,
    "list": 2.069,
    "manner_size": 0.550,
    "codes": 6.000,
    "head_row": -7.000,
}
