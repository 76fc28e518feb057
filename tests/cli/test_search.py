"""``alpaca-rag search``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.store import Library
from tests.cli.conftest import Alpaca, put


@pytest.fixture
def documents(alpaca: Alpaca, tmp_path: Path) -> Path:
    folder = tmp_path / "文档"
    (folder / "人事").mkdir(parents=True)
    (folder / "人事" / "年假.txt").write_text("正式员工每年享有十五天带薪年假。", encoding="utf-8")
    (folder / "旧年假.txt").write_text("旧办法：年假为十天，不足十五天。", encoding="utf-8")
    (folder / "差旅.txt").write_text("出差住宿每晚不超过五百元。", encoding="utf-8")
    os.utime(folder / "旧年假.txt", (0, 0))
    assert alpaca("ingest", folder).code == 0
    assert alpaca("ingest", folder / "差旅.txt", "--tag", "财务").code == 0
    return folder


def names(alpaca: Alpaca, *arguments: object) -> list[str]:
    return [Path(found["source"]).name for found in alpaca("search", *arguments, "--json").document["passages"]]


def test_passages_are_shown_with_their_place_and_score(alpaca: Alpaca, documents: Path) -> None:
    done = alpaca("search", "年假", "几天")
    assert done.code == 0
    assert done.out.startswith("1. ")
    assert "每年享有十五天带薪年假" in done.out
    assert str(documents / "人事" / "年假.txt") in done.out
    assert "2 passages of 2 files" in done.err
    assert "个段落" in alpaca("search", "年假", language="zh").err


def test_json_has_what_matched(alpaca: Alpaca, documents: Path) -> None:
    [found] = alpaca("search", "住宿 標準", "--json").document["passages"]
    assert [found["text"][start:end] for start, end in found["highlights"]] == ["住宿"]
    assert found["page"] == 1
    assert found["score"] > 0
    assert found["text"][found["start"] : found["end"]].startswith("出差")


def test_a_part_of_the_library(alpaca: Alpaca, documents: Path) -> None:
    assert names(alpaca, "年假") == ["年假.txt", "旧年假.txt"]
    assert names(alpaca, "年假", "--in", documents / "人事") == ["年假.txt"]
    assert names(alpaca, "年假", "--in", documents / "旧年假.txt") == ["旧年假.txt"]
    assert names(alpaca, "年假", "--until", "1999-12-31") == ["旧年假.txt"]
    assert names(alpaca, "年假", "--since", "1999-12-31") == ["年假.txt"]
    assert names(alpaca, "年假 出差", "--tag", "财务") == ["差旅.txt"]
    assert names(alpaca, "年假", "--pages", "2-3") == []


def test_what_is_quoted_is_wanted_to_the_letter(alpaca: Alpaca, documents: Path) -> None:
    assert names(alpaca, "“不足十五天” 正式员工每年带薪年假")[:2] == ["旧年假.txt", "年假.txt"]
    done = alpaca("search", '"十六天" 年假')
    assert done.code == 0
    assert "No passage holds “十六天” to the letter." in done.err
    assert alpaca("search", '"十六天" 年假', "--json").document["quotes_missing"] == ["十六天"]


def test_nothing_found_is_no_failure(alpaca: Alpaca, documents: Path) -> None:
    done = alpaca("search", "量子")
    assert (done.code, done.out) == (0, "")
    assert "Nothing found" in done.err


def test_what_a_document_holds_does_nothing_to_the_terminal(alpaca: Alpaca, tmp_path: Path) -> None:
    with Library.open(tmp_path / "odd", create=True) as library:
        put(library, "/odd\x1b[2J.txt", ["住宿\x1b[31m标准\u202e"], kind="whole")
    done = alpaca("search", "住宿", "--library", tmp_path / "odd")
    assert "住宿" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["？！"], "no word"),
        (["年假", "--pages", "x"], "--pages"),
        (["年假", "--pages", "5-3"], "--pages"),
        (["年假", "--pages", "0"], "--pages"),
        (["年假", "--since", "昨天"], "--since"),
        (["年假", "--until", "2025-02-30"], "--until"),
        (["年假", "--passages", "0"], "--passages"),
        (["年假", "--in", "/没有"], "holds neither"),
        ([], "QUERY"),
    ],
)
def test_wrong_usage(alpaca: Alpaca, documents: Path, arguments: list[str], says: str) -> None:
    done = alpaca("search", *arguments)
    assert done.code == 2
    assert says in done.err


def test_an_empty_library_says_what_to_do(alpaca: Alpaca, tmp_path: Path) -> None:
    Library.open(tmp_path / "empty", create=True).close()
    done = alpaca("search", "年假", "--library", tmp_path / "empty")
    assert done.code == 1
    assert "ingest" in done.err
