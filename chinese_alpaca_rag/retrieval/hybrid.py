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
from chinese_alpaca_rag.retrieval.dense import LibraryVectors
from chinese_alpaca_rag.retrieval.fusion import fused_by_rank
from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever
from chinese_alpaca_rag.retrieval.quoting import quotes_first

# Far below the usual 60, with which the agreement of two rankings counts for more than the first place in either: of
# questions whose passage full-text search has first, an embedding model of characters then loses one in three.
RANK_CONSTANT = 2


class HybridRetriever(BaseRetriever):
    """The best passages of a library by full-text search and by vectors, merged by their ranks.

    ``lexical`` says which library and which part of it, ``k`` how many documents. ``store`` is ``LibraryVectors`` of
    the same library, or any LangChain vector store that holds its passages as ``passage_document`` gives them, such as
    ``open_library_vectors`` keeps. What it holds of files that have changed or gone, or outside of the part, is never
    returned. Passages that hold what the question quotes come first. ``fetch``: how many
    each side gives; ``weights`` of full text and of vectors, and the ``rank_constant`` of their fusion: by default such
    that a weak embedding model takes next to nothing from full-text search (``benchmarks.fit_fusion_weights``). Each
    document's ``score`` is that of the fusion, and ``lexical_rank`` and ``dense_rank``, from 1, say where it stood,
    None where it did not.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    lexical: LibraryRetriever
    store: VectorStore
    k: int = Field(default=12, ge=1)
    fetch: int = Field(default=50, ge=1)
    weights: tuple[float, float] = (1.0, 0.5)
    rank_constant: float = Field(default=RANK_CONSTANT, ge=0)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self.k if k is None else k
        fetch = max(self.fetch, wanted)
        library = self.lexical.opened()
        # The whole of the library answers that there is nothing in it.
        by_words = self.lexical.invoke(query, {"callbacks": run_manager.get_child()}, k=fetch)
        by_vectors = self._by_vectors(query, fetch, library) if query.strip() else []
        return quotes_first(fused(by_words, by_vectors, self.weights, self.rank_constant), query)[:wanted]

    def _by_vectors(self, query: str, fetch: int, library: Library) -> list[Document]:
        if isinstance(self.store, LibraryVectors) and self.store.library is library:
            return self.store.similarity_search(query, fetch, scope=self.lexical.scope)
        return self._current(self.store.similarity_search(query, k=fetch), library)

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
    by_words: Sequence[Document],
    by_vectors: Sequence[Document],
    weights: tuple[float, float] = (1.0, 1.0),
    constant: float = RANK_CONSTANT,
) -> list[Document]:
    """Two rankings as one, by reciprocal rank fusion (``fusion.fused_by_rank``), best first."""
    return [
        each.with_metadata(lexical_rank=each.ranks[0], dense_rank=each.ranks[1])
        for each in fused_by_rank((by_words, by_vectors), weights, constant=constant)
    ]
