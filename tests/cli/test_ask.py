"""``ask`` and ``sources`` over a library: what a person reads, what a program reads, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms.extractive import NOTICE
from tests.cli.conftest import HANDBOOK, ROOT, Alpaca, put
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

QUESTION = "工作满十年有几天年假？"
SENTENCE = "工作满十年的员工每年享有十天年假。"
ANSWER_KEYS = ["answer", "citations", "receipt"]
CITATION_KEYS = ["n", "source", "page", "start", "end", "quote", "verified"]
RECEIPT_KEYS = {
    "model", "strategy", "window", "prompt_tokens", "reused_tokens", "evaluated_tokens", "output_tokens",
    "passages_used", "passages_kept", "passages_dropped", "seconds_to_first_token", "seconds",
}  # fmt: skip


def test_the_answer_as_json(alpaca: Alpaca, library: Path) -> None:
    done = alpaca("ask", QUESTION, "--library", library, "--json")
    assert (done.code, done.err) == (0, "")
    answer = done.document
    assert list(answer) == ANSWER_KEYS
    assert answer["answer"].startswith(SENTENCE)
    first = answer["citations"][0]
    assert list(first) == CITATION_KEYS
    assert (first["source"], first["page"], first["quote"], first["verified"]) == (
        "/docs/员工手册.pdf",
        2,
        SENTENCE,
        True,
    )
    assert HANDBOOK[1][first["start"] : first["end"]] == first["quote"]
    assert RECEIPT_KEYS | {"dropped", "remarks"} == set(answer["receipt"])
    assert answer["receipt"]["model"] == "extractive"


def test_the_answer_for_a_person(alpaca: Alpaca, library: Path) -> None:
    done = alpaca("ask", QUESTION, "--library", library, language="zh")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith(SENTENCE)
    assert "引用" in lines
    assert f"[{lines[0].split('[')[1][0]}] 员工手册 · 第2页 · “{SENTENCE}” ✓" in lines
    assert "    /docs/员工手册.pdf" in lines
    assert lines[-1].startswith("extractive · stuff · 读了 ")
    assert NOTICE.zh in done.err
    english = alpaca("ask", QUESTION, "--library", library, language="en")
    assert "员工手册 · page 2 · " in english.out
    assert NOTICE.en in english.err


def test_a_sheet_is_called_by_its_name(alpaca: Alpaca, library: Path) -> None:
    assert "价格表 · 工作表“报价” · " in alpaca("ask", "网关 G200 的单价？", "--library", library, language="zh").out


@pytest.mark.parametrize(
    "content", [QUESTION.encode(), b"\xef\xbb\xbf" + QUESTION.encode() + b"\r\n", QUESTION.encode("gb18030")], ids=len
)
def test_the_question_may_come_from_standard_input(alpaca_process: Alpaca, library: Path, content: bytes) -> None:
    done = alpaca_process("ask", "-", "--library", library, "--json", stdin=content)
    assert SENTENCE in done.document["answer"]


def test_the_question_need_not_be_quoted(alpaca: Alpaca, library: Path) -> None:
    done = alpaca("ask", "工作满十年", "年假", "--library", library, "--json")
    assert SENTENCE in done.document["answer"]


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX"}], ids=len
)
def test_a_chinese_question_in_a_locale_without_chinese(
    alpaca_process: Alpaca, library: Path, locale: dict[str, str]
) -> None:
    done = alpaca_process("ask", QUESTION, "--library", library, "--json", environment=locale)
    assert SENTENCE in done.document["answer"]


def test_an_empty_standard_input_is_an_empty_question(alpaca_process: Alpaca, library: Path) -> None:
    done = alpaca_process("ask", "-", "--library", library, "--json")
    assert (done.code, done.error["type"]) == (2, "EmptyQuestionError")


def test_so_many_passages_and_no_more(alpaca: Alpaca, tmp_path: Path) -> None:
    with Library.open(tmp_path / "many", create=True) as opened:
        for number in range(8):
            put(opened, f"/docs/{number}.txt", [f"第{number}条规定：年假需要提前申请。"], kind="whole")
    asked = ["ask", "年假怎样申请？", "--library", tmp_path / "many", "--json", "--passages"]
    assert alpaca(*asked, 3).document["receipt"]["passages_used"] == 3
    assert alpaca(*asked, 100).document["receipt"]["passages_used"] == 8


def test_documents_cannot_control_the_terminal(alpaca: Alpaca, tmp_path: Path) -> None:
    with Library.open(tmp_path / "hostile", create=True) as opened:
        put(opened, "/docs/\x1b[2J恶意.txt", ["年假\x1b[31m是[bold]五天\x1b]0;x\x07。"], kind="whole")
    done = alpaca("ask", "年假是几天？", "--library", tmp_path / "hostile")
    listed = alpaca("sources", "--library", tmp_path / "hostile")
    assert "[bold]五天" in done.out
    for text in (done.out, done.err, listed.out, listed.err):
        assert not {"\x1b", "\x07"} & set(text)


# With a model


def test_a_model_answers_and_its_tokens_are_counted(alpaca: Alpaca, library: Path, toys: ToyCheckpoint) -> None:
    done = alpaca("ask", QUESTION, "--library", library, "--model", toys.gguf, "--window", "2K", "--json")
    assert done.code == 0
    assert list(done.document)[:3] == ANSWER_KEYS
    receipt = done.document["receipt"]
    assert receipt["window"] == 2048
    assert receipt["prompt_tokens"] == receipt["evaluated_tokens"] + receipt["reused_tokens"] > 0
    assert receipt["output_tokens"] > 0


def test_the_next_run_begins_as_the_last_one_did(
    alpaca: Alpaca, library: Path, toys: ToyCheckpoint, own_home: Path
) -> None:
    asked = ["--library", library, "--model", toys.gguf, "--window", "900"]
    first = alpaca("ask", QUESTION, *asked, "--passages", 1, "--json").document["receipt"]
    # In canonical order the price list would come before the handbook, and only the heading be reused.
    done = alpaca("ask", f"网关的单价是多少？{QUESTION}", *asked, "--passages", 2)
    assert done.code == 0
    reused, evaluated = (
        int(number.replace(",", ""))
        for number in re.findall(r"([\d,]+) (?:reused|evaluated)", done.out.splitlines()[-1])
    )
    assert first["reused_tokens"] == 0
    assert reused > 0.75 * first["prompt_tokens"] > evaluated > 0
    [packings] = (own_home / ".cache" / "chinese-alpaca-rag" / "packings").iterdir()
    assert packings.stat().st_mode & 0o777 == 0o600
    assert "docs" not in packings.read_text()
    without = alpaca("ask", QUESTION, "--library", copied(library), *asked[2:], "--no-cache", "--json")
    assert without.document["receipt"]["reused_tokens"] == 0
    assert len(list(packings.parent.iterdir())) == 1


def test_the_text_of_a_model_is_shown_as_it_comes(alpaca_process: Alpaca, library: Path, toys: ToyCheckpoint) -> None:
    done = alpaca_process(
        "ask", QUESTION, "--library", library, "--model", toys.gguf, environment={"ALPACA_RAG_LANGUAGE": "zh"}
    )
    assert (done.code, done.err) == (0, "")
    assert not set(map(chr, range(32))) - {"\n", "\t"} & set(done.out)
    assert "窗口 4,096 · 读入 " in done.out.splitlines()[-1]


def test_the_model_and_its_window_may_be_set_for_good(
    alpaca: Alpaca, library: Path, toys: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_RAG_MODEL", str(toys.gguf))
    monkeypatch.setenv("ALPACA_RAG_WINDOW", "1024")
    monkeypatch.setenv("ALPACA_RAG_LIBRARY", str(library))
    assert alpaca("ask", QUESTION, "--json").document["receipt"]["window"] == 1024
    assert alpaca("ask", QUESTION, "--model", "extractive", "--json").document["receipt"]["window"] is None


def test_a_model_is_found_by_name_in_the_models_folder(
    alpaca: Alpaca, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    build_toy_family(models, tokenizer_model=toy_tokenizer_model(), name="chinese-alpaca-2-7b-rlhf")
    monkeypatch.setenv("ALPACA_RAG_MODELS", str(models))
    done = alpaca("ask", QUESTION, "--library", library, "--model", "chinese-alpaca-2-7b-rlhf", "--json")
    # Found, opened, and seen not to be what it is called: the toy's vocabulary is not the 7B's.
    assert done.error["type"] == "CheckpointError"
    assert "55296" in done.error["message"]


def copied(library: Path) -> Path:
    """The same library somewhere else."""
    return shutil.copytree(library, library.with_name("copy"))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "said", "hinted"),
    [
        (["--model", "chinese-alpaca-2-7b-61k"], 2, "UnknownModelError", "2-7b-61k", "chinese-alpaca-2-7b-64k"),
        (["--model", "./nowhere.gguf"], 2, "UnknownModelError", "./nowhere.gguf", "models list"),
        (["--model", "chinese-llama-2-7b"], 2, "NotAChatModelError", "chinese-llama-2-7b", "chinese-alpaca-2-7b"),
        (["--model", "chinese-alpaca-2-7b"], 1, "ModelNotFoundError", "chinese-alpaca-2-7b", "hf download"),
        (["--model", "chinese-alpaca-2-7b", "--window", "64K"], 2, "WindowUnreachableError", "65536", "-64k"),
        (["--window", "0"], 2, "WindowUnreachableError", "'0'", "--window 16K"),
        (["--strategy", "refine"], 2, "WrongUsageError", "refine", "map_reduce"),
        (["--passages", "-1"], 2, "WrongUsageError", "-1", "--passages 12"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    alpaca: Alpaca, library: Path, arguments: list[str], code: int, kind: str, said: str, hinted: str
) -> None:
    done = alpaca("ask", QUESTION, "--library", library, *arguments, "--json")
    assert (done.code, done.error["type"]) == (code, kind)
    assert said in done.error["message"]
    assert hinted in done.error["hint"]
    told = alpaca("ask", QUESTION, "--library", library, *arguments, language="zh")
    assert (told.code, told.out) == (code, "")
    assert told.err.startswith("错误：")
    assert len(told.err.splitlines()) >= 2


def test_a_base_model_by_its_path_is_refused(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    base = build_toy_family(tmp_path / "base", tokenizer_model=toy_tokenizer_model(), kind="base")
    for path in (base.gguf, base.hf):
        done = alpaca("ask", QUESTION, "--library", library, "--model", path, "--json")
        assert (done.code, done.error["type"]) == (2, "NotAChatModelError")


def test_a_window_beyond_the_files_reach_is_refused(alpaca: Alpaca, library: Path, toys: ToyCheckpoint) -> None:
    done = alpaca("ask", QUESTION, "--library", library, "--model", toys.hf, "--window", "1024K", "--json")
    assert (done.code, done.error["type"]) == (2, "WindowUnreachableError")
    assert "--window" in done.error["hint"]


def test_a_model_path_without_weights_is_refused(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text("{}")
    for place in ("empty", "text.gguf", "config"):
        done = alpaca("ask", QUESTION, "--library", library, "--model", tmp_path / place, "--json")
        assert (done.code, done.error["type"]) == (1, "CheckpointError"), place
        assert done.error["hint"]


@pytest.mark.parametrize("command", [["ask", QUESTION], ["sources"]], ids=len)
def test_without_a_library_the_way_to_one_is_told(alpaca: Alpaca, own_home: Path, command: list[str]) -> None:
    done = alpaca(*command, "--json")
    assert (done.code, done.error["type"]) == (1, "LibraryNotFoundError")
    assert "alpaca-rag ingest" in done.error["hint"]
    assert str(own_home) in done.error["message"]
    assert not (own_home / ".local").exists(), "looking does not make one"


def test_an_empty_library_answers_nothing(alpaca: Alpaca, tmp_path: Path) -> None:
    Library.open(tmp_path / "empty", create=True).close()
    done = alpaca("ask", QUESTION, "--library", tmp_path / "empty", "--json")
    assert (done.code, done.error["type"]) == (1, "EmptyLibraryError")
    assert f"alpaca-rag ingest --library {tmp_path / 'empty'}" in done.error["hint"]
    listed = alpaca("sources", "--library", tmp_path / "empty")
    assert (listed.code, listed.out) == (0, "")
    assert "is empty" in listed.err
    assert alpaca("sources", "--library", tmp_path / "empty", "--json").document == {"files": []}


@pytest.mark.parametrize("command", [["ask", QUESTION], ["sources"], ["ingest", "."]], ids=len)
def test_a_library_path_that_is_a_file_is_refused(alpaca: Alpaca, tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "file"
    file.write_text("not a library")
    done = alpaca(*command, "--library", file, "--json")
    assert (done.code, done.error["type"]) == (1, "LibraryFormatError")
    assert "--library" in done.error["hint"]
    assert file.read_text() == "not a library"


@pytest.mark.parametrize("command", [["ask", QUESTION], ["sources"]], ids=len)
def test_a_library_of_another_version_is_refused(alpaca: Alpaca, library: Path, command: list[str]) -> None:
    import sqlite3

    connection = sqlite3.connect(library / "library.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    done = alpaca(*command, "--library", library, "--json")
    assert (done.code, done.error["type"]) == (1, "LibraryFormatError")
    assert "99" in done.error["message"] + done.error["hint"]


# The list


def test_the_list_as_json(alpaca: Alpaca, library: Path) -> None:
    files = alpaca("sources", "--library", library, "--json").document["files"]
    assert [list(file) for file in files] == [["path", "sha256", "status", "pages", "passages", "tags", "copies"]] * 2
    assert [(file["path"], file["pages"], file["passages"]) for file in files] == [
        ("/docs/价格表.xlsx", 1, 1),
        ("/docs/员工手册.pdf", 2, 2),
    ]


def test_the_list_for_a_person(alpaca: Alpaca, library: Path) -> None:
    with Library.open(library) as opened:
        put(opened, "/docs/残卷.pdf", ["一", "二"], kind="page", missing="第3页是扫描图像")
    done = alpaca("sources", "--library", library, language="zh")
    assert "/docs/价格表.xlsx" in done.out
    assert "不完整：第3页是扫描图像" in done.out
    assert "3 个文件，5 个段落" in done.err


def test_a_path_that_is_not_utf_8_is_listed(alpaca_process: Alpaca, library: Path) -> None:
    path = os.fsdecode(b"/docs/\xc4\xea\xbc\xd9.txt")
    with Library.open(library) as opened:
        put(opened, path, ["年假"], kind="whole")
    done = alpaca_process("sources", "--library", library, "--json")
    assert path in [file["path"] for file in json.loads(done.out)["files"]]
    assert alpaca_process("sources", "--library", library).code == 0


def test_an_extractive_answer_imports_nothing_that_it_does_not_need(library: Path) -> None:
    program = (
        "import sys; sys.argv = ['alpaca-rag', 'ask', '年假？', '--library', sys.argv[1]]\n"
        "from chinese_alpaca_rag.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'torch', 'transformers', 'llama_cpp', 'unstructured', 'numpy', 'rich', 'pypdfium2', 'sentencepiece'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(library)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]"
