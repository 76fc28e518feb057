"""Fit the weights of ``llms/sentence_ranking.py``: ``python -m benchmarks.fit_sentence_weights``.

A conditional logit: for each question, the chance of a sentence is the softmax of its weighted features, and
the chance that any sentence with the answer is chosen is made large, with an L2 penalty, by Newton steps. The
figures printed first are from cross-validation over passages: no passage is in both the fit and the test.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.question_set import DATA, AskedQuestion, QuestionSet, ingested, sources_for
from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.sentence_features import QuestionFeatures
from chinese_alpaca_rag.retrieval import LibraryRetriever
from chinese_alpaca_rag.sentences import sentence_spans

FOLDS = 5
PENALTY = 1e-3
STEPS = 12
# Encyclopaedia passages hold next to no product or error codes and no tables; handbooks live on them.
BY_HAND = {"codes": 6.0, "head_row": -7.0}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """The sentences of one question: their features (sentence by feature) and which of them answer it."""

    passage: int
    features: Array
    answering: NDArray[np.bool_]
    wanted: NDArray[np.bool_]


def cases_of(
    asked: Iterable[tuple[AskedQuestion, Sequence[tuple[SourceText, int]]]],
) -> tuple[list[str], list[Case]]:
    """The names of the features, and a case for each question; wanted are the answers in the question's passage."""
    names: list[str] = []
    cases: list[Case] = []
    for question, sources in asked:
        found = QuestionFeatures(question.text, [source for source, _ in sources]).all()
        names = names or [name for name in found[0][1] if name not in BY_HAND]
        answering = np.array(
            [
                any(
                    answer in sources[sentence.source][0].text[sentence.start : sentence.end]
                    for answer in question.answers
                )
                for sentence, _ in found
            ]
        )
        own = np.array([sources[sentence.source][1] == question.passage for sentence, _ in found])
        wanted = answering & own if (answering & own).any() else answering
        features = np.array([[values[name] for name in names] for _, values in found])
        cases.append(Case(question.passage, features, answering, wanted))
    return names, cases


def fit(cases: Sequence[Case], penalty: float = PENALTY) -> Array:
    """The weights that make the chances of the wanted sentences large."""
    usable = [case for case in cases if case.wanted.any()]
    features = np.concatenate([case.features for case in usable])
    deviation = features.std(axis=0) + 1e-9
    choice = _Choice(
        (features - features.mean(axis=0)) / deviation,
        np.concatenate([case.wanted for case in usable]),
        np.array([len(case.wanted) for case in usable]),
        penalty,
    )
    weights = np.zeros(features.shape[1])
    loss = choice.loss(weights)
    for _ in range(STEPS):
        step = choice.newton_step(weights)
        # The curvature holds near by only: a step too far is halved.
        while (shorter := choice.loss(weights - step)) > loss and np.abs(step).max() > 1e-6:
            step /= 2
        weights, loss = weights - step, shorter
    return np.asarray(weights / deviation)


class _Choice:
    """The model over all questions at once, their sentences one after another; ``sizes`` is how many each has."""

    def __init__(self, features: Array, wanted: NDArray[np.bool_], sizes: NDArray[np.int_], penalty: float) -> None:
        self._features, self._wanted, self._sizes, self._penalty = features, wanted, sizes, penalty
        self._starts = np.cumsum(sizes) - sizes

    def loss(self, weights: Array) -> float:
        scores = self._features @ weights
        lost = self._log_sum(scores) - self._log_sum(np.where(self._wanted, scores, -np.inf))
        return float(lost.mean() + self._penalty * weights @ weights)

    def newton_step(self, weights: Array) -> Array:
        scores, questions = self._features @ weights, len(self._sizes)
        chance = np.exp(scores - np.repeat(self._log_sum(scores), self._sizes))
        among_wanted = np.where(self._wanted, scores, -np.inf)
        among_wanted = np.exp(among_wanted - np.repeat(self._log_sum(among_wanted), self._sizes))
        weighted = self._features * chance[:, None]
        means = np.add.reduceat(weighted, self._starts)
        covariance = (self._features.T @ weighted - means.T @ means) / questions
        gradient = self._features.T @ (chance - among_wanted) / questions + 2 * self._penalty * weights
        return np.asarray(np.linalg.solve(covariance + 2 * self._penalty * np.eye(len(weights)), gradient))

    def _log_sum(self, scores: Array) -> Array:
        top = np.maximum.reduceat(scores, self._starts)
        odds = np.exp(scores - np.repeat(top, self._sizes))
        return np.asarray(top + np.log(np.add.reduceat(odds, self._starts)))


