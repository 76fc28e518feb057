"""Command lines that cannot be meant: exit code 2, in the user's language, with the way out."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Alpaca

MISTAKES = [
    (["ask"], "缺少参数：问题", "Missing argument: QUESTION"),
    (["ingest"], "缺少参数：路径…", "Missing argument: PATH…"),
    (["models", "show"], "缺少参数：名称", "Missing argument: NAME"),
    (["ingst", "x"], "没有这个命令：ingst。您是否想用 ingest？", "No such command: ingst. Did you mean ingest?"),
    (["models", "lst"], "没有这个命令：lst。您是否想用 list？", "No such command: lst. Did you mean list?"),
    (["it's"], "没有这个命令：it's", "No such command: it's"),
    (["frobnicate"], "没有这个命令：frobnicate", "No such command: frobnicate"),
    (["ask", "q", "--libary", "x"], "您是否想用 --library？", "Did you mean --library?"),
    (["ask", "q", "--colour"], "没有这个选项：--colour", "No such option: --colour"),
    (["ask", "q", "-x"], "没有这个选项：-x", "No such option: -x"),
    (["ask", "q", "--model"], "选项 --model 需要一个值。", "Option --model needs a value."),
    (["ask", "q", "--json=yes"], "选项 --json 不带值。", "Option --json takes no value."),
    (["sources", "extra", "more"], "多出了参数：extra more", "Unexpected argument: extra more"),
    (
        ["ask", "q", "--window", "wide"],
        "窗口“wide”不是一个可用的词元数。",
        "A window of 'wide' is no number of tokens.",
    ),
    (["ask", "q", "--window", "0"], "窗口“0”", "A window of '0'"),
    (["ask", "q", "--window", "-5"], "窗口“-5”", "A window of '-5'"),
    (["ask", "q", "--window", "1.5"], "窗口“1.5”", "A window of '1.5'"),
    (["summarize", "x", "--strategy", "refine"], "--strategy 的值 'refine' 不可用。", "--strategy cannot be 'refine'."),
    (["ask", "q", "--passages", "0"], "--passages 不能是 '0'。", "--passages cannot be '0'."),
    (["ask", "q", "-k", "many"], "--passages 不能是 'many'。", "--passages cannot be 'many'."),
    (["ask", ""], "没有问题可答", "There is nothing to answer"),
    (["ask", " \t "], "没有问题可答", "There is nothing to answer"),
    (["ask", "？！…"], "没有问题可答", "There is nothing to answer"),
]


@pytest.mark.parametrize(
    ("arguments", "zh", "en"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_told_in_both_languages(alpaca: Alpaca, arguments: list[str], zh: str, en: str) -> None:
    chinese = alpaca(*arguments, language="zh")
    assert chinese.code == 2
    assert chinese.out == ""
    assert chinese.err.startswith("错误：")
    assert zh in chinese.err
    assert not re.search(r"\b(Usage|Error|Missing|Try|Invalid)\b", chinese.err)
    english = alpaca(*arguments, language="en")
    assert english.code == 2
    assert english.err.startswith("Error: ")
    assert en in english.err
    assert len(english.err.splitlines()) >= 2, "a hint follows"


@pytest.mark.parametrize(
    ("arguments", "zh", "en"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_with_json_is_a_document(alpaca: Alpaca, arguments: list[str], zh: str, en: str) -> None:
    if "--model" in arguments or "--json=yes" in arguments:
        arguments = ["--json", *arguments]
    else:
        arguments = [*arguments, "--json"]
    done = alpaca(*arguments, language="zh")
    assert (done.code, done.err) == (2, "")
    assert zh in done.error["message"] + done.error["hint"]
    assert done.error["hint"]
    assert done.error["type"].endswith("Error")


def test_a_mistake_in_the_environment_is_told(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_LIBARY", "/somewhere")
    done = alpaca("sources")
    assert done.code == 2
    assert "Did you mean ALPACA_RAG_LIBRARY?" in done.err
    assert alpaca("--help").code == 0


def test_options_may_stand_before_the_command(alpaca: Alpaca) -> None:
    done = alpaca("--window", "nonsense", "sources")
    assert "'nonsense'" in done.err
    assert "'other'" in alpaca("--window", "nonsense", "sources", "--window", "other").err
    assert alpaca("--json", "models", "list").document["models"]
    assert alpaca("models", "--json", "list").document["models"]


def test_json_after_the_end_of_options_is_a_question(alpaca: Alpaca, tmp_path: object) -> None:
    done = alpaca("ask", "--library", tmp_path, "--", "--json")
    assert done.out == ""
    assert done.code == 1  # no library there: the question itself is fine
