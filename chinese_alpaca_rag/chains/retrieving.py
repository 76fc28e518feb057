"""What is found for a question, and what still ranks for it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig

from chinese_alpaca_rag.chains.sources import Excerpt, excerpts_of

Retriever = Runnable[str, list[Document]]


def find(retriever: Retriever, question: str, config: RunnableConfig) -> list[Excerpt]:
    """What the retriever finds, best first."""
    return excerpts_of(retriever.invoke(question, config))


def find_more(retriever: Retriever, question: str, found: Sequence[Excerpt], *, wider: int, most: int) -> list[Excerpt]:
    """``found`` and what ranks behind it: ``wider`` times as many passages as the retriever gives, or ``most``.

    Just ``found`` from a retriever that does not take the keyword ``k``. Callbacks are not told: nothing of
    this is put before the model unless it was there before.
    """
    usual = _usual_number(retriever)
    if usual is None or usual >= most:
        return list(found)
    quiet: RunnableConfig = {"callbacks": []}
    ranked = excerpts_of(retriever.invoke(question, quiet, k=min(wider * usual, most)))
    return list(dict.fromkeys([*found, *ranked]))


def _usual_number(retriever: Retriever) -> int | None:
    """How many passages the retriever gives unless it is asked for ``k``; None where it cannot be asked."""
    number = getattr(retriever, "k", None)
    if not isinstance(retriever, BaseRetriever) or not isinstance(number, int):
        return None
    return number if "k" in inspect.signature(retriever._get_relevant_documents).parameters else None
