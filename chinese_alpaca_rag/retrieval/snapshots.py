"""Vectors and their documents on disk: whole snapshots, each checked against its digests before it is believed.

Layout of a store's folder::

    current                  the name of the snapshot that counts
    snapshot-000007/
        manifest.json        format, number and dimension of the vectors, the probe, SHA-256 of the other files
        vectors.npy          float32, one row a document, unit length
        documents.jsonl      id, page_content and metadata, one a line, in the rows' order
        graph.faiss          only where the store searches through a graph: its links, as faiss writes them
        nodes.npy            then also: int64, each row's node in the graph
        removed.npy          then also: float32, the vectors of the graph's other nodes, whose documents are gone

A snapshot is written beside the others, synced, and then named in ``current`` by one rename: a kill at any moment
leaves the old one or the new one. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.errors import (
    VectorStoreChangedError,
    VectorStoreDamagedError,
    VectorStoreError,
    VectorStoreNotFoundError,
    WrongUsageError,
)
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.retrieval.vector_index import SavedGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = 1
_CURRENT = "current"
_NAME = re.compile(r"snapshot-(\d{6,})")
_VECTORS, _DOCUMENTS, _MANIFEST = "vectors.npy", "documents.jsonl", "manifest.json"
_GRAPH, _NODES, _REMOVED = "graph.faiss", "nodes.npy", "removed.npy"
_OF_GRAPH = (_GRAPH, _NODES, _REMOVED)


@dataclass(frozen=True)
class Snapshot:
    """What a store holds. ``vectors``: float32, shape (documents, dimension); ``probe``: of a fixed text.

    ``graph``: None for one that searches exactly.
    """

    documents: Sequence[Document]
    vectors: NDArray[np.float32]
    probe: NDArray[np.float32]
    graph: SavedGraph | None = None


def current_snapshot(folder: Path) -> str:
    """The name of the snapshot that counts, empty where there is none. VectorStoreDamagedError for another content."""
    try:
        name = (folder / _CURRENT).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(folder, str(error)) from error
    if not _NAME.fullmatch(name):
        raise damaged(folder, _CURRENT)
    return name


def read_snapshot(folder: Path) -> tuple[str, Snapshot]:
    """The current snapshot with its name. VectorStoreNotFoundError, or VectorStoreDamagedError unless all is right."""
    name = current_snapshot(folder)
    if not name:
        raise _not_found(folder)
    place = folder / name
    try:
        manifest = json.loads((place / _MANIFEST).read_bytes())
        parts = [_VECTORS, _DOCUMENTS, *(part for part in _OF_GRAPH if part in manifest["sha256"])]
        contents = {part: (place / part).read_bytes() for part in parts}
        for part, content in contents.items():
            if hashlib.sha256(content).hexdigest() != manifest["sha256"][part]:
                raise damaged(folder, part)
        if manifest["format"] != FORMAT:
            raise damaged(folder, f"format {manifest['format']}")
        vectors = _array(contents[_VECTORS])
        documents = [_document(line) for line in contents[_DOCUMENTS].splitlines()]
        probe = np.asarray(manifest["probe"], dtype=np.float32)
        fits = vectors.dtype == np.float32 and vectors.shape == (len(documents), manifest["dimension"])
        if not fits or probe.shape != (manifest["dimension"],):
            raise damaged(folder, _VECTORS)
        graph = None
        if contents.keys() & _OF_GRAPH:
            graph = SavedGraph(contents[_GRAPH], _array(contents[_NODES]), _array(contents[_REMOVED]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(folder, str(error)) from error
    return name, Snapshot(documents, vectors, probe, graph)


def write_snapshot(folder: Path, snapshot: Snapshot, *, after: str | None) -> str:
    """Write ``snapshot`` and make it the current one; its name.

    ``after`` is the name of the one it goes on from, empty for none: VectorStoreChangedError where another is there,
    which then stays; None replaces whatever is there. VectorStoreError where the folder cannot be written,
    WrongUsageError for metadata that JSON cannot hold.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_writer(folder):
            if after is not None and current_snapshot(folder) != after:
                raise _changed(folder)
            numbers = [int(match[1]) for each in folder.iterdir() if (match := _NAME.fullmatch(each.name))]
            name = f"snapshot-{max(numbers, default=0) + 1:06d}"
            writing = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
            try:
                _write_parts(writing, snapshot)
                writing.rename(folder / name)
            except BaseException:
                shutil.rmtree(writing, ignore_errors=True)
                raise
            wait_for_disk(folder)
            temporary = folder / f".{_CURRENT}"
            _write(temporary, name.encode())
            temporary.replace(folder / _CURRENT)
            wait_for_disk(folder)
            _remove_others(folder, name)
    except OSError as error:
        raise VectorStoreError(
            Words(zh=f"向量库 {folder} 无法写入：{error}", en=f"The vector store {folder} cannot be written: {error}"),
            hint=Words(
                zh="检查磁盘空间和文件夹权限，再保存一次；原有的内容没有改动。",
                en="Check the disk's free space and the folder's permissions, then save again; nothing is lost.",
            ),
        ) from error
    return name


