"""The vectors of a library's passages, kept in step with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from chinese_alpaca_rag.errors import EmbeddingChangedError, VectorStoreDamagedError, VectorStoreNotFoundError
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval.faiss_store import FaissStore

#: Told how many passages are embedded, and of how many.
OnProgress = Callable[[int, int], None]

# Passages added between two reports of progress.
_AT_ONCE = 512


def open_library_vectors(
    folder: Path | str, library: Library, embedding: Embeddings, *, on_progress: OnProgress | None = None
) -> FaissStore:
    """A store with exactly the passages of ``library``, as it is now, saved in ``folder``.

    It is only a copy of what the library holds: where it is missing, damaged or made with another embedding model it
    is made anew, and where the library has changed only what changed is embedded. Raises what ``FaissStore.save`` does.
    """
    replace = False
    try:
        store = FaissStore.open(folder, embedding)
    except (VectorStoreNotFoundError, VectorStoreDamagedError, EmbeddingChangedError):
        store = FaissStore(embedding)
        replace = True
    if bring_in_step(store, library, on_progress=on_progress) or replace:
        store.save(folder, replace=replace)
    return store


def bring_in_step(store: FaissStore, library: Library, *, on_progress: OnProgress | None = None) -> int:
    """Add what ``library`` has and ``store`` has not, remove what it has not any more; how many changed.

    A passage that only moved, as when its file was renamed, is not embedded again.
    """
    wanted = _documents(library)
    held = {document.id: document for document in store.documents()}
    new = [document for name, document in wanted.items() if held.get(name) != document]
    gone = [name for name in held if name is not None and name not in wanted]
    for start in range(0, len(new), _AT_ONCE):
        store.add_documents(new[start : start + _AT_ONCE])
        if on_progress is not None:
            on_progress(min(start + _AT_ONCE, len(new)), len(new))
    if gone:
        store.delete(gone)  # last: texts that only moved lend their vectors before
    return len(new) + len(gone)


def _documents(library: Library) -> dict[str | None, Document]:
    passages = (passage for file in library.files() for passage in library.passages(file.path))
    documents = map(passage_document, passages)
    return {document.id: document for document in documents}
