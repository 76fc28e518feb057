"""Question answering and summarising over passages, as LangChain Runnables.

::

    qa = create_qa_chain(model, retriever)
    answer = qa.invoke("年假有几天？")            # Answer: text, checked citations, receipt
    for event in qa.stream("年假有几天？"): ...    # PlanMade, Progress, Token, and last Finished
    answers = qa.batch(["年假有几天？", "病假呢？"])  # what both are answered from is read once
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.chains.citations import check_citations
    from chinese_alpaca_rag.chains.events import AnswerEvent, Finished, PlanMade, Progress, SummaryEvent, Token
    from chinese_alpaca_rag.chains.packing_file import PackingFile
    from chinese_alpaca_rag.chains.packings import PackingMemory, RecentPackings
    from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, Prompts, TaskTexts
    from chinese_alpaca_rag.chains.question_answering import create_qa_chain
    from chinese_alpaca_rag.chains.results import Answer, Citation, Place, Receipt, Summary
    from chinese_alpaca_rag.chains.summarizing import create_summarize_chain

_HOMES = {
    "citations": ("check_citations",),
    "events": ("AnswerEvent", "Finished", "PlanMade", "Progress", "SummaryEvent", "Token"),
    "packing_file": ("PackingFile",),
    "packings": ("PackingMemory", "RecentPackings"),
    "prompts": ("DEFAULT_PROMPTS", "Prompts", "TaskTexts"),
    "question_answering": ("create_qa_chain",),
    "results": ("Answer", "Citation", "Place", "Receipt", "Summary"),
    "summarizing": ("create_summarize_chain",),
}

__all__ = [
    "DEFAULT_PROMPTS",
    "Answer",
    "AnswerEvent",
    "Citation",
    "Finished",
    "PackingFile",
    "PackingMemory",
    "Place",
    "PlanMade",
    "Progress",
    "Prompts",
    "Receipt",
    "RecentPackings",
    "Summary",
    "SummaryEvent",
    "TaskTexts",
    "Token",
    "check_citations",
    "create_qa_chain",
    "create_summarize_chain",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
