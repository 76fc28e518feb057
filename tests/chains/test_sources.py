from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from langchain_core.documents import Document

from chinese_alpaca_rag.chains.sources import LONGEST_JOINED, LONGEST_LABEL, Excerpt, excerpts_of, lay_out
from tests.chains.libraries import passage, ranked_passages


def test_own_metadata_is_taken_as_it_is() -> None:
    [excerpt] = excerpts_of([passage("年假", page=4, start=7, title="手册", heading="休假", page_label="四")])
    assert excerpt == Excerpt("/docs/手册.txt", 4, 7, 9, "年假", "手册", "休假", "page", "四", placed=True)


@pytest.mark.parametrize(
    ("metadata", "identity", "source", "title"),
    [
        ({}, None, "document-1", "document-1"),
        ({}, "doc-7", "doc-7", "doc-7"),
        ({"source": "/data/员工手册.v2.pdf"}, None, "/data/员工手册.v2.pdf", "员工手册.v2"),
        ({"source": "C:\\data\\价目.xlsx"}, None, "C:\\data\\价目.xlsx", "价目"),
        ({"source": Path("/data/a.md")}, None, "/data/a.md", "a"),
        ({"source": None, "file_path": "/b.txt"}, None, "/b.txt", "b"),
        ({"source": "", "url": "https://example.com/a/"}, None, "https://example.com/a/", "a"),
        ({"source": "/a.txt", "title": 5}, None, "/a.txt", "5"),
    ],
)
def test_foreign_documents_get_a_source_and_a_title(
    metadata: dict[str, Any], identity: str | None, source: str, title: str
) -> None:
    [excerpt] = excerpts_of([Document(id=identity, page_content="年假", metadata=metadata)])
    assert (excerpt.source, excerpt.title) == (source, title)


@pytest.mark.parametrize(
    ("metadata", "page", "start", "placed"),
    [
        ({}, 1, 0, False),
        ({"page": 0}, 0, 0, False),
        ({"page": "12"}, 12, 0, False),
        ({"page": "xii"}, 1, 0, False),
        ({"page": 2.5, "start": True}, 1, 0, False),
        ({"start": -1}, 1, 0, False),
        ({"start_index": 30}, 1, 30, True),
        ({"start": 30, "end": 99}, 1, 30, False),
        ({"start": 30, "end": 32}, 1, 30, True),
    ],
)
def test_foreign_places_are_kept_where_they_can_be(
    metadata: dict[str, Any], page: int, start: int, placed: bool
) -> None:
    [excerpt] = excerpts_of([Document(page_content="年假", metadata=metadata)])
    assert (excerpt.page, excerpt.start, excerpt.end, excerpt.placed) == (page, start, start + 2, placed)


def test_same_place_is_kept_once_and_blank_text_not_at_all() -> None:
    found = [passage("年假", start=3), passage(" \n"), passage("年假", start=3), passage("年假", start=9)]
    assert [excerpt.start for excerpt in excerpts_of(found)] == [3, 9]


def test_two_foreign_texts_without_a_place_are_two() -> None:
    found = [Document(page_content="年假"), Document(page_content="差旅")]
    assert len(lay_out(excerpts_of(found))) == 2


def test_neighbours_become_one_source() -> None:
    page = "员工享有年假。差旅费由总经理审批。价格另议。"
    found = [passage(page[start:end], start=start) for start, end in ((17, 22), (0, 7), (5, 17))]
    [source] = lay_out(excerpts_of(found))
    assert (source.excerpt.start, source.excerpt.end, source.excerpt.text) == (0, 22, page)


@pytest.mark.parametrize(
    "second",
    [
        passage("差旅。", start=8),
        passage("差旅。", start=7, page=2),
        passage("差旅。", start=7, source="/docs/other.txt"),
        passage("差旅。", start=7, heading="第二章"),
        passage("不是同一段", start=3),
        Document(page_content="差旅。", metadata={"source": "/docs/手册.txt", "page": 1}),
        passage("差" * LONGEST_JOINED, start=7),
    ],
)
def test_what_does_not_continue_stays_apart(second: Document) -> None:
    assert len(lay_out(excerpts_of([passage("员工享有年假。"), second]))) == 2


def test_labels_stay_on_one_line_and_short() -> None:
    excerpt = Excerpt("/a", 2, 0, 2, "年假", title="长" * 200 + "\n[9] 假标题", heading="一\n二")
    [source] = lay_out([excerpt], first=3)
    label = source.label("zh")
    assert label.startswith("[3] 长长")
    assert "\n" not in label
    assert "[9]" not in label
    assert len(label) <= 2 * LONGEST_LABEL + 20
    assert label.endswith("一 二")


@pytest.mark.parametrize(
    ("kind", "name", "zh", "en"),
    [
        ("page", "", "[1] 报告 · 第 2 页", "[1] 报告 · page 2"),
        ("slide", "", "[1] 报告 · 幻灯片 2", "[1] 报告 · slide 2"),
        ("sheet", "价目表", "[1] 报告 · 工作表 价目表", "[1] 报告 · sheet 价目表"),
        ("whole", "", "[1] 报告", "[1] 报告"),
    ],
)
def test_pages_are_named_by_their_kind(kind: str, name: str, zh: str, en: str) -> None:
    [source] = lay_out([Excerpt("/a", 2, 0, 2, "年假", title="报告", page_kind=kind, page_label=name)])
    assert (source.label("zh"), source.label("en")) == (zh, en)


@given(ranked_passages())
def test_every_source_is_an_exact_stretch_of_its_page_in_canonical_order(
    library: tuple[list[Document], dict[tuple[str, int], str]],
) -> None:
    found, shelf = library
    excerpts = excerpts_of(found)
    sources = lay_out(excerpts)
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))
    places = [(source.excerpt.source, source.excerpt.page, source.excerpt.start) for source in sources]
    assert places == sorted(places)
    for source in sources:
        excerpt = source.excerpt
        assert excerpt.text == shelf[excerpt.source, excerpt.page][excerpt.start : excerpt.end]
    for excerpt in excerpts:
        assert any(
            (source.excerpt.source, source.excerpt.page) == (excerpt.source, excerpt.page)
            and source.excerpt.start <= excerpt.start
            and excerpt.end <= source.excerpt.end
            for source in sources
        )
