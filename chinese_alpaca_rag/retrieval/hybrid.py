"""Full-text search and vectors together."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field

from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval.fusion import fused_by_rank
from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever


class HybridRetriever(BaseRetriever):
    """The best passages of a library by full-text search and by vectors, merged by their ranks.

    ``lexical`` says which library and which part of it, ``k`` how many documents. ``store`` is any LangChain vector
    store that holds the library's passages as ``passage_document`` gives them, such as ``open_library_vectors`` keeps.
    What it holds of files that have changed or gone, or outside of the part, is never returned. ``fetch``: how many
    each side gives; ``weights`` of full text and of vectors. Each document's ``score`` is that of the fusion, and
    ``lexical_rank`` and ``dense_rank``, from 1, say where it stood, None where it did not.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    lexical: LibraryRetriever
    store: VectorStore
    k: int = Field(default=12, ge=1)
    fetch: int = Field(default=50, ge=1)
    weights: tuple[float, float] = (1.0, 1.0)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self.k if k is None else k
        fetch = max(self.fetch, wanted)
        library = self.lexical.opened()
        # The whole of the library answers that there is nothing in it.
        by_words = self.lexical.invoke(query, {"callbacks": run_manager.get_child()}, k=fetch)
        by_vectors = self._current(self.store.similarity_search(query, k=fetch) if query.strip() else [], library)
        return fused(by_words, by_vectors, self.weights)[:wanted]

    def _current(self, documents: Sequence[Document], library: Library) -> list[Document]:
        """Those that are passages of the library, and of the part that is wanted, word for word."""
        known = library.passage_ids(self.lexical.scope)
        numbers = [document.metadata.get("passage_id") for document in documents]
        passages = {passage.id: passage for passage in library.passages_by_id([n for n in numbers if n in known])}
        found = []
        for document, number in zip(documents, numbers, strict=True):
            passage = passages.get(number) if isinstance(number, int) else None
            if passage is not None and passage.text == document.page_content:
                found.append(passage_document(passage))
        return found


def fused(
    by_words: Sequence[Document], by_vectors: Sequence[Document], weights: tuple[float, float] = (1.0, 1.0)
) -> list[Document]:
    """Two rankings as one, by reciprocal rank fusion (``fusion.fused_by_rank``), best first."""
    return [
        each.with_metadata(lexical_rank=each.ranks[0], dense_rank=each.ranks[1])
        for each in fused_by_rank((by_words, by_vectors), weights)
    ]
