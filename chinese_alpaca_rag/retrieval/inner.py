"""Asking the retriever that another one is built on."""

from __future__ import annotations

import inspect

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStoreRetriever


def found_by(
    retriever: BaseRetriever, query: str, k: int, run_manager: CallbackManagerForRetrieverRun
) -> list[Document]:
    """What ``retriever`` finds, ``k`` documents where it can be asked for a number and else as many as it gives."""
    config: RunnableConfig = {"callbacks": run_manager.get_child()}
    return retriever.invoke(query, config, k=k) if takes_number(retriever) else retriever.invoke(query, config)


def takes_number(retriever: BaseRetriever) -> bool:
    """Whether the retriever takes the keyword ``k`` when it is invoked."""
    # LangChain's retriever of vector stores hands every keyword on to the search.
    named = inspect.signature(retriever._get_relevant_documents).parameters
    return isinstance(retriever, VectorStoreRetriever) or "k" in named