def _write_parts(place: Path, snapshot: Snapshot) -> None:
    lines = [_line(document) for document in snapshot.documents]
    contents = {
        _VECTORS: _npy(np.ascontiguousarray(snapshot.vectors, dtype=np.float32)),
        _DOCUMENTS: "".join(lines).encode("ascii"),
    }
    if snapshot.graph is not None:
        graph = snapshot.graph
        contents |= {_GRAPH: graph.links, _NODES: _npy(graph.nodes), _REMOVED: _npy(graph.removed)}
    manifest = {
        "format": FORMAT,
        "documents": len(snapshot.documents),
        "dimension": int(snapshot.vectors.shape[1]),
        "probe": [float(value) for value in snapshot.probe],
        "sha256": {part: hashlib.sha256(content).hexdigest() for part, content in contents.items()},
    }
    for part, content in contents.items():
        _write(place / part, content)
    _write(place / _MANIFEST, json.dumps(manifest).encode("ascii"))
    wait_for_disk(place)


def _npy(array: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def _array(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _line(document: Document) -> str:
    record = {"id": document.id, "page_content": document.page_content, "metadata": document.metadata}
    try:
        return json.dumps(record, ensure_ascii=True) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongUsageError(
            Words(
                zh=f"文档 {document.id} 的元数据无法保存：{error}",
                en=f"The metadata of the document {document.id} cannot be saved: {error}",
            ),
            hint=Words(
                zh="元数据里只放文字、数字、真假、空值，以及它们的列表和字典。",
                en="Keep to text, numbers, true, false, null, and lists and dictionaries of them.",
            ),
        ) from error


def _document(line: bytes) -> Document:
    record = json.loads(line)
    return Document(id=record["id"], page_content=record["page_content"], metadata=record["metadata"])


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    lock = WriterLock(folder)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_others(folder: Path, name: str) -> None:
    """Take away older snapshots and what a killed process left behind."""
    for each in folder.iterdir():
        if each.name != name and (_NAME.fullmatch(each.name) or each.name.startswith(".writing-")):
            shutil.rmtree(each, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


_ANEW = Words(
    zh="向量可以重新算出：删掉这个文件夹，再建立一次。",
    en="Vectors can be computed again: remove the folder and build the store anew.",
)


def _not_found(folder: Path) -> VectorStoreNotFoundError:
    return VectorStoreNotFoundError(
        Words(zh=f"{folder} 里没有向量库。", en=f"There is no vector store in {folder}."),
        hint=Words(zh="先用 save 保存一个。", en="Save one there first."),
    )


def damaged(folder: Path, what: str) -> VectorStoreDamagedError:
    """The error for a store in ``folder`` whose part ``what`` is not as it was written."""
    return VectorStoreDamagedError(
        Words(zh=f"向量库 {folder} 已损坏：{what}", en=f"The vector store {folder} is damaged: {what}"), hint=_ANEW
    )


def _changed(folder: Path) -> VectorStoreChangedError:
    return VectorStoreChangedError(
        Words(
            zh=f"读入之后，另一个进程保存过向量库 {folder}。",
            en=f"Another process has saved the vector store {folder} since it was read.",
        ),
        hint=Words(zh="重新打开它，再做一次改动。", en="Open it again and make the change once more."),
    )