def hits(cases: Sequence[Case], weights: Array) -> tuple[int, int]:
    """For how many questions the first sentence, and one of the first three, holds an answer."""
    first = three = 0
    for case in cases:
        order = np.argsort(-(case.features @ weights), kind="stable")
        first += bool(case.answering[order[:1]].any())
        three += bool(case.answering[order[:3]].any())
    return first, three


def cross_validate(
    sets: Sequence[Sequence[Case]], penalty: float = PENALTY, seed: int = 0
) -> list[tuple[float, float]]:
    """For each set, the shares of its questions answered in the first sentence and in the first three."""
    passages = sorted({case.passage for cases in sets for case in cases})
    random.Random(seed).shuffle(passages)
    found = np.zeros((len(sets), 2))
    for fold in range(FOLDS):
        test = set(passages[fold::FOLDS])
        weights = fit([case for cases in sets for case in cases if case.passage not in test], penalty)
        for index, cases in enumerate(sets):
            found[index] += hits([case for case in cases if case.passage in test], weights)
    return [(first / len(cases), three / len(cases)) for (first, three), cases in zip(found, sets, strict=True)]


def with_headings_and_questions(
    passages: Sequence[str], questions: Sequence[AskedQuestion], seed: int = 0
) -> list[str]:
    """The passages rewritten as handbooks and FAQs are: lines, with headings and questions above what they are about.

    A question is put above the sentence that answers it with a third of its characters left out, so that it is no
    copy of what is asked; or a stretch of it stands there as a heading.
    """
    generator = random.Random(seed)
    rewritten = list(passages)
    for question in questions:
        text = rewritten[question.passage]
        spans = [
            span for span in sentence_spans(text) if any(answer in text[slice(*span)] for answer in question.answers)
        ]
        letters = re.sub(r"\W", "", question.text)
        if not spans or len(letters) < 6 or generator.random() < 0.3:
            continue
        start = spans[0][0]
        if generator.random() < 0.5:
            kept = "".join(character for character in question.text[:-1] if generator.random() < 0.67)
            line = f"问：{kept}？"
        else:
            place = generator.randrange(len(letters) - 4)
            line = letters[place : place + generator.randrange(4, 9)]
        rewritten[question.passage] = f"{text[:start].rstrip()}\n{line}\n{text[start:]}"
    return rewritten


def all_cases() -> tuple[list[str], list[list[Case]]]:
    """Cases over passages as they are, split into short ones, and with headings and questions."""
    whole = QuestionSet.from_squad(DATA)
    questions = [question for question in whole.questions if question.text.strip()]
    sets: list[list[Case]] = []
    names: list[str] = []
    for passages in (whole.passages, with_headings_and_questions(whole.passages, questions)):
        with ingested(passages) as library:
            retriever = LibraryRetriever(library=library)
            names, cases = cases_of((question, sources_for(retriever, question.text)) for question in questions)
            sets.append(cases)
    return names, sets


def main() -> None:
    if not DATA.exists():
        print("fit_sentence_weights: skipped, the shared question set is not on this machine")
        return
    names, sets = all_cases()
    for name, (first, three) in zip(("as they are", "with headings"), cross_validate(sets), strict=True):
        print(f"{name}: answer in the first sentence {first:.3f}, in the first three {three:.3f}")
    weights = fit([case for cases in sets for case in cases])
    print("WEIGHTS: dict[str, float] = {")
    for name, weight in [*zip(names, weights, strict=True), *BY_HAND.items()]:
        print(f'    "{name}": {weight:.3f},')
    print("}")


if __name__ == "__main__":
    main()
