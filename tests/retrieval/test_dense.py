from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.library.care import compact_library
from chinese_alpaca_rag.library.database import FILE_NAME
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import HybridRetriever, LibraryRetriever, LibraryVectors
from tests.library.samples import put
from tests.retrieval.character_embeddings import CharacterEmbeddings

np = pytest.importorskip("numpy")

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


def embedded(library: Library) -> list[str]:
    """What has to be embedded now."""
    embedding = CharacterEmbeddings()
    LibraryVectors(library, embedding).embed_missing()
    return sorted(embedding.embedded)


def test_the_most_alike_come_first(library: Library) -> None:
    vectors = LibraryVectors(library, CharacterEmbeddings())
    assert vectors.missing == 3
    assert vectors.similarity_search("年假") == []
    assert vectors.embed_missing() == 3
    assert vectors.missing == 0
    found = vectors.similarity_search_with_score("年假有几天", k=2)
    assert found[0][0].metadata["source"] == "/年假.txt"
    assert len(found) == 2
    assert found[0][1] == found[0][0].metadata["score"] > found[1][1]
    everything = vectors.similarity_search("年假", k=9)
    assert len(everything) == 3
    assert vectors.similarity_search("年假", k=0) == []
    only = vectors.similarity_search("年假", k=9, scope=Scope(("/作息.txt",)))
    assert [document.metadata["source"] for document in only] == ["/作息.txt"]
    by_vector = vectors.similarity_search_by_vector(CharacterEmbeddings().embed_query("年假"), k=3)
    assert by_vector == everything


def test_no_text_is_embedded_twice(library: Library) -> None:
    assert embedded(library) == sorted(PAGES.values())
    assert embedded(library) == []
    put(library, "/副本.txt", PAGES["/年假.txt"], "另一页。")
    put(library, "/差旅.txt", PAGES["/差旅.txt"], "补充规定。")
    library.move_file("/作息.txt", "/工时.txt", modified_ns=1)
    assert embedded(library) == ["另一页。", "补充规定。"]
    library.remove_file("/年假.txt")
    assert embedded(library) == []  # the text still stands in its copy


def test_vectors_go_with_the_last_passage_of_their_text(library: Library) -> None:
    put(library, "/副本.txt", PAGES["/年假.txt"])
    embedded(library)

    def kept() -> int:
        return int(library._rows("SELECT count(*) FROM vectors")[0][0])

    assert kept() == 3
    library.remove_file("/年假.txt")
    assert kept() == 3
    row = library._rows(
        "SELECT vector FROM vectors JOIN passages USING (digest) JOIN files ON files.id = file_id"
        " WHERE files.path = '/副本.txt'"
    )[0][0]
    library.remove_file("/副本.txt")
    assert kept() == 2
    compact_library(library)
    content = b"".join(path.read_bytes() for path in library.folder.glob(FILE_NAME + "*"))
    assert bytes(row) not in content


def test_a_rolled_back_change_keeps_them(library: Library) -> None:
    embedded(library)
    with pytest.raises(KeyError):
        library.remove_files(["/年假.txt", "/none"])
    assert embedded(library) == []


def test_another_model_is_noticed(library: Library) -> None:
    embedded(library)
    other = LibraryVectors(library, DeterministicFakeEmbedding(size=16))
    assert other.missing == 3
    assert other.embed_missing() == 3
    assert embedded(library) == []  # the first one's stay
    third = LibraryVectors(library, DeterministicFakeEmbedding(size=8))
    assert third.embed_missing() == 3
    assert other.missing == 0
    assert len(embedded(library)) == 3  # those made the longest ago gave way


def test_a_fingerprint_counts_more_than_a_probe(library: Library) -> None:
    first, second, same = CharacterEmbeddings(), CharacterEmbeddings(), CharacterEmbeddings()
    first.fingerprint, second.fingerprint, same.fingerprint = "one", "two", "one"  # type: ignore[attr-defined]
    assert LibraryVectors(library, first).embed_missing() == 3
    assert LibraryVectors(library, second).embed_missing() == 3
    assert LibraryVectors(library, same).embed_missing() == 0


def test_interrupted_embedding_goes_on_where_it_was(library: Library) -> None:
    put(library, "/many.txt", *(f"第{number}条规定。" for number in range(600)))

    class Stopping(CharacterEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if len(self.embedded) >= 500:
                raise KeyboardInterrupt
            return super().embed_documents(texts)

    stopping = Stopping()
    with pytest.raises(KeyboardInterrupt):
        LibraryVectors(library, stopping).embed_missing()
    rest = embedded(library)
    assert len(stopping.embedded) == 512
    assert len(rest) == 91
    assert not set(rest) & set(stopping.embedded)


def test_readers_see_what_another_process_adds(library: Library) -> None:
    embedded(library)
    with Library.open(library.folder, readonly=True) as reading:
        vectors = LibraryVectors(reading, CharacterEmbeddings())
        assert len(vectors.similarity_search("年假", k=9)) == 3
        put(library, "/新.txt", "年假可以结转。")
        assert vectors.missing == 1
        embedded(library)
        library.remove_file("/作息.txt")
        assert {one.metadata["source"] for one in vectors.similarity_search("年假", k=9)} == {
            "/年假.txt", "/差旅.txt", "/新.txt",
        }  # fmt: skip


def test_a_library_of_a_former_format(library: Library) -> None:
    library._connection.execute("UPDATE passages SET digest = NULL")
    vectors = LibraryVectors(library, CharacterEmbeddings())
    assert vectors.missing == 3
    assert vectors.embed_missing() == 3
    assert vectors.missing == 0


def test_threads(library: Library) -> None:
    embedded(library)
    vectors = LibraryVectors(library, CharacterEmbeddings())
    expected = vectors.similarity_search("年假", k=3)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: vectors.similarity_search("年假", k=3), range(40)))


def test_together_with_words(library: Library) -> None:
    library.tag_files(["/作息.txt"], add=["时间"])
    vectors = LibraryVectors(library, CharacterEmbeddings())
    vectors.embed_missing()
    hybrid = HybridRetriever(lexical=LibraryRetriever(library=library), store=vectors)
    found = hybrid.invoke("年假有几天？")
    assert found[0].metadata["lexical_rank"] == found[0].metadata["dense_rank"] == 1
    part = HybridRetriever(lexical=LibraryRetriever(library=library, tags=["时间"]), store=vectors)
    assert [one.metadata["source"] for one in part.invoke("年假")] == ["/作息.txt"]
    quoted = HybridRetriever(lexical=LibraryRetriever(library=library), store=vectors, weights=(0.01, 5.0))
    assert quoted.invoke("年假 带薪 十五天 “九点上班”")[0].metadata["source"] == "/作息.txt"


def test_it_follows_its_library(library: Library) -> None:
    vectors = LibraryVectors(library, CharacterEmbeddings())
    for change in (
        lambda: vectors.add_texts(["x"]),
        vectors.delete,
        lambda: LibraryVectors.from_texts([], CharacterEmbeddings()),
    ):
        with pytest.raises(WrongUsageError, match="embed_missing"):
            change()
