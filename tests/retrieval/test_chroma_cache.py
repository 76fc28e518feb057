"""Chroma as a cache of a library: whatever happens to it, what is found is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from chinese_alpaca_rag.errors import LibraryBusyError
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import HybridRetriever, LibraryRetriever, open_chroma_vectors
from tests.library.samples import put
from tests.retrieval.character_embeddings import CharacterEmbeddings

pytest.importorskip("langchain_chroma", reason="needs the dense extra")

PAGES = {
    "/年假.txt": "正式员工每年享有十五天带薪年假。",
    "/差旅.txt": "员工出差住宿每晚不超过五百元。",
    "/作息.txt": "员工每天工作八小时，九点上班。",
}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as library:
        for path, text in PAGES.items():
            put(library, path, text)
        yield library


def sources(library: Library, folder: Path) -> set[str]:
    store = open_chroma_vectors(folder, library, CharacterEmbeddings())
    return {found.metadata["source"] for found in store.similarity_search("年假", k=9)}


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with Library.open(tmp_path / "library", create=True) as library:
            yield open_chroma_vectors(tmp_path / "chroma", library, self.get_embeddings())


def test_it_follows_the_library(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    assert sources(library, folder) == set(PAGES)
    library.remove_file("/作息.txt")
    library.move_file("/差旅.txt", "/出差.txt", modified_ns=1)
    put(library, "/年假.txt", "年假改为二十天。")
    embedding = CharacterEmbeddings()
    store = open_chroma_vectors(folder, library, embedding)
    assert sorted(embedding.embedded) == ["员工出差住宿每晚不超过五百元。", "年假改为二十天。"]
    assert {one.metadata["source"] for one in store.similarity_search("年假", k=9)} == {"/年假.txt", "/出差.txt"}
    again = CharacterEmbeddings()
    open_chroma_vectors(folder, library, again)
    assert again.embedded == []


def test_together_with_words(library: Library, tmp_path: Path) -> None:
    store = open_chroma_vectors(tmp_path / "chroma", library, CharacterEmbeddings())
    hybrid = HybridRetriever(lexical=LibraryRetriever(library=library), store=store)
    assert hybrid.invoke("年假有几天？")[0].metadata["dense_rank"] == 1
    library.remove_file("/年假.txt")
    assert all(found.metadata["source"] != "/年假.txt" for found in hybrid.invoke("年假"))


def test_another_model_makes_it_anew(library: Library, tmp_path: Path) -> None:
    open_chroma_vectors(tmp_path / "chroma", library, CharacterEmbeddings())
    store = open_chroma_vectors(tmp_path / "chroma", library, DeterministicFakeEmbedding(size=16))
    assert len(store.similarity_search("年假", k=9)) == 3


@pytest.mark.parametrize("damage", ["database", "marker", "no marker", "no folder", "other marker"])
def test_damage_is_made_good(library: Library, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "chroma"
    script = f"""
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import open_chroma_vectors
from tests.retrieval.character_embeddings import CharacterEmbeddings
with Library.open({str(library.folder)!r}, readonly=True) as library:
    open_chroma_vectors({str(folder)!r}, library, CharacterEmbeddings())
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    [inner] = folder.glob("chroma-*")
    match damage:
        case "database":
            (inner / "chroma.sqlite3").write_bytes(b"damaged" * 999)
        case "marker":
            (folder / "clean").write_bytes(b"[")
        case "other marker":
            (folder / "clean").write_text('{"format": 1, "name": "../library", "probe": []}')
        case "no marker":
            (folder / "clean").unlink()
        case "no folder":
            inner.rename(tmp_path / "elsewhere")
    assert sources(library, folder) == set(PAGES)
    assert len(list(folder.glob("chroma-*"))) == 1


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3, 0.6])
def test_a_kill_while_writing(library: Library, tmp_path: Path, wait: float) -> None:
    put(library, "/many.txt", *(f"第{number}条规定。" for number in range(3000)))
    folder = tmp_path / "chroma"
    script = f"""
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import open_chroma_vectors
from tests.retrieval.character_embeddings import CharacterEmbeddings
with Library.open({str(library.folder)!r}, readonly=True) as library:
    open_chroma_vectors({str(folder)!r}, library, CharacterEmbeddings(), on_progress=lambda *_: print("on", flush=True))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    library.remove_file("/many.txt")
    assert sources(library, folder) == set(PAGES)


def test_one_writer_at_a_time(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chinese_alpaca_rag.library.lock.PATIENCE_SECONDS", 0.1)
    (tmp_path / "chroma").mkdir()
    other = WriterLock(tmp_path / "chroma")
    other.acquire()
    with pytest.raises(LibraryBusyError):
        open_chroma_vectors(tmp_path / "chroma", library, CharacterEmbeddings())
    other.release()
