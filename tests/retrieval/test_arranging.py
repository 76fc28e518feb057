from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.records import PassageSpan
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import (
    ArrangingRetriever,
    LibraryRetriever,
    expanded,
    spread_over_files,
    without_near_duplicates,
)
from tests.library.samples import put

HEADINGS = ["", "一", "一", "一", "一", "二", "二"]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as library:
        fill(library)
        yield library


def fill(library: Library) -> None:
    """A file of seven passages of ten characters under ``HEADINGS``, on two pages, and one of a single passage."""
    pages = [
        "".join(f"第{number}段，年假规定甲。" for number in range(4)),
        "".join(f"第{n}段，病假规定乙。" for n in (4, 5, 6)),
    ]
    spans = [
        PassageSpan(1 + number // 4, 10 * (number % 4), 10 * (number % 4) + 10, HEADINGS[number]) for number in range(7)
    ]
    put(library, "/规定.txt", *pages, spans=spans)
    put(library, "/其他.txt", "年假另有规定。")


def passages(library: Library) -> list[Document]:
    return [passage_document(passage) for passage in library.passages("/规定.txt")]


def positions(documents: list[Document]) -> list[int]:
    return [document.metadata["position"] for document in documents]


def text(content: str, source: str = "/a.txt", start: int = 0) -> Document:
    place = {"source": source, "page": 1, "start": start, "end": start + len(content)}
    return Document(page_content=content, metadata=place)


def contents(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


@pytest.mark.anyio
class TestArrangingRetriever(RetrieversIntegrationTests):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _library(self, library: Library) -> None:
        type(self).library = library

    library: Library

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return ArrangingRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": LibraryRetriever(library=self.library)}

    @property
    def retriever_query_example(self) -> str:
        return "年假规定"


# Near duplicates

LONG = "正式员工每年享有带薪年假，入职满一年后按工龄计算，由人事部门审批后生效，未休完的可以顺延到下个季度。"


def test_what_differs_in_form_alone_is_one() -> None:
    other = LONG.replace("，", ", ").replace("员工", "員工").replace("带薪", "帶 薪")
    found = without_near_duplicates(
        [text(LONG, "/a"), text("别的一段文字，说的是别的事。", "/b"), text(other, "/c", 7)]
    )
    assert contents(found) == [LONG, "别的一段文字，说的是别的事。"]
    assert found[0].metadata["near_duplicates"] == [{"source": "/c", "page": 1, "start": 7, "end": 7 + len(other)}]
    assert "near_duplicates" not in found[1].metadata


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("年假15天", "年假10天"),
        ("年假十五天", "年假十天"),
        (LONG + "共15天。" + LONG, LONG + "共10天。" + LONG),
        (LONG + "共十五天。" + LONG, LONG + "共十天。" + LONG),
        (LONG + "自2023年5月1日起。", LONG + "自2023年5月2日起。"),
        (LONG + "约3.5元", LONG + "约35元"),
        (LONG + "甲付10元，乙付15元", LONG + "甲付15元，乙付10元"),
        (LONG + "涨了5%", LONG + "涨了5"),
        (LONG + "可以报销", LONG + "不可以报销"),
        ("15", "1.5"),
        ("年假", "病假"),
        ("？！", "……"),
        ("", "。"),
    ],
)
def test_what_means_something_else_stays(one: str, other: str) -> None:
    for pair in ([text(one), text(other)], [text(other), text(one)]):
        assert without_near_duplicates(pair) == pair


def test_only_what_stands_in_the_better_one_goes() -> None:
    short, long = text(LONG), text(LONG + "此外，差旅住宿标准另行规定，超出部分由个人承担。")
    assert without_near_duplicates([short, long]) == [short, long]
    assert contents(without_near_duplicates([long, short])) == [long.page_content]


def test_the_share_is_counted() -> None:
    better = text("abcdefghijklmnopqrst")  # 16 runs of five
    worse = text("abcdefghijklmnopqrsz")  # one of its 16 is another
    assert len(without_near_duplicates([better, worse], 15 / 16)) == 1
    assert len(without_near_duplicates([better, worse], 0.95)) == 2
    assert len(without_near_duplicates([text("abcdefghijklm"), text("zbcdefghijklm")], 1.0)) == 2


