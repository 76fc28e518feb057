"""Searching a part of a library, and what stands in quotation marks."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chinese_alpaca_rag.library import search
from chinese_alpaca_rag.library.records import Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library

DAY = 86_400 * 1_000_000_000


@pytest.fixture(params=[search.FEW, 0], ids=["few", "many"])
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Library:
    monkeypatch.setattr(search, "FEW", request.param)
    library = Library.open(tmp_path / "library", create=True)
    for day, path in enumerate(["/甲/一.txt", "/甲/二.txt", "/甲乙/三.txt", "/乙.txt"]):
        pages = tuple(Page(number, f"{path}的年假，第{number}页。") for number in (1, 2, 3))
        library.put_file(
            path=path.replace("/", os.sep),
            sha256=path,
            size=1,
            modified_ns=day * DAY,
            parser="",
            document=ParsedDocument("txt", path, pages, page_kind="page"),
            spans=[PassageSpan(page.number, 0, len(page.text)) for page in pages],
        )
    return library


def found(library: Library, scope: Scope) -> set[tuple[str, int]]:
    return {(passage.source, passage.page) for passage, _ in library.search("年假", scope=scope)}


def files(library: Library, scope: Scope) -> list[str]:
    return sorted({source for source, _ in found(library, scope)})


def test_files_and_folders(library: Library) -> None:
    assert len(found(library, Scope())) == 12
    assert files(library, Scope(paths=("/甲",))) == ["/甲/一.txt", "/甲/二.txt"]
    assert files(library, Scope(paths=("/甲/",))) == ["/甲/一.txt", "/甲/二.txt"]
    assert files(library, Scope(paths=("/甲/二.txt", "/乙.txt"))) == ["/乙.txt", "/甲/二.txt"]
    assert files(library, Scope(paths=("/",))) == ["/乙.txt", "/甲/一.txt", "/甲/二.txt", "/甲乙/三.txt"]
    assert files(library, Scope(paths=())) == []
    assert files(library, Scope(paths=("/丙", "/甲/一"))) == []
    assert len(library.passage_ids(Scope(paths=("/甲",)))) == 6
    assert library.passage_ids(Scope(paths=("/丙",))) == set()


def test_tags(library: Library) -> None:
    library.tag_files(["/甲/一.txt", "/乙.txt"], add=["人事"])
    library.tag_files(["/乙.txt"], add=["财务"])
    assert files(library, Scope(tags=("人事",))) == ["/乙.txt", "/甲/一.txt"]
    assert files(library, Scope(tags=("人事", "财务"))) == ["/乙.txt"]
    assert files(library, Scope(tags=("没有",))) == []


def test_pages_and_times(library: Library) -> None:
    assert {page for _, page in found(library, Scope(pages=(2, 9)))} == {2, 3}
    day = datetime.fromtimestamp(86_400, UTC)
    assert files(library, Scope(since=day)) == ["/乙.txt", "/甲/二.txt", "/甲乙/三.txt"]
    assert files(library, Scope(until=day)) == ["/甲/一.txt", "/甲/二.txt"]
    assert found(library, Scope(paths=("/甲",), since=day, pages=(3, 3))) == {("/甲/二.txt", 3)}


def test_a_changed_library_is_noticed(library: Library) -> None:
    assert len(found(library, Scope(paths=("/甲",)))) == 6
    library.remove_file("/甲/一.txt")
    assert len(found(library, Scope(paths=("/甲",)))) == 3
    assert len(found(library, Scope())) == 9


@pytest.mark.parametrize(
    "query", ['"十五天年假" 员工', "“十五天年假” 员工", "「十五天年假」员工", "＂十五天年假＂员工"]
)
def test_what_is_quoted_comes_first(tmp_path: Path, query: str) -> None:
    library = Library.open(tmp_path / "library", create=True)
    texts = ["员工员工员工十五天，员工年假。" * 3, "附件：十五天年假", "年假十五天的员工"]
    for number, text in enumerate(texts * 40):
        library.put_file(
            path=f"/{number}",
            sha256=str(number),
            size=1,
            modified_ns=0,
            parser="",
            document=ParsedDocument("txt", "", (Page(1, text),)),
            spans=[PassageSpan(1, 0, len(text))],
        )
    best = [passage.text for passage, _ in library.search(query, limit=41)]
    assert best[:40] == ["附件：十五天年假"] * 40
    assert best[40] != "附件：十五天年假"
