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
from chinese_alpaca_rag.words import pieces


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
    if not _on_the_subject(features):
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


def _on_the_subject(features: QuestionFeatures) -> bool:
    """Whether the sources hold a word of the question that says something, or a character that is a word there."""
    content = without_function_words(features.form.content)
    alone = {run for run, _, _ in pieces(content) if len(run) == 1}
    return any(
        term in alone or (len(term) > 1 and without_function_words(term).strip()) for term in features.matched_terms
    )


WEIGHTS: dict[str, float] = {
    "words": -1.590,
    "characters": -0.966,
    "words_near": 0.852,
    "words_nearby": -1.113,
    "characters_near": 2.054,
    "words_behind_lead": 2.419,
    "characters_behind_lead": 0.841,
    "source_terms": 9.609,
    "source_words": -2.961,
    "source_words_of_best": 0.903,
    "source_lead": 3.283,
    "source_stretch": 1.178,
    "local_words": 2.103,
    "local_characters": 2.272,
    "words_before": 1.124,
    "words_after": 0.465,
    "words_above": -0.826,
    "heading_above": 4.037,
    "question_before": 5.181,
    "first": 0.433,
    "position": -0.098,
    "new_characters": -0.206,
    "short": -0.807,
    "pronoun": 0.732,
    "is_question": -5.787,
    "is_heading": -4.084,
    "before": -0.809,
    "after": 0.575,
    "longest": 1.651,
    "lead": 1.569,
    "lead_only": -0.641,
    "marks": 2.166,
    "time": 1.146,
    "time_missing": -0.635,
    "number": 1.450,
    "count": 0.880,
    "unit": 2.224,
    "duration": 1.218,
    "person": 1.678,
    "place": 2.541,
    "reason": 2.548,
    "list": 2.526,
    "list_size": -0.384,
    "reason_size": 0.267,
    "manner_size": 0.555,
}
