"""A library's passages in an embedded Chroma, which is only a cache of it.

Chroma does not survive everything: a kill during a write or a full disk can leave a collection that fails, or grows,
when it is opened. So a collection is only ever opened if the last write to it came to its end. Layout of the folder::

    clean           the name of the folder below that is whole, and the probe of the embedding model, as JSON
    chroma-000003/  Chroma's own files

``clean`` is taken away before anything is written and put back behind it. Without it, or where anything is wrong, the
next folder is built from the library. Chroma's server is never used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.embeddings import Embeddings

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.errors import MissingExtraError, VectorStoreError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.offline import stay_offline
from chinese_alpaca_rag.retrieval.keeping_step import MARK, OnProgress, bring_store_in_step, wanted_documents
from chinese_alpaca_rag.retrieval.probing import alike, probe_of

if TYPE_CHECKING:
    from langchain_chroma import Chroma
    from numpy.typing import NDArray

FORMAT = 1
COLLECTION = "passages"
_CLEAN = "clean"
_NAME = re.compile(r"chroma-(\d{6,})")


def open_chroma_vectors(
    folder: Path | str, library: Library, embedding: Embeddings, *, on_progress: OnProgress | None = None
) -> Chroma:
    """A Chroma with exactly the passages of ``library``, as it is now, kept in ``folder``.

    Whatever is missing, damaged, half written or made with another embedding model is built again from the library.
    Only one process at a time opens or changes it here: LibraryBusyError. VectorStoreError where the folder cannot be
    written, MissingExtraError without langchain-chroma.
    """
    _chroma()
    place = Path(folder)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_writer(place):
            return _opened(place, library, embedding, on_progress)
    except OSError as error:
        raise VectorStoreError(
            Words(zh=f"{place} 无法写入：{error}", en=f"{place} cannot be written: {error}"),
            hint=Words(
                zh="检查磁盘空间和文件夹权限；知识库没有问题，这里只是它的副本。",
                en="Check the disk's free space and the folder's permissions; the library itself is in order.",
            ),
        ) from error


def _opened(place: Path, library: Library, embedding: Embeddings, on_progress: OnProgress | None) -> Chroma:
    probe = probe_of(embedding)
    wanted = wanted_documents(library)
    name = _clean_name(place, probe)
    if name:
        with contextlib.suppress(Exception):  # whatever Chroma raises of damaged files: it is built again
            store = _store(place / name, embedding)
            held = _held(store)
            if held == {one: document.metadata[MARK] for one, document in wanted.items()}:
                return store
            _take_away(place / _CLEAN)
            bring_store_in_step(store, wanted, held, on_progress=on_progress)
            _put_clean(place, name, probe)
            return store
    _take_away(place / _CLEAN)
    numbers = [int(match[1]) for each in place.iterdir() if (match := _NAME.fullmatch(each.name))]
    # A name of its own: Chroma keeps what it opened in this process by its path.
    name = f"chroma-{max(numbers, default=0) + 1:06d}"
    store = _store(place / name, embedding)
    bring_store_in_step(store, wanted, {}, on_progress=on_progress)
    _put_clean(place, name, probe)
    for each in place.iterdir():
        if each.name != name and _NAME.fullmatch(each.name):
            shutil.rmtree(each, ignore_errors=True)
    return store


def _store(folder: Path, embedding: Embeddings) -> Chroma:
    from chromadb.config import Settings

    store: Chroma = _chroma()(
        collection_name=COLLECTION,
        embedding_function=embedding,
        persist_directory=str(folder),
        client_settings=Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=str(folder)),
        collection_metadata={"hnsw:space": "cosine"},
    )
    return store


def _held(store: Chroma) -> dict[str, str]:
    found = store.get(include=["metadatas"])
    return {
        name: str((metadata or {}).get(MARK)) for name, metadata in zip(found["ids"], found["metadatas"], strict=True)
    }


def _clean_name(place: Path, probe: NDArray[np.float32]) -> str:
    """The folder that is whole and of this embedding model, empty where there is none."""
    try:
        written = json.loads((place / _CLEAN).read_bytes())
        name = str(written["name"])
        fits = written["format"] == FORMAT and alike(np.asarray(written["probe"], dtype=np.float32), probe)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name if fits and _NAME.fullmatch(name) and (place / name).is_dir() else ""


def _put_clean(place: Path, name: str, probe: NDArray[np.float32]) -> None:
    written = json.dumps({"format": FORMAT, "name": name, "probe": [float(value) for value in probe]})
    temporary = place / f".{_CLEAN}"
    with temporary.open("w", encoding="ascii") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / _CLEAN)
    wait_for_disk(place)


def _take_away(path: Path) -> None:
    path.unlink(missing_ok=True)
    wait_for_disk(path.parent)


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    lock = WriterLock(folder)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _chroma() -> Any:
    stay_offline(keep_tracing=True)
    try:
        from langchain_chroma import Chroma
    except ImportError as error:
        raise MissingExtraError.for_package("langchain-chroma", "dense") from error
    return Chroma
