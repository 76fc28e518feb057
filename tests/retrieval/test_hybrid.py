from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from chinese_alpaca_rag.errors import EmptyLibraryError
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import HybridRetriever, LibraryRetriever, open_library_vectors
from chinese_alpaca_rag.retrieval.hybrid import fused
from tests.library.samples import put
from tests.retrieval.character_embeddings import CharacterEmbeddings

pytest.importorskip("faiss", reason="needs the dense extra")

PAGES = {
    "/年假.txt": "正式员工每年享有十五天带薪年假。",
    "/差旅.txt": "员工出差住宿每晚不超过五百元。",
    "/作息.txt": "员工每天工作八小时，九点上班。",
    "/午休.txt": "员工午休一小时。",
}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as library:
        for path, text in PAGES.items():
            put(library, path, text)
        yield library


def retriever(library: Library, folder: Path, *, k: int = 12, **part: Any) -> HybridRetriever:
    store = open_library_vectors(folder, library, CharacterEmbeddings())
    return HybridRetriever(lexical=LibraryRetriever(library=library, **part), store=store, k=k)


@pytest.mark.anyio
class TestHybridRetriever(RetrieversIntegrationTests):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _library(self, library: Library, tmp_path: Path) -> None:
        type(self).library = library
        type(self).folder = tmp_path / "vectors"

    library: Library
    folder: Path

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return HybridRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        store = open_library_vectors(self.folder, self.library, CharacterEmbeddings())
        return {"lexical": LibraryRetriever(library=self.library), "store": store}

    @property
    def retriever_query_example(self) -> str:
        return "年假有几天？"


def names(documents: list[Document]) -> list[str]:
    return [document.metadata["source"] for document in documents]


def test_both_sides_are_merged(library: Library, tmp_path: Path) -> None:
    found = retriever(library, tmp_path / "vectors", k=4).invoke("年假有几天？")
    assert names(found)[0] == "/年假.txt"
    assert found[0].metadata["lexical_rank"] == found[0].metadata["dense_rank"] == 1
    assert found[0].metadata["score"] == pytest.approx(1.5 / 3)
    # Vectors give every passage a rank, words only those that share one.
    assert set(names(found)) == set(PAGES)
    assert {document.metadata["lexical_rank"] for document in found[1:]} >= {None}


def test_a_part_of_the_library(library: Library, tmp_path: Path) -> None:
    library.tag_files(["/作息.txt", "/午休.txt"], add=["时间"])
    assert set(names(retriever(library, tmp_path / "vectors", tags=["时间"]).invoke("年假"))) == {
        "/作息.txt",
        "/午休.txt",
    }


def test_what_is_gone_is_never_returned(library: Library, tmp_path: Path) -> None:
    hybrid = retriever(library, tmp_path / "vectors", k=9)
    library.remove_file("/年假.txt")
    put(library, "/差旅.txt", "出差不再报销。")
    assert set(names(hybrid.invoke("年假 住宿 五百元"))) <= {"/差旅.txt", "/作息.txt", "/午休.txt"}
    assert not any("五百元" in document.page_content for document in hybrid.invoke("住宿 五百元"))


def test_any_vector_store_will_do(library: Library) -> None:
    store = InMemoryVectorStore(CharacterEmbeddings())
    store.add_documents([passage_document(passage) for path in PAGES for passage in library.passages(path)])
    store.add_texts(["年假 年假 这一段不在知识库里"])
    hybrid = HybridRetriever(lexical=LibraryRetriever(library=library), store=store)
    assert names(hybrid.invoke("年假"))[0] == "/年假.txt"


def test_questions_that_hold_nothing(library: Library, tmp_path: Path) -> None:
    hybrid = retriever(library, tmp_path / "vectors")
    assert hybrid.invoke("") == []
    assert len(hybrid.invoke("？！")) == 4  # vectors find something alike to anything
    with Library.open(tmp_path / "empty", create=True) as empty, pytest.raises(EmptyLibraryError):
        retriever(empty, tmp_path / "none").invoke("年假")


def test_fusion_weighs_ranks() -> None:
    one, two, three = (Document(id=name, page_content=name) for name in "abc")
    assert [document.id for document in fused([one, two], [two, three])] == ["b", "a", "c"]
    assert [document.id for document in fused([one, two], [three], (0.1, 1.0))] == ["c", "a", "b"]
    assert fused([], []) == []


# Vectors kept in step with the library.


def test_only_what_changed_is_embedded(library: Library, tmp_path: Path) -> None:
    def embedded() -> list[str]:
        embedding = CharacterEmbeddings()
        open_library_vectors(tmp_path / "vectors", library, embedding)
        return sorted(embedding.embedded)

    assert embedded() == sorted(PAGES.values())
    assert embedded() == []
    put(library, "/新.txt", "新的一段。")
    library.move_file("/午休.txt", "/休息.txt", modified_ns=1)
    library.remove_file("/作息.txt")
    assert embedded() == ["新的一段。"]
    store = open_library_vectors(tmp_path / "vectors", library, CharacterEmbeddings())
    assert sorted(document.metadata["source"] for document in store.documents()) == [
        "/休息.txt",
        "/差旅.txt",
        "/年假.txt",
        "/新.txt",
    ]


@pytest.mark.parametrize("part", ["current", "vectors.npy", "documents.jsonl", "manifest.json"])
def test_damaged_vectors_are_made_anew(library: Library, tmp_path: Path, part: str) -> None:
    open_library_vectors(tmp_path / "vectors", library, CharacterEmbeddings())
    [path] = (tmp_path / "vectors").rglob(part)
    path.write_bytes(b"damaged")
    embedding = CharacterEmbeddings()
    store = open_library_vectors(tmp_path / "vectors", library, embedding)
    assert len(embedding.embedded) == len(store) == 4
    assert len(open_library_vectors(tmp_path / "vectors", library, CharacterEmbeddings())) == 4


def test_another_model_makes_them_anew(library: Library, tmp_path: Path) -> None:
    open_library_vectors(tmp_path / "vectors", library, CharacterEmbeddings())
    seen: list[tuple[int, int]] = []
    other = DeterministicFakeEmbedding(size=16)
    store = open_library_vectors(tmp_path / "vectors", library, other, on_progress=lambda *both: seen.append(both))
    assert len(store) == 4
    assert seen == [(4, 4)]
