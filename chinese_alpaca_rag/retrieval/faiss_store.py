"""A LangChain vector store over faiss: cosine similarity, snapshots on disk that survive anything."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from chinese_alpaca_rag.errors import EmbeddingChangedError, VectorStoreError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.retrieval.snapshots import Snapshot, damaged, read_snapshot, write_snapshot
from chinese_alpaca_rag.retrieval.vector_index import EXACT_UP_TO, VectorIndex, load_faiss

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Which documents are searched: those for which a function says so, or whose metadata has these values.
Filter = Callable[[Document], bool] | dict[str, Any]

# Embedded when a store is saved and when it is opened: the same model gives nearly the same vector.
_PROBE = "年假有几天？ How many days of annual leave are there?"
_LEAST_ALIKE = 0.999
_AT_ONCE = 256  # texts embedded in one call


class FaissStore(VectorStore):
    """Documents found by the cosine similarity of their embeddings, -1 to 1, higher is better.

    In memory until ``save`` writes it to a folder; ``open`` reads it again. Adding a document whose id is there
    replaces it. A text that is in the store already is not embedded again. May be used from several threads. ``filter``
    of the searches is a function of a document, or metadata that it must have. MissingExtraError without faiss.

    Up to ``exact_up_to`` different vectors every search is exact, and its time grows with their number: 14 ms for
    100,000 of 512 numbers on one core of a server. Beyond, a graph is walked that misses one of the nearest now and
    then (``vector_index``). The addition that crosses the line builds it, which takes minutes; ``save`` keeps it.
    """

    def __init__(self, embedding: Embeddings, exact_up_to: int = EXACT_UP_TO) -> None:
        load_faiss()  # said now, not after everything is embedded
        self._embedding = embedding
        self._exact_up_to = exact_up_to
        self._guard = threading.RLock()
        self._index: VectorIndex | None = None
        self._next = 0
        self._keys: dict[str, int] = {}  # by document id
        self._documents: dict[int, Document] = {}  # by key, in the order of adding
        self._by_text: dict[str, dict[int, None]] = {}  # keys by content
        self._snapshot = ""

    @property
    def embeddings(self) -> Embeddings:
        """The model that makes the vectors."""
        return self._embedding

    def documents(self) -> list[Document]:
        """Every document, in the order of adding."""
        with self._guard:
            return [_copy(document) for document in self._documents.values()]

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self._documents)

    # On disk

    @classmethod
    def open(cls, folder: Path | str, embedding: Embeddings, *, exact_up_to: int = EXACT_UP_TO) -> FaissStore:
        """The store that was saved in ``folder``; a graph that it needs and that was not saved is built.

        VectorStoreNotFoundError where there is none, VectorStoreDamagedError where it is not as it was written,
        EmbeddingChangedError where ``embedding`` is not the model that made its vectors.
        """
        name, snapshot = read_snapshot(Path(folder))
        store = cls(embedding, exact_up_to)
        if len(snapshot.probe):
            probe = _unit(np.asarray([embedding.embed_query(_PROBE)], dtype=np.float32))[0]
            if probe.shape != snapshot.probe.shape or float(probe @ snapshot.probe) < _LEAST_ALIKE:
                raise _another_embedding(Path(folder))
        if snapshot.documents:
            keys = store._keys_for(snapshot.documents)
            store._register(snapshot.documents, keys)
            try:
                store._index = VectorIndex.restored(keys, snapshot.vectors, exact_up_to, snapshot.graph)
            except ValueError as error:
                raise damaged(Path(folder), str(error)) from error
        store._snapshot = name
        return store

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write everything to ``folder``; what is there stays until the new snapshot is whole.

        VectorStoreChangedError where another process saved it since it was opened here, unless ``replace`` says that
        whatever is there, damaged or not, is to go.
        """
        with self._guard:
            keys = list(self._documents)
            probe, graph = np.zeros(0, dtype=np.float32), None
            if self._index is not None:
                graph = self._index.saved_graph(keys)
                probe = _unit(np.asarray([self._embedding.embed_query(_PROBE)], dtype=np.float32))[0]
            snapshot = Snapshot([self._documents[key] for key in keys], self._vectors(keys), probe, graph)
            self._snapshot = write_snapshot(Path(folder), snapshot, after=None if replace else self._snapshot)

    # Adding and removing

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        exact_up_to: int = EXACT_UP_TO,
        **_: Any,
    ) -> FaissStore:
        """A new store with ``texts`` in it."""
        store = cls(embedding, exact_up_to)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Embed and add ``texts``; their ids, new ones where none are given."""
        contents = list(texts)
        for given in (metadatas, ids):
            if given is not None and len(given) != len(contents):
                raise _numbers_clash(len(contents), len(given))
        names = [name or str(uuid.uuid4()) for name in ids or [None] * len(contents)]
        documents = [
            Document(id=name, page_content=content, metadata=dict(metadata))
            for name, content, metadata in zip(names, contents, metadatas or [{}] * len(contents), strict=True)
        ]
        # Of documents with one id the last counts.
        last = {document.id: document for document in documents}
        with self._guard:
            self._put(list(last.values()), self._embedded([document.page_content for document in last.values()]))
        return names

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Remove the documents with these ids, all without any; ids that are not there are no error."""
        with self._guard:
            self._drop(list(self._keys) if ids is None else ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, without those that are not there."""
        with self._guard:
            return [_copy(self._documents[self._keys[name]]) for name in ids if name in self._keys]

    # Searching

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **_: Any) -> list[Document]:
        """The ``k`` documents most alike to ``query``, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **_: Any
    ) -> list[tuple[Document, float]]:
        """The same, each with its cosine similarity."""
        return self._search(self._embedding.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **_: Any
    ) -> list[Document]:
        """The ``k`` documents most alike to a vector."""
        return [document for document, _ in self._search(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **_: Any,
    ) -> list[Document]:
        """Documents that are alike to ``query`` and not to each other (Carbonell and Goldstein, 1998)."""
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, filter
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **_: Any,
    ) -> list[Document]:
        """The same for a vector."""
        with self._guard:
            found = self._found(embedding, fetch_k, filter)
            vectors = list(self._vectors([key for key, _ in found]))
            query = _unit(np.asarray([embedding], dtype=np.float32))[0]
            chosen = maximal_marginal_relevance(query, vectors, lambda_mult, k) if found else []
            return [_copy(self._documents[found[place][0]]) for place in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """LangChain's relevance lies between 0 and 1."""
        return lambda similarity: min(1.0, max(0.0, (similarity + 1) / 2))

    def _search(self, vector: Sequence[float], k: int, filter: Filter | None) -> list[tuple[Document, float]]:
        with self._guard:
            return [(_copy(self._documents[key]), score) for key, score in self._found(vector, k, filter)]

    def _found(self, vector: Sequence[float], k: int, filter: Filter | None) -> list[tuple[int, float]]:
        """Keys and similarities, best first."""
        if self._index is None or k < 1:
            return []
        query = _unit(np.asarray([vector], dtype=np.float32))
        self._check_dimension(query, self._index)
        among = None
        if filter is not None:
            among = [key for key, document in self._documents.items() if _passes(document, filter)]
        return self._index.search(query[0], k, among)

    # The index

    def _put(self, documents: Sequence[Document], vectors: NDArray[np.float32]) -> None:
        if not documents:
            return
        if self._index is not None:
            self._check_dimension(vectors, self._index)
        index = self._index if self._index is not None else VectorIndex(vectors.shape[1], self._exact_up_to)
        keys = self._keys_for(documents)
        index.add(keys, vectors)
        self._index = index
        self._register(documents, keys)

    def _keys_for(self, documents: Sequence[Document]) -> list[int]:
        """Of each its own where it is here already, new ones of the others."""
        new = count(self._next)
        return [self._keys[name] if (name := document.id or "") in self._keys else next(new) for document in documents]

    def _register(self, documents: Sequence[Document], keys: Sequence[int]) -> None:
        self._unregister(document.id or "" for document in documents)
        self._next = max(self._next, max(keys) + 1)
        for key, document in zip(keys, documents, strict=True):
            self._keys[document.id or ""] = key
            self._documents[key] = document
            self._by_text.setdefault(document.page_content, {})[key] = None

    def _unregister(self, names: Iterable[str]) -> list[int]:
        """The keys that the documents had."""
        keys = [self._keys.pop(name) for name in dict.fromkeys(names) if name in self._keys]
        for key in keys:
            content = self._documents.pop(key).page_content
            del self._by_text[content][key]
            if not self._by_text[content]:
                del self._by_text[content]
        return keys

    def _drop(self, names: Iterable[str]) -> None:
        keys = self._unregister(names)
        if not self._documents:
            self._index = None
        elif keys and self._index is not None:
            self._index.remove(keys)

    def _vectors(self, keys: Sequence[int]) -> NDArray[np.float32]:
        return np.zeros((0, 0), dtype=np.float32) if self._index is None else self._index.vectors(keys)

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (texts, dimension): those of texts that are here already, and new ones."""
        different = dict.fromkeys(texts)
        here = [text for text in different if text in self._by_text]
        rows = dict(zip(here, self._vectors([next(iter(self._by_text[text])) for text in here]), strict=True))
        new = sorted((text for text in different if text not in self._by_text), key=len)
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            made = np.asarray(self._embedding.embed_documents(some), dtype=np.float32)
            if made.ndim != 2 or len(made) != len(some) or not np.isfinite(made).all():
                raise _no_vectors()
            rows.update(zip(some, _unit(made), strict=True))
        return np.stack([rows[text] for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)

    def _check_dimension(self, vectors: NDArray[np.float32], index: VectorIndex) -> None:
        if vectors.shape[1] != index.dimension:
            raise EmbeddingChangedError(
                Words(
                    zh=f"向量是 {vectors.shape[1]} 维，库里的是 {index.dimension} 维。",
                    en=f"The vector has {vectors.shape[1]} dimensions, those of the store have {index.dimension}.",
                ),
                hint=Words(zh="请用建库时的嵌入模型。", en="Use the embedding model that the store was made with."),
            )


def _passes(document: Document, filter: Filter) -> bool:
    if callable(filter):
        return bool(filter(_copy(document)))
    return all(name in document.metadata and document.metadata[name] == value for name, value in filter.items())


def _copy(document: Document) -> Document:
    """A document of the caller's own: what is changed in it does not change the store."""
    return document.model_copy(deep=True)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def _another_embedding(folder: Path) -> EmbeddingChangedError:
    return EmbeddingChangedError(
        Words(
            zh=f"向量库 {folder} 不是用这个嵌入模型建立的。",
            en=f"The vector store {folder} was made with another embedding model.",
        ),
        hint=Words(
            zh="用原来的模型打开，或删掉这个文件夹，用新模型重建。",
            en="Open it with that model, or remove the folder and build it anew with this one.",
        ),
    )


def _numbers_clash(texts: int, given: int) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"有 {texts} 段文字，却给了 {given} 个元数据或编号。", en=f"{texts} texts, but {given} metadatas or ids."
        ),
        hint=Words(zh="每段文字一个。", en="Give one for each text."),
    )


def _no_vectors() -> VectorStoreError:
    return VectorStoreError(
        Words(zh="嵌入模型没有给出可用的向量。", en="The embedding model did not give usable vectors."),
        hint=Words(zh="检查模型文件是否完整。", en="Check whether the model's files are whole."),
    )
