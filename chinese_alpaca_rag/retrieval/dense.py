"""A library's passages by their vectors, which the library keeps itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from chinese_alpaca_rag.errors import VectorStoreError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.library.vectors import Embedder, PassageVectors
from chinese_alpaca_rag.retrieval.probing import alike, probe_of, unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Told how many texts are embedded, and of how many.
OnProgress = Callable[[int, int], None]

# Texts whose vectors are kept in one transaction: what an interruption can cost.
_AT_ONCE = 256


class LibraryVectors(VectorStore):
    """The passages of ``library`` by the cosine similarity of their vectors to a query's, -1 to 1, exactly.

    Nothing beside the library has to be kept in step: ``embed_missing`` computes what it has no vectors of yet and
    keeps them there, by the digest of the text, so that no text is embedded twice; they go in the same transaction as
    the passages. Passages without a vector are not found; ``missing`` says how many there are. Another embedding
    model starts with no vectors; those of the one before stay until a third comes. Reading may be done from several
    threads.
    """

    def __init__(self, library: Library, embedding: Embeddings) -> None:
        self.library = library
        self._embedding = embedding
        self._kept = PassageVectors(library)
        self._guard = threading.RLock()
        self._probe: NDArray[np.float32] | None = None
        self._state: tuple[int, int] | None = None
        self._ids: NDArray[np.int64] | None = None
        self._matrix: NDArray[np.float32] | None = None

    @property
    def embeddings(self) -> Embeddings:
        """The model that makes the vectors."""
        return self._embedding

    @property
    def missing(self) -> int:
        """How many passages have no vector of this model."""
        ids, _ = self._vectors()
        return self.library.passage_count() - len(ids)

    def embed_missing(self, on_progress: OnProgress | None = None) -> int:
        """Embed every text that has no vector yet and keep it; how many there were.

        What was done stays when it is interrupted. VectorStoreError for a model that gives no usable vectors; the
        library's own errors where it cannot be written.
        """
        import numpy as np

        known = self._embedder()
        if known is not None and not self.missing:
            return 0
        embedder = self._kept.use(self._fingerprint(), self._own_probe().tobytes(), known)
        left = list(self._kept.without(embedder).items())
        for start in range(0, len(left), _AT_ONCE):
            some = left[start : start + _AT_ONCE]
            texts = {passage.id: passage.text for passage in self.library.passages_by_id([one for _, one in some])}
            held = [(digest, texts[number]) for digest, number in some if number in texts]
            made = np.asarray(self._embedding.embed_documents([text for _, text in held]), dtype=np.float32)
            if made.shape != (len(held), len(self._own_probe())) or not np.isfinite(made).all():
                raise _no_vectors()
            self._kept.put(
                embedder, [(digest, row.tobytes()) for (digest, _), row in zip(held, unit(made), strict=True)]
            )
            if on_progress is not None:
                on_progress(start + len(some), len(left))
        return len(left)

    # Searching

    def similarity_search(self, query: str, k: int = 4, *, scope: Scope | None = None, **_: Any) -> list[Document]:
        """The ``k`` passages most alike to ``query``, best first, of a part of the library or all of it."""
        return [document for document, _ in self.similarity_search_with_score(query, k, scope=scope)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, scope: Scope | None = None, **_: Any
    ) -> list[tuple[Document, float]]:
        """The same, each with its cosine similarity, which its metadata has as well."""
        return self._search(self._embedding.embed_query(query), k, scope)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, scope: Scope | None = None, **_: Any
    ) -> list[Document]:
        """The ``k`` passages most alike to a vector."""
        return [document for document, _ in self._search(embedding, k, scope)]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda similarity: min(1.0, max(0.0, (similarity + 1) / 2))

    def _search(self, vector: Sequence[float], k: int, scope: Scope | None) -> list[tuple[Document, float]]:
        import numpy as np

        ids, matrix = self._vectors()
        if not len(ids) or k < 1:
            return []
        similar = matrix @ unit(np.asarray([vector], dtype=np.float32))[0]
        if scope is not None and not scope.is_everything:
            within = np.fromiter(self.library.passage_ids(scope), dtype=np.int64)
            rows = np.flatnonzero(np.isin(ids, within))
        else:
            rows = np.arange(len(ids))
        if len(rows) > k:
            rows = rows[np.argpartition(-similar[rows], k - 1)[:k]]
        best = sorted(rows.tolist(), key=lambda row: (-similar[row], ids[row]))
        passages = {one.id: one for one in self.library.passages_by_id([int(ids[row]) for row in best])}
        return [
            (passage_document(passages[int(ids[row])], float(similar[row])), float(similar[row]))
            for row in best
            if int(ids[row]) in passages
        ]

    # What is kept

    def _vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids, and unit vectors of shape (passages, dimension), as the library has them now."""
        import numpy as np

        with self._guard:
            state = self._kept.state()
            if self._ids is None or self._matrix is None or state != self._state:
                embedder = self._embedder()
                ids, content = self._kept.read(embedder) if embedder is not None else ([], b"")
                dimension = len(self._own_probe())
                self._ids = np.asarray(ids, dtype=np.int64)
                self._matrix = np.frombuffer(content, dtype=np.float32).reshape(len(ids), dimension)
                self._state = state
            return self._ids, self._matrix

    def _embedder(self) -> Embedder | None:
        """The model under which the library keeps vectors of this one."""
        import numpy as np

        fingerprint = self._fingerprint()
        for known in self._kept.embedders():
            if fingerprint and known.fingerprint:
                same = fingerprint == known.fingerprint
            else:
                same = alike(np.frombuffer(known.probe, dtype=np.float32), self._own_probe())
            if same:
                return known
        return None

    def _fingerprint(self) -> str:
        return str(getattr(self._embedding, "fingerprint", "") or "")

    def _own_probe(self) -> NDArray[np.float32]:
        if self._probe is None:
            self._probe = probe_of(self._embedding)
        return self._probe

    # It follows the library

    def add_texts(self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, **_: Any) -> list[str]:
        """WrongUsageError: what is in here is what the library holds."""
        raise _follows_the_library()

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool | None:
        """WrongUsageError: what is in here is what the library holds."""
        raise _follows_the_library()

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, **_: Any
    ) -> LibraryVectors:
        """WrongUsageError: what is in here is what the library holds."""
        raise _follows_the_library()


def _follows_the_library() -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh="这些向量跟随知识库，不能另外增减。",
            en="These vectors follow their library; nothing is added to them or taken away.",
        ),
        hint=Words(
            zh="把文件读入知识库，再调用 embed_missing；或用 FaissStore 存放别的文字。",
            en="Ingest files into the library and call embed_missing, or keep other texts in a FaissStore.",
        ),
    )


def _no_vectors() -> VectorStoreError:
    return VectorStoreError(
        Words(zh="嵌入模型没有给出可用的向量。", en="The embedding model did not give usable vectors."),
        hint=Words(zh="检查模型文件是否完整。", en="Check whether the model's files are whole."),
    )