def test_short_texts_are_compared_as_they_are() -> None:
    assert contents(without_near_duplicates([text("年假"), text("年 假。"), text("年假有"), text("")])) == [
        "年假",
        "年假有",
        "",
    ]
    assert contents(without_near_duplicates([text("？"), text("？")])) == ["？"]
    assert without_near_duplicates([]) == []


def test_places_add_up_when_it_is_done_again() -> None:
    once = without_near_duplicates([text(LONG, "/b"), text(LONG, "/c")])
    twice = without_near_duplicates([text(LONG, "/a"), *once])
    assert [place["source"] for place in twice[0].metadata["near_duplicates"]] == ["/b", "/c"]


TEXTS = st.text(alphabet="年假有0一不ab，。", max_size=24)


@given(st.lists(TEXTS, max_size=12), st.floats(0.1, 1.0))
def test_nothing_vanishes_and_the_order_stays(written: list[str], alike: float) -> None:
    given_ones = [text(content, f"/{number}") for number, content in enumerate(written)]
    found = without_near_duplicates(given_ones, alike)
    sources = [document.metadata["source"] for document in found]
    noted = [place["source"] for document in found for place in document.metadata.get("near_duplicates", ())]
    assert sorted([*sources, *noted]) == sorted(document.metadata["source"] for document in given_ones)
    assert sources == sorted(sources, key=lambda source: int(source[1:]))
    assert [document.metadata for document in given_ones] == [text(c, f"/{n}").metadata for n, c in enumerate(written)]
    for document in found:
        for place in document.metadata.get("near_duplicates", ()):
            assert int(place["source"][1:]) > int(document.metadata["source"][1:])
    assert contents(without_near_duplicates(found, alike)) == contents(found)


def test_it_is_fast() -> None:
    generator = random.Random(3)
    characters = [chr(0x4E00 + number) for number in range(3000)]
    whole = ["".join(generator.choices(characters, k=600)) for _ in range(200)]
    documents = [text(content, str(number)) for number, content in enumerate(whole)]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        without_near_duplicates(documents)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.15  # about 0.03 s on a machine that has nothing else to do


# Files


def test_a_file_gets_so_many_of_the_first() -> None:
    documents = [text(str(number), source) for number, source in enumerate("aaabac")]
    assert contents(spread_over_files(documents, 4, 2)) == ["0", "1", "3", "5", "2", "4"]
    assert contents(spread_over_files(documents, 5, 1)) == ["0", "3", "5", "1", "2", "4"]
    assert contents(spread_over_files(documents, 2, 2)) == list("012345")
    nowhere = [Document(page_content=letter) for letter in "abc"]
    assert spread_over_files(nowhere, 3, 1) == nowhere


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(-1, 14), st.integers(1, 4))
def test_documents_are_only_moved(sources: list[str], k: int, most: int) -> None:
    documents = [text(str(number), source) for number, source in enumerate(sources)]
    found = spread_over_files(documents, k, most)
    assert sorted(contents(found), key=int) == contents(documents)
    by_file = {source: [d for d in found if d.metadata["source"] == source] for source in "abc"}
    assert all(contents(some) == sorted(contents(some), key=int) for some in by_file.values())
    others = sum(min(most, sources.count(source)) for source in "abc")
    first = [document.metadata["source"] for document in found[: max(0, min(k, others))]]
    assert all(first.count(source) <= most for source in "abc")


# Neighbours and parents


def test_neighbours_come_behind_what_was_found_and_fill_the_budget(library: Library) -> None:
    all_of_it = passages(library)
    found = expanded([all_of_it[5], all_of_it[2]], library, budget=50)
    assert positions(found) == [5, 2, 4, 6, 1]
    assert [document.metadata.get("expands") for document in found] == [
        None, None, *[all_of_it[5].metadata["passage_id"]] * 2, all_of_it[2].metadata["passage_id"],
    ]  # fmt: skip
    assert positions(expanded([all_of_it[5], all_of_it[2]], library, budget=20)) == [5, 2]
    assert positions(expanded([all_of_it[5], all_of_it[2]], library, budget=19)) == [5]
    assert expanded([all_of_it[5]], library, budget=0) == []


