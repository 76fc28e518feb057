from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from chinese_alpaca_rag.errors import EmptyLibraryError, LibraryNotFoundError
from chinese_alpaca_rag.labels import read_label
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import LibraryRetriever
from tests.library.samples import put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Library.open(tmp_path / "library", create=True) as library:
        put(library, "/年假.txt", "正式员工每年享有十五天带薪年假。", title="年假")
        put(library, "/差旅.txt", "员工出差住宿每晚不超过五百元。", title="差旅")
        put(library, "/作息.txt", "员工每天工作八小时，九点上班。", "员工午休一小时。", title="作息")
    return tmp_path / "library"


@pytest.mark.anyio
class TestLibraryRetriever(RetrieversIntegrationTests):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _library(self, folder: Path) -> Iterator[None]:
        type(self).folder = folder
        yield

    folder: Path

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return LibraryRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"library_path": self.folder}

    @property
    def retriever_query_example(self) -> str:
        return "员工有多少天年假？"


def test_documents_come_best_first_with_their_places(folder: Path) -> None:
    found = LibraryRetriever(library_path=folder).invoke("员工有多少天年假？")
    assert found[0].metadata["source"] == "/年假.txt"
    scores = [document.metadata["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    with Library.open(folder, readonly=True) as library:
        assert {read_label(document.metadata["document"]) for document in found} == {
            (str(folder), record.path, record.sha256) for record in library.files()
        }
    with Library.open(folder, readonly=True) as library:
        for document in found:
            place = document.metadata
            page = library.page_text(place["source"], place["page"])
            assert page[place["start"] : place["end"]] == document.page_content


def test_k_and_paths(folder: Path) -> None:
    assert len(LibraryRetriever(library_path=folder).invoke("员工")) == 4
    assert len(LibraryRetriever(library_path=folder, k=2).invoke("员工")) == 2
    assert len(LibraryRetriever(library_path=folder, k=2).invoke("员工", k=3)) == 3
    only = LibraryRetriever(library_path=folder, paths=["/作息.txt"])
    assert {document.metadata["source"] for document in only.invoke("员工")} == {"/作息.txt"}


def test_an_open_library_is_used_and_left_open(folder: Path) -> None:
    with Library.open(folder, readonly=True) as library:
        retriever = LibraryRetriever(library=library)
        assert retriever.invoke("年假")
        retriever.close()
        assert library.passage_count() == 4


def test_a_closed_retriever_opens_its_library_again(folder: Path) -> None:
    retriever = LibraryRetriever(library_path=folder)
    assert retriever.invoke("年假")
    retriever.close()
    assert retriever.invoke("年假")


def test_async_and_threads_give_the_same(folder: Path) -> None:
    retriever = LibraryRetriever(library_path=folder)
    questions = ["年假", "住宿", "午休"] * 5
    expected = [retriever.invoke(question) for question in questions]

    async def ask() -> list[list[Document]]:
        return await asyncio.gather(*(retriever.ainvoke(question) for question in questions))

    assert asyncio.run(ask()) == expected
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(retriever.invoke, questions)) == expected
    assert retriever.batch(questions) == expected


def test_nothing_that_matches_is_no_error(folder: Path) -> None:
    retriever = LibraryRetriever(library_path=folder)
    assert retriever.invoke("zebra") == []
    assert retriever.invoke("") == []


def test_an_empty_library_says_what_to_do(tmp_path: Path) -> None:
    Library.open(tmp_path, create=True).close()
    with pytest.raises(EmptyLibraryError) as caught:
        LibraryRetriever(library_path=tmp_path).invoke("年假")
    assert "alpaca-rag ingest" in caught.value.hint.en


def test_a_missing_library_is_an_error_when_it_is_asked(tmp_path: Path) -> None:
    retriever = LibraryRetriever(library_path=tmp_path)
    with pytest.raises(LibraryNotFoundError):
        retriever.invoke("年假")


def test_exactly_one_library_must_be_named(folder: Path) -> None:
    with pytest.raises(ValidationError):
        LibraryRetriever()
    with Library.open(folder, readonly=True) as library, pytest.raises(ValidationError):
        LibraryRetriever(library_path=folder, library=library)
    with pytest.raises(ValidationError):
        LibraryRetriever(library_path=folder, k=0)
