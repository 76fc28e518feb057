"""How well retrieval does on one's own questions, where it is known what they are about.

::

    questions = judged_questions(text, name="questions.jsonl")   # JSON lines, or SQuAD's layout
    report = judge(questions, LibraryRetriever(library_path="…", k=10), k=(1, 5, 10))
    report.recall(5), report.mean_reciprocal_rank, report.missed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.evaluation.questions import JudgedQuestion, judged_questions
    from chinese_alpaca_rag.evaluation.retrieval import Outcome, RetrievalReport, judge

__all__ = ["JudgedQuestion", "Outcome", "RetrievalReport", "judge", "judged_questions"]

_WHERE = {
    "JudgedQuestion": "questions",
    "Outcome": "retrieval",
    "RetrievalReport": "retrieval",
    "judge": "retrieval",
    "judged_questions": "questions",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
