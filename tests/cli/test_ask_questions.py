"""``ask --questions``: many questions at once, answers kept in a file, and going on after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Alpaca, Done
from tests.toy_family import ToyCheckpoint

TEN_YEARS, PRICE, SICK = "工作满十年有几天年假？", "电源模块的单价是多少？", "病假需要什么证明？"
SENTENCES = {
    TEN_YEARS: "工作满十年的员工每年享有十天年假。",
    PRICE: "电源模块的单价是三百元。",
    SICK: "病假需要提供医院证明。",
}
LISTED = f"# 常见问题\n{TEN_YEARS}\n\n  {PRICE}  \n#{SICK}\n{SICK}\n"
ANSWER_KEYS = ["question", "line", "answer", "citations", "receipt"]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text(LISTED, encoding="utf-8")
    return path


def records(done: Done) -> list[dict[str, Any]]:
    """Standard output as one JSON document a line."""
    return [json.loads(line) for line in done.out.splitlines()]


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_question_of_a_file_is_answered_on_a_line_of_json(alpaca: Alpaca, library: Path, questions: Path) -> None:
    done = alpaca("ask", "--questions", questions, "--library", library, "--json")
    assert (done.code, done.err) == (0, "")
    found = records(done)
    assert [list(record) for record in found] == [ANSWER_KEYS] * 3
    assert [(record["question"], record["line"]) for record in found] == [(TEN_YEARS, 2), (PRICE, 4), (SICK, 6)]
    for record in found:
        assert SENTENCES[record["question"]] in record["answer"]
        assert record["citations"][0]["verified"]
        assert record["receipt"]["model"] == "extractive"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_person_reads_each_question_with_its_answer_and_citations(
    alpaca: Alpaca, library: Path, questions: Path, language: str
) -> None:
    done = alpaca("ask", "-q", questions, "--library", library, language=language)
    assert done.code == 0
    lines = done.out.splitlines()
    for number, (question, sentence) in enumerate(SENTENCES.items(), start=1):
        place = lines.index(f"[{number}/3] {question}")
        assert lines[place + 1].startswith(sentence)
    assert lines.count("引用" if language == "zh" else "Citations") == 3
    assert sum(line.startswith("extractive · stuff") for line in lines) == 3
    assert done.err.endswith("回答了 3 个问题。\n" if language == "zh" else "3 questions answered.\n")


def test_a_jsonl_file_may_hold_more_than_the_questions(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.JSONL"
    path.write_text(
        f'{{"question": "{PRICE}", "answer": "300", "page": 1}}\n\n{json.dumps({"question": SICK})}\n', encoding="utf-8"
    )
    done = alpaca("ask", "--questions", path, "--library", library, "--json")
    assert [(record["question"], record["line"]) for record in records(done)] == [(PRICE, 1), (SICK, 3)]


@pytest.mark.parametrize(
    "content",
    [
        LISTED.encode("utf-8-sig"),
        LISTED.replace("\n", "\r\n").encode(),
        LISTED.encode("gb18030"),
        LISTED.encode("utf-16"),
    ],
    ids=["utf-8-sig", "crlf", "gb18030", "utf-16"],
)
def test_questions_from_standard_input_in_any_encoding(alpaca_process: Alpaca, library: Path, content: bytes) -> None:
    done = alpaca_process("ask", "--questions", "-", "--library", library, "--json", stdin=content)
    assert (done.code, [record["question"] for record in records(done)]) == (0, [TEN_YEARS, PRICE, SICK])


def test_a_question_that_fails_costs_no_other(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(f"{PRICE}\n？？？\n{SICK}\n", encoding="utf-8")
    answers = tmp_path / "answers.jsonl"
    done = alpaca("ask", "--questions", path, "--answers", answers, "--library", library, "--json")
    assert done.code == 2
    by_line = {record["line"]: record for record in records(done)}
    assert sorted(by_line) == [1, 2, 3]
    assert list(by_line[2]) == ["question", "line", "error"]
    assert by_line[2]["error"]["type"] == "EmptyQuestionError"
    assert sorted(record["line"] for record in kept(answers)) == [1, 3]
    told = alpaca("ask", "--questions", path, "--library", library, language="zh")
    assert told.code == 2
    assert "错误：问题是空的。" in told.err
    assert told.err.endswith("回答了 2 个问题，1 个失败。\n")


def test_a_model_answers_in_groups_and_what_was_found_is_read_once(
    alpaca: Alpaca, library: Path, questions: Path, toys: ToyCheckpoint
) -> None:
    asked = ["--library", library, "--model", toys.gguf, "--window", "2K", "--no-cache", "--json"]
    done = alpaca("ask", "--questions", questions, *asked)
    assert done.code == 0
    receipts = {record["question"]: record["receipt"] for record in records(done)}
    assert set(receipts) == set(SENTENCES)
    # Both are answered from one page: whichever comes second finds it read.
    both = sorted(receipts[question]["evaluated_tokens"] for question in (TEN_YEARS, SICK))
    assert both[0] < 0.2 * both[1]
    assert receipts[TEN_YEARS]["passages_used"] == receipts[SICK]["passages_used"]


# Answers in a file


def test_answers_are_kept_and_another_run_asks_only_what_is_left(
    alpaca: Alpaca, library: Path, questions: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    asked = ["ask", "--questions", questions, "--answers", answers, "--library", library, "--json"]
    first = alpaca(*asked)
    assert kept(answers) == records(first)
    again = alpaca(*asked)
    assert (again.code, again.out) == (0, "")
    assert "3 of 3 questions are answered already" in alpaca(*asked[:-1]).err
    # The process was killed in the middle of a line: that answer is asked for again.
    whole = answers.read_bytes()
    cut = whole[: whole.rindex(b'"receipt"')]
    answers.write_bytes(cut)
    assert [record["question"] for record in records(alpaca(*asked))] == [SICK]
    assert [record["question"] for record in kept(answers)] == [TEN_YEARS, PRICE, SICK]
    # The same question twice is two questions, and more may be added.
    questions.write_text(LISTED + f"{PRICE}\n", encoding="utf-8")
    assert [(record["question"], record["line"]) for record in records(alpaca(*asked))] == [(PRICE, 7)]
    assert alpaca(*asked).out == ""


def test_a_last_line_without_its_line_break_counts(
    alpaca: Alpaca, library: Path, questions: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    asked = ["ask", "--questions", questions, "--answers", answers, "--library", library, "--json"]
    alpaca(*asked)
    whole = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(whole[:2]).rstrip(b"\n"))
    assert [record["question"] for record in records(alpaca(*asked))] == [SICK]
    assert len(kept(answers)) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("我的笔记，没有换行", "Line 1 of"),
        ("我的笔记\n", "is no answer"),
        ('{"question": "年假有几天？", "answer": "五天"}\n', "is no answer"),
        ('{"question": "别的问题？", "answer": "", "citations": [], "receipt": {}}\n', "other questions: “别的问题？”"),
    ],
)
def test_a_file_that_holds_something_else_is_left_as_it_is(
    alpaca: Alpaca, library: Path, questions: Path, tmp_path: Path, content: str, said: str
) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(content, encoding="utf-8")
    asked = ["ask", "--questions", questions, "--answers", answers, "--library", library]
    done = alpaca(*asked, "--json")
    assert (done.code, done.error["type"]) == (2, "WrongUsageError")
    assert done.error["hint"]
    assert answers.read_text(encoding="utf-8") == content
    assert said in alpaca(*asked, language="en").err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_after_ctrl_c_what_was_answered_is_kept_and_the_next_run_goes_on(
    alpaca: Alpaca, library: Path, tmp_path: Path, toys: ToyCheckpoint
) -> None:
    listed, answers = tmp_path / "many.txt", tmp_path / "answers.jsonl"
    # Nothing is found for the first, so that its answer is there at once; the others take the model seconds.
    asked = ["How many days of leave?", *(f"第{number}问：年假有几天？" for number in range(24))]
    listed.write_text("\n".join(asked), encoding="utf-8")
    arguments = ["ask", "--questions", listed, "--answers", answers, "--library", library]
    arguments += ["--model", toys.gguf, "--window", "2K", "--no-cache"]
    process = subprocess.Popen(
        [sys.executable, "-m", "chinese_alpaca_rag", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ALPACA_RAG_LANGUAGE": "en"},
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not (answers.exists() and answers.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    finished = len(kept(answers))
    assert 0 < finished < len(asked)
    assert process.returncode == 130
    assert f" of {len(asked)} questions are answered, in " in complaint.decode()
    done = alpaca(*arguments[:-5], "--json")
    assert (done.code, len(records(done))) == (0, len(asked) - finished)
    assert {record["question"] for record in kept(answers)} == set(asked)


# What is refused


def test_what_cannot_be_meant_is_refused(alpaca: Alpaca, library: Path, tmp_path: Path, questions: Path) -> None:
    empty, broken, binary = tmp_path / "empty.txt", tmp_path / "broken.jsonl", tmp_path / "binary.txt"
    empty.write_text("\n# nothing\n  \n")
    broken.write_text('{"question": "年假？"}\n{"q": 1}\n')
    binary.write_bytes(bytes(range(256)) * 40)
    cases = [
        (["--questions", empty], "WrongUsageError", "holds no question"),
        (["--questions", broken], "WrongUsageError", "Line 2 of"),
        (["--questions", tmp_path / "none.txt"], "WrongUsageError", "no such file"),
        (["--questions", tmp_path], "WrongUsageError", "no such file"),
        (["--questions", binary], "DocumentRefusedError", "binary.txt cannot be read"),
        ([TEN_YEARS, "--questions", questions], "WrongUsageError", "a question, and a file"),
        ([TEN_YEARS, "--answers", tmp_path / "a.jsonl"], "WrongUsageError", "--answers goes with --questions"),
        (["--questions", questions, "--answers", questions], "WrongUsageError", "the same file"),
        (["--questions", questions, "--passages", "0"], "WrongUsageError", "--passages"),
    ]
    for arguments, kind, said in cases:
        done = alpaca("ask", *arguments, "--library", library, "--json")
        assert (done.code, done.error["type"]) == (2 if kind == "WrongUsageError" else 1, kind), arguments
        assert said in done.error["message"], arguments
        assert done.error["hint"]
        told = alpaca("ask", *arguments, "--library", library, language="zh")
        assert (told.out, told.err.startswith("错误：")) == ("", True)
    assert questions.read_text(encoding="utf-8") == LISTED


def test_an_answers_file_in_no_folder_is_told_before_a_model_is_opened(
    alpaca: Alpaca, library: Path, questions: Path, tmp_path: Path
) -> None:
    asked = ["ask", "--questions", questions, "--library", library, "--model", "chinese-alpaca-2-7b"]
    done = alpaca(*asked, "--answers", tmp_path / "none" / "a.jsonl", "--json")
    assert (done.code, done.error["type"]) == (1, "FileError")
    assert alpaca(*asked, "--json").error["type"] == "ModelNotFoundError"


def test_a_file_that_never_ends_is_refused(alpaca: Alpaca, library: Path) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero")
    done = alpaca("ask", "--questions", "/dev/zero", "--library", library, "--json")
    assert (done.code, done.error["type"]) == (2, "WrongUsageError")
    assert "16 MiB" in done.error["message"]
