"""Recall and mean reciprocal rank of a retriever over questions whose right passages are known.

``recall@k`` is the share of questions with a right passage among the first ``k``: what Karpukhin et al., "Dense Passage
Retrieval" (2020), call top-k accuracy. It is recall in the strict sense where one passage is right for a question.
The *reciprocal rank* of a question is one divided by the rank of the first right passage, counted from 1, and 0 where
none was found; MRR is its mean (Voorhees, "The TREC-8 Question Answering Track Report", 1999).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from chinese_alpaca_rag.evaluation.matching import Copies, verdict
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion

OnQuestion = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What came of one question.

    ``rank`` is that of the first right passage, from 1, and ``document_rank`` that of the first passage of a right
    document, both 0 where none was found; ``first`` is the passage that came first, right or not, None where nothing
    came. ``milliseconds`` is how long the retriever took, None where it was not asked because the question is empty.
    """

    question: JudgedQuestion
    rank: int
    document_rank: int
    first: Document | None = None
    milliseconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        first = None
        if self.first is not None:
            place = {key: self.first.metadata.get(key) for key in ("source", "title", "page")}
            first = place | {"text": self.first.page_content}
        asked = {"number": self.question.number, "question": self.question.question}
        ranks = {"rank": self.rank, "document_rank": self.document_rank}
        return asked | ranks | {"milliseconds": self.milliseconds, "first": first}


@dataclass(frozen=True)
class RetrievalReport:
    """The outcomes of all questions that count, in their order, and what is made of them.

    ``k`` are the depths of recall, ascending. ``unjudged`` are the questions that nothing is known of: they do not
    count. Empty questions count as asked, with nothing found.
    """

    k: tuple[int, ...]
    outcomes: tuple[Outcome, ...]
    unjudged: tuple[JudgedQuestion, ...] = ()

    @property
    def empty(self) -> tuple[JudgedQuestion, ...]:
        """The questions that count and ask nothing."""
        return tuple(outcome.question for outcome in self.outcomes if outcome.question.is_empty)

    @property
    def missed(self) -> tuple[Outcome, ...]:
        """The questions with no right passage among the first ``max(k)``."""
        return tuple(outcome for outcome in self.outcomes if outcome.rank == 0)

    @property
    def mean_reciprocal_rank(self) -> float:
        """MRR over the first ``max(k)`` passages; 0 without a question."""
        ranks = [outcome.rank for outcome in self.outcomes]
        return math.fsum(1 / rank for rank in ranks if rank) / len(ranks) if ranks else 0.0

    def found(self, k: int) -> int:
        """How many questions have a right passage among the first ``k``, where ``k`` is at most ``max(self.k)``."""
        return sum(1 <= outcome.rank <= k for outcome in self.outcomes)

    def recall(self, k: int) -> float:
        """Recall@k; 0 without a question."""
        return self.found(k) / len(self.outcomes) if self.outcomes else 0.0

    def document_recall(self, k: int) -> float:
        """As ``recall``, where any passage of a right document will do; 0 without a question."""
        found = sum(1 <= outcome.document_rank <= k for outcome in self.outcomes)
        return found / len(self.outcomes) if self.outcomes else 0.0

    def milliseconds(self, share: float) -> float | None:
        """The time that ``share`` of the searches kept to, by nearest rank; None where nothing was searched for."""
        times = sorted(outcome.milliseconds for outcome in self.outcomes if outcome.milliseconds is not None)
        return times[max(0, math.ceil(share * len(times)) - 1)] if times else None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "questions": len(self.outcomes) + len(self.unjudged),
            "judged": len(self.outcomes),
            "unjudged": len(self.unjudged),
            "empty": len(self.empty),
            "recall": {str(k): self.recall(k) for k in self.k},
            "document_recall": {str(k): self.document_recall(k) for k in self.k},
            "mrr": self.mean_reciprocal_rank,
            "milliseconds": {"p50": self.milliseconds(0.5), "p95": self.milliseconds(0.95)},
            "missed": len(self.missed),
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }


def judge(
    questions: Sequence[JudgedQuestion],
    retriever: Runnable[str, list[Document]],
    *,
    k: Sequence[int],
    copies: Copies | None = None,
    on_question: OnQuestion | None = None,
) -> RetrievalReport:
    """Ask ``retriever`` every question that counts, one after the other, and look where a right passage comes.

    ``retriever`` has to give ``max(k)`` passages, best first; more are not looked at. ``copies`` has the other paths
    of files, for questions with sources. ``on_question`` is called after each with the number done and their total.
    ValueError for ``k`` that are no depths; what the retriever raises is passed on.
    """
    depths = tuple(sorted(set(k)))
    if not depths or depths[0] < 1:
        raise ValueError(f"k must be whole numbers from 1: {list(k)}")
    judged = [question for question in questions if question.is_judged]
    outcomes: list[Outcome] = []
    for question in judged:
        outcomes.append(_outcome(question, retriever, depths[-1], copies))
        if on_question is not None:
            on_question(len(outcomes), len(judged))
    unjudged = tuple(question for question in questions if not question.is_judged)
    return RetrievalReport(depths, tuple(outcomes), unjudged)


def _outcome(
    question: JudgedQuestion, retriever: Runnable[str, list[Document]], depth: int, copies: Copies | None
) -> Outcome:
    if question.is_empty:
        return Outcome(question, 0, 0)
    began = time.perf_counter()
    found = retriever.invoke(question.question)[:depth]
    milliseconds = (time.perf_counter() - began) * 1000
    rank = document_rank = 0
    for place, passage in enumerate(found, start=1):
        found_here = verdict(question, passage, copies)
        if found_here != "wrong":
            document_rank = document_rank or place
        if found_here == "right":
            rank = place
            break
    return Outcome(question, rank, document_rank, found[0] if found else None, milliseconds)
