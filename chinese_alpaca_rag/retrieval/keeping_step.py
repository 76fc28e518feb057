"""Making any LangChain vector store hold what a library holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library

#: Told how many passages are embedded, and of how many.
OnProgress = Callable[[int, int], None]

#: In each document's metadata: a digest of all that is stored of it, and the absolute folder of its library.
MARK, LIBRARY = "alpaca_rag_digest", "alpaca_rag_library"

_AT_ONCE = 256


def wanted_documents(library: Library) -> dict[str, Document]:
    """Every passage as a document, by an id that is of this library and place alone.

    Text is such as every store takes: without halves of characters and without NUL.
    """
    wanted = {}
    for record in library.files():
        for passage in library.passages(record.path):
            document = passage_document(passage)
            name = blake2b(f"{library.absolute_folder}\n{document.id}".encode("utf-8", "replace"), digest_size=16)
            content = _storable(document.page_content)
            metadata = {
                key: _storable(value) if isinstance(value, str) else value for key, value in document.metadata.items()
            }
            metadata[LIBRARY] = _storable(library.absolute_folder)
            mark = blake2b(repr((content, sorted(metadata.items()))).encode("utf-8", "replace"), digest_size=16)
            metadata[MARK] = mark.hexdigest()
            wanted[name.hexdigest()] = Document(id=name.hexdigest(), page_content=content, metadata=metadata)
    return wanted


def bring_store_in_step(
    store: VectorStore,
    wanted: Mapping[str, Document],
    held: Mapping[str, str],
    *,
    on_progress: OnProgress | None = None,
) -> int:
    """Give ``store`` exactly the documents ``wanted``; how many changed.

    ``held``: what it has now of the library, ids with their digests (``MARK``).
    """
    new = [document for name, document in wanted.items() if held.get(name) != document.metadata[MARK]]
    gone = [name for name, mark in held.items() if name not in wanted or wanted[name].metadata[MARK] != mark]
    for start in range(0, len(gone), _AT_ONCE):
        store.delete(gone[start : start + _AT_ONCE])
    for start in range(0, len(new), _AT_ONCE):
        some = new[start : start + _AT_ONCE]
        store.add_documents(some, ids=[document.id for document in some])
        if on_progress is not None:
            on_progress(start + len(some), len(new))
    return len(new) + len(set(gone) - {document.id for document in new})


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
