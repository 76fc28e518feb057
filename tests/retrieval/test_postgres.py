"""A real PostgreSQL with pgvector, started for these tests on a Unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import VectorStoreError, WrongUsageError
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import HybridRetriever, LibraryRetriever, open_postgres_vectors
from tests.library.samples import put
from tests.retrieval.character_embeddings import CharacterEmbeddings

pytest.importorskip("langchain_postgres", reason="needs the postgres extra")
pgserver = pytest.importorskip("pgserver", reason="carries a PostgreSQL")

PAGES = {
    "/年假.txt": "正式员工每年享有十五天带薪年假。",
    "/差旅.txt": "员工出差住宿每晚不超过五百元。",
    "/作息.txt": "员工每天工作八小时，九点上班。",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as library:
        for path, text in PAGES.items():
            put(library, path, text)
        yield library


def test_it_follows_the_library(url: str, library: Library) -> None:
    store = open_postgres_vectors(url, library, CharacterEmbeddings(), table="following")
    assert {one.metadata["source"] for one in store.similarity_search("年假", k=9)} == set(PAGES)
    assert store.similarity_search("带薪年假", k=1)[0].metadata["source"] == "/年假.txt"
    library.remove_file("/作息.txt")
    library.move_file("/差旅.txt", "/出差.txt", modified_ns=1)
    put(library, "/年假.txt", "年假改为二十天。")
    embedding = CharacterEmbeddings()
    store = open_postgres_vectors(url, library, embedding, table="following")
    assert sorted(embedding.embedded) == ["员工出差住宿每晚不超过五百元。", "年假改为二十天。"]
    assert {one.metadata["source"] for one in store.similarity_search("年假", k=9)} == {"/年假.txt", "/出差.txt"}


def test_libraries_share_a_table(url: str, library: Library, tmp_path: Path) -> None:
    with Library.open(tmp_path / "other", create=True) as other:
        put(other, "/年假.txt", "临时工没有年假。")
        open_postgres_vectors(url, library, CharacterEmbeddings(), table="shared")
        store = open_postgres_vectors(url, other, CharacterEmbeddings(), table="shared")
        assert len(store.similarity_search("年假", k=9)) == 4
        hybrid = HybridRetriever(lexical=LibraryRetriever(library=other), store=store)
        assert [found.page_content for found in hybrid.invoke("年假")] == ["临时工没有年假。"]
        other.remove_file("/年假.txt")
        store = open_postgres_vectors(url, other, CharacterEmbeddings(), table="shared")
        assert len(store.similarity_search("年假", k=9)) == 3


def test_hostile_text_is_stored(url: str, library: Library) -> None:
    put(library, "/'; DROP TABLE passages; --\udcff", "a\x00b \ud800'); --")
    store = open_postgres_vectors(url, library, CharacterEmbeddings(), table="hostile")
    assert len(store.similarity_search("a", k=9)) == 4


def test_wrong_uses(url: str, library: Library) -> None:
    with pytest.raises(WrongUsageError, match="passages"):
        open_postgres_vectors(url, library, CharacterEmbeddings(), table="x; DROP TABLE y")
    secret = "postgresql://somebody:geheim@/nothing?host=/nowhere"
    with pytest.raises(VectorStoreError) as caught:
        open_postgres_vectors(secret, library, CharacterEmbeddings())
    assert "geheim" not in str(caught.value)
    open_postgres_vectors(url, library, CharacterEmbeddings(), table="sized")
    from langchain_core.embeddings import DeterministicFakeEmbedding

    with pytest.raises(VectorStoreError, match="16"):
        open_postgres_vectors(url, library, DeterministicFakeEmbedding(size=16), table="sized")
