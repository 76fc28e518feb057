"""``summarize`` reads files directly, without a library."""

from __future__ import annotations

from pathlib import Path

import pytest

from chinese_alpaca_rag.llms.extractive import NOTICE
from tests.cli.conftest import Alpaca
from tests.cli.test_ask import CITATION_KEYS, RECEIPT_KEYS
from tests.toy_family import ToyCheckpoint

REPORT = """# 年度报告

## 经营情况

公司全年营业收入为十二亿元，同比增长百分之八。海外收入首次超过三亿元。

## 研发情况

研发投入为一亿五千万元，新增专利四十二项。工业网关产品完成了全部认证。

## 展望

明年公司计划在成都设立新的研发中心，并招聘一百名工程师。
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "年度报告.md"
    file.write_text(REPORT, encoding="utf-8")
    return file


def test_a_summary_as_json(alpaca: Alpaca, report: Path, own_home: Path) -> None:
    done = alpaca("summarize", report, "--json")
    assert (done.code, done.err) == (0, "")
    summary = done.document
    assert list(summary) == ["summary", "citations", "receipt"]
    assert "营业收入" in summary["summary"]
    assert all(list(citation) == CITATION_KEYS for citation in summary["citations"])
    assert {citation["source"] for citation in summary["citations"]} == {str(report)}
    assert all(citation["verified"] for citation in summary["citations"])
    assert set(summary["receipt"]) == RECEIPT_KEYS | {"dropped", "remarks"}
    assert not list(own_home.rglob("library.sqlite3")), "no library is made"


def test_a_summary_for_a_person(alpaca: Alpaca, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(report.parent)
    done = alpaca("summarize", report.name, language="zh")
    assert done.code == 0
    assert "引用" in done.out
    assert "年度报告 · “" in done.out
    assert "    年度报告.md" in done.out.splitlines()
    assert NOTICE.zh in done.err


def test_a_folder_is_summarised_as_a_whole(alpaca: Alpaca, report: Path) -> None:
    (report.parent / "会议纪要.txt").write_text("会议决定：仓库于三月搬迁到苏州。\n" * 2, encoding="gb18030")
    done = alpaca("summarize", report.parent, "--json")
    assert {Path(citation["source"]).name for citation in done.document["citations"]} == {"年度报告.md", "会议纪要.txt"}


def test_files_that_are_refused_are_named(alpaca: Alpaca, report: Path) -> None:
    (report.parent / "空.txt").touch()
    done = alpaca("summarize", report.parent, "--json")
    assert done.code == 3
    assert [Path(file["path"]).name for file in done.document["refused"]] == ["空.txt"]
    assert done.document["refused"][0]["reason"]
    told = alpaca("summarize", report.parent, language="zh")
    assert told.code == 3
    assert "空.txt" in told.err


@pytest.mark.parametrize("strategy", ["stuff", "map_reduce"])
def test_a_model_summarises_with_the_chosen_strategy(
    alpaca: Alpaca, report: Path, toys: ToyCheckpoint, strategy: str
) -> None:
    done = alpaca("summarize", report, "--model", toys.gguf, "--strategy", strategy, "--json")
    assert done.code == 0
    assert done.document["receipt"]["strategy"] == strategy
    assert done.document["receipt"]["output_tokens"] > 0


def test_a_base_model_does_not_summarise(alpaca: Alpaca, report: Path) -> None:
    done = alpaca("summarize", report, "--model", "chinese-llama-2-13b-16k", "--json")
    assert (done.code, done.error["type"]) == (2, "NotAChatModelError")