def test_then_comes_what_is_under_the_same_heading(library: Library) -> None:
    all_of_it = passages(library)
    assert positions(expanded([all_of_it[1]], library, budget=1000)) == [1, 0, 2, 3, 4]
    assert positions(expanded([all_of_it[1]], library, budget=1000, neighbours=0)) == [1, 2, 3, 4]
    assert positions(expanded([all_of_it[0]], library, budget=1000)) == [0, 1]  # under no heading
    assert positions(expanded([all_of_it[0]], library, budget=1000, neighbours=3)) == [0, 1, 2, 3]


def test_no_gap_comes_between(library: Library) -> None:
    all_of_it = passages(library)
    sizes = {document.page_content: 10 for document in all_of_it}
    sizes[all_of_it[3].page_content] = 100
    found = expanded([all_of_it[2]], library, 60, sizes.__getitem__, neighbours=3)
    assert positions(found) == [2, 1, 0]


def test_only_what_the_library_holds_is_expanded(library: Library) -> None:
    here = passages(library)[5]
    stale = Document(page_content="以前的文字", metadata=here.metadata)
    foreign = [Document(page_content="没有出处"), stale]
    assert expanded(foreign, library, budget=100) == foreign
    assert expanded([here, here], library, budget=19) == [here]
    library.remove_file("/规定.txt")
    assert expanded([here], library, budget=100) == [here]


def test_a_part_of_the_library(library: Library) -> None:
    at_the_border = passages(library)[3]
    assert positions(expanded([at_the_border], library, 1000, scope=Scope(pages=(1, 1)))) == [3, 2, 1]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 6), max_size=9),
    st.integers(0, 90),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_never_over_the_budget_and_never_twice(chosen: list[int], budget: int, neighbours: int, each: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Library.open(Path(folder), create=True) as library:
        fill(library)
        all_of_it = passages(library)
        given_ones = [all_of_it[number] for number in chosen]
        found = expanded(given_ones, library, budget, lambda content: each * len(content), neighbours)
    assert sum(each * len(document.page_content) for document in found) <= budget
    assert len(set(positions(found))) == len(found)
    own = [document for document in found if "expands" not in document.metadata]
    assert found[: len(own)] == own
    different = list(dict.fromkeys(chosen))
    assert positions(own) == different[: budget // (10 * each)]
    by_number = {document.metadata["passage_id"]: number for number, document in enumerate(own)}
    added_for = [by_number[document.metadata["expands"]] for document in found[len(own) :]]
    assert added_for == sorted(added_for)


# All of it


def test_everything_together(library: Library) -> None:
    put(library, "/副本.txt", "第2段，年假规定甲。")
    plain = LibraryRetriever(library=library)
    assert len(plain.invoke("年假规定甲。")) == 9
    arranged = ArrangingRetriever(retriever=plain, library=library, k=3, most_per_file=1)
    found = arranged.invoke("第2段，年假规定甲。")
    assert [document.metadata["source"] for document in found] == ["/副本.txt", "/规定.txt", "/其他.txt"]
    assert found[0].metadata["near_duplicates"] == [{"source": "/规定.txt", "page": 1, "start": 20, "end": 30}]
    assert len(arranged.invoke("年假规定", k=2)) == 2
    kept = ArrangingRetriever(retriever=plain, near_duplicates=None)
    assert len(kept.invoke("年假规定甲。")) == 9
    filled = ArrangingRetriever(retriever=plain, library=library, k=1, budget=30)
    assert positions(filled.invoke("第5段 病假")) == [5, 4, 6]


def test_settings_that_cannot_be(library: Library) -> None:
    retriever = LibraryRetriever(library=library)
    wrong: list[dict[str, Any]] = [{"budget": 10}, {"k": 0}, {"near_duplicates": 1.5}, {"most_per_file": 0}]
    for settings_ in wrong:
        with pytest.raises(ValidationError):
            ArrangingRetriever(retriever=retriever, **settings_)


def test_passages_by_their_position(library: Library) -> None:
    [first, *_] = library.passages("/规定.txt")
    assert library.passages_between(first.file_id, 2, 4) == library.passages("/规定.txt")[2:5]
    assert library.passages_between(first.file_id, -5, 0) == [first]
    assert library.passages_between(999, 0, 9) == []
