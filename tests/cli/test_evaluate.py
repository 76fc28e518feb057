"""``alpaca-rag evaluate retrieval``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.library.store import Library
from tests.cli.conftest import Alpaca, Done
from tests.shared_data import shared_data

DAYS = "工作满十年的员工每年有几天年假？"
PRICE = "电源模块的单价是多少？"


def write(path: Path, *questions: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in questions), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "问题.jsonl",
        {"question": DAYS, "source": "员工手册.pdf", "page": 2},
        {"question": PRICE, "answer": "三百元"},
        {"question": "网关 G200 的单价？", "source": "合同.docx"},
        {"question": " ", "answer": "三百元"},
        {"question": "没有答案", "answer": ""},
    )


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    paragraphs = [
        {"context": "工作满十年的员工每年享有十天年假。", "qas": [{"question": DAYS, "answers": [{"text": "十天"}]}]},
        {"context": "电源模块的单价是三百元。", "qas": [{"question": PRICE, "answers": [{"text": "三百元"}]}]},
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}, ensure_ascii=False), encoding="utf-8")
    return path


def evaluate(alpaca: Alpaca, *arguments: object, language: str = "en") -> Done:
    return alpaca("evaluate", "retrieval", *arguments, language=language)


def test_a_person_reads_scores_and_what_was_missed(alpaca: Alpaca, library: Path, file: Path) -> None:
    done = evaluate(alpaca, file, "--library", library)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split()[:5] == ["recall@1", "0.500", "2", "of", "4;"]
    assert [line.split()[0] for line in lines[1:5]] == ["recall@5", "recall@10", "MRR", "p50"]
    assert "Missed: 2" in done.out
    assert "[3] 网关 G200 的单价？\n    first came 价格表 · sheet “报价”: 网关" in done.out
    assert "an empty question" in done.out
    assert "1 of 4 questions are about text that is not in the library and cannot be found: 3" in done.err
    assert "1 empty question, counted as missed: 4" in done.err
    assert "1 question left out" in done.err


def test_in_chinese(alpaca: Alpaca, library: Path, file: Path) -> None:
    done = evaluate(alpaca, file, "--library", library, language="zh")
    assert "没有找到的：2 个" in done.out
    assert "4 个问题中有 1 个问的是知识库里没有的文件" in done.err


def test_json_has_it_all(alpaca: Alpaca, library: Path, file: Path) -> None:
    done = evaluate(alpaca, file, "--library", library, "--k", "2，1", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.document
    assert (found["questions"], found["judged"], found["unjudged"], found["empty"]) == (5, 4, 1, 1)
    assert found["recall"] == {"1": 0.5, "2": 0.5}
    assert found["mrr"] == 0.5
    assert found["not_in_library"] == [3]
    assert [outcome["rank"] for outcome in found["outcomes"]] == [1, 1, 0, 0]
    assert found["milliseconds"]["p50"] > 0


def test_the_right_document_with_another_page(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", {"question": DAYS, "source": "员工手册.pdf", "page": 7})
    done = evaluate(alpaca, file, "--library", library)
    assert "the right document is at rank 1, with another passage" in done.out
    assert "any passage of the right document: 1.000" in done.out


def test_a_part_of_the_library(alpaca: Alpaca, tmp_path: Path) -> None:
    folder = tmp_path / "资料"
    folder.mkdir()
    (folder / "新.txt").write_text("年假有十五天。", encoding="utf-8")
    (folder / "旧.txt").write_text("年假有十天。", encoding="utf-8")
    assert alpaca("ingest", folder).code == 0
    file = write(tmp_path / "q.jsonl", {"question": "年假有十天还是十五天？", "source": "旧.txt"})
    assert evaluate(alpaca, file, "--json").document["not_in_library"] == []
    assert evaluate(alpaca, file, "--in", folder / "旧.txt", "--json").document["recall"]["1"] == 1
    only_new = evaluate(alpaca, file, "--in", folder / "新.txt", "--json").document
    assert (only_new["recall"]["10"], only_new["not_in_library"]) == (0, [1])
    assert "holds neither" in evaluate(alpaca, file, "--in", "/没有").err


def test_a_file_that_is_stored_under_another_path_is_found(alpaca: Alpaca, tmp_path: Path) -> None:
    for name in ("甲.txt", "乙.txt"):
        (tmp_path / name).write_text("年假有十五天。", encoding="utf-8")
    assert alpaca("ingest", tmp_path / "甲.txt", tmp_path / "乙.txt").code == 0
    file = write(tmp_path / "q.jsonl", *({"question": "年假有几天？", "source": name} for name in ("甲.txt", "乙.txt")))
    found = evaluate(alpaca, file, "--json").document
    assert (found["recall"]["1"], found["not_in_library"]) == (1, [])


def test_contexts_need_no_library_and_leave_nothing_behind(
    alpaca: Alpaca, squad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    found = evaluate(alpaca, squad, "--contexts", "--json").document
    assert found["recall"] == {"1": 1, "5": 1, "10": 1}
    assert list(temporary.iterdir()) == []
    assert alpaca("sources").code == 1


def test_stopping_leaves_nothing_behind(
    alpaca: Alpaca, squad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(Library, "search", stop)
    done = evaluate(alpaca, squad, "--contexts")
    assert done.code == 130
    assert "Nothing was changed" in done.err
    assert list(temporary.iterdir()) == []


def test_texts_that_the_library_has_nothing_of(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", {"question": PRICE, "context": "一段知识库里没有的文字，谈的是另一件事。"})
    done = evaluate(alpaca, file, "--library", library)
    assert "--contexts" in done.err


def test_another_encoding(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    file = tmp_path / "gb.jsonl"
    file.write_bytes(json.dumps({"question": PRICE, "answer": "三百元"}, ensure_ascii=False).encode("gb18030"))
    assert evaluate(alpaca, file, "--library", library, "--json").document["recall"]["1"] == 1


def test_what_documents_hold_does_nothing_to_the_terminal(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", {"question": "单价\x1b[2J\u202e", "answer": "四百"})
    done = evaluate(alpaca, file, "--library", library)
    assert "Missed: 1" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)


@pytest.mark.parametrize("k", ["x", "0", "1,,2", "-1", "10001", "1.5", "", "１"])
def test_depths_that_are_none(alpaca: Alpaca, library: Path, file: Path, k: str) -> None:
    done = evaluate(alpaca, file, "--library", library, f"--k={k}")
    assert done.code == 2
    assert "--k 1,5,10" in done.err


def test_wrong_files(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('[{"a": 1}]', encoding="utf-8")
    (tmp_path / "plain.txt").write_text("年假有几天？\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    for name, says in {
        "none.json": "There is no such file",
        "other.json": "Line 1",
        "plain.txt": "Line 1",
        "empty.jsonl": "no question",
        "": "There is no such file",
    }.items():
        done = evaluate(alpaca, tmp_path / name, "--library", library)
        assert done.code == 2
        assert says in done.err
    assert "FILE" in evaluate(alpaca).err


def test_files_that_are_too_long(alpaca: Alpaca, library: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chinese_alpaca_rag.cli.evaluate.LONGEST_FILE", 100)
    assert evaluate(alpaca, file, "--library", library).code == 2


def test_no_library_and_an_empty_one(alpaca: Alpaca, file: Path, tmp_path: Path) -> None:
    done = evaluate(alpaca, file, "--json")
    assert (done.code, done.error["type"]) == (1, "LibraryNotFoundError")
    Library.open(tmp_path / "empty", create=True).close()
    assert evaluate(alpaca, file, "--library", tmp_path / "empty", "--json").error["type"] == "EmptyLibraryError"


@pytest.mark.parametrize("option", [["--in", "."], ["--tag", "x"], ["--library", "x"]])
def test_contexts_go_with_no_other_library(alpaca: Alpaca, squad: Path, option: list[str]) -> None:
    done = evaluate(alpaca, squad, "--contexts", *option)
    assert done.code == 2
    assert option[0] in done.err


def test_contexts_where_there_are_none(alpaca: Alpaca, file: Path) -> None:
    done = evaluate(alpaca, file, "--contexts")
    assert done.code == 2
    assert "Leave --contexts out" in done.err


def test_a_public_set(alpaca: Alpaca) -> None:
    found = evaluate(alpaca, shared_data("cmrc2018-trial.json"), "--contexts", "--json").document
    assert (found["questions"], found["empty"], found["refused"]) == (1002, 2, [])
    # Half of the texts are more than one passage: finding the text is one thing, finding its right part another.
    assert found["document_recall"]["1"] >= 0.97
    assert found["recall"]["1"] >= 0.92
    assert found["recall"]["10"] >= 0.98
