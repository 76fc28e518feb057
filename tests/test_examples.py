"""The example programs and the demonstration run as a reader of the README would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "examples" / "documents"
QUESTION = "没有休完的年假可以顺延到什么时候？"
ANSWER = "次年3月31日"


def run(program: str, *arguments: str | Path, language: str = "zh") -> str:
    """What the program prints; it must end well."""
    environment = {**os.environ, "ALPACA_RAG_LANGUAGE": language, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(ROOT / "examples" / program), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "library"
    command: Sequence[str] = [
        sys.executable,
        "-m",
        "chinese_alpaca_rag",
        "ingest",
        str(DOCUMENTS),
        "--library",
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    # It likes to close what it opened: JSON that is held to a schema then comes to an end.
    favoured = {'"': 2.5, "}": 1.5, "]": 1.5}
    return build_toy_family(tmp_path_factory.mktemp("toy"), tokenizer_model=toy_tokenizer_model(), favoured=favoured)


def test_the_demonstration_answers_with_verified_citations_and_says_what_is_next(tmp_path: Path) -> None:
    shown = run("demo.py", tmp_path / "library")
    asked = shown.split("$ alpaca-rag ask ")[1:]
    assert sum("✓" in part.split("$ alpaca-rag summarize")[0] for part in asked) >= 3
    assert "✗" not in shown
    assert "$ alpaca-rag summarize" in shown
    assert "alpaca-rag models list" in shown.rstrip().splitlines()[-1]
    again = run("demo.py", tmp_path / "library", language="en")
    assert "What to type next" in again


def test_ask(library: Path) -> None:
    shown = run("ask.py", library, QUESTION)
    assert ANSWER in shown.splitlines()[0]
    assert "✓" in shown


def test_stream(library: Path) -> None:
    lines = run("stream.py", library, QUESTION).splitlines()
    assert lines[0] == "[stuff]"
    assert ANSWER in lines[1]
    assert lines[-1].startswith("Receipt(")


def test_summarize() -> None:
    shown = run("summarize.py", DOCUMENTS / "年度报告.pdf")
    assert "stuff: " in shown.splitlines()[-1]
    assert len(shown) > 200


def test_own_retriever() -> None:
    assert ANSWER in run("own_retriever.py", DOCUMENTS / "员工手册.docx", QUESTION)


@pytest.mark.parametrize("backend", ["gguf", "hf"])
def test_chat_model(toy: ToyCheckpoint, backend: str) -> None:
    # Random weights say nothing sensible; that text comes out is what the program promises.
    assert run("chat_model.py", getattr(toy, backend), "你好").strip()


def test_ask_with_a_model_and_a_window(library: Path, toy: ToyCheckpoint) -> None:
    assert run("ask.py", library, QUESTION, toy.gguf, "4096").strip()


def test_many_questions(library: Path, toy: ToyCheckpoint, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text(f"{QUESTION}\n年假有几天？\n", encoding="utf-8")
    assert ANSWER in run("many_questions.py", library, file)
    assert run("many_questions.py", library, file, toy.gguf, "4096").count("prompt tokens evaluated") == 2


@pytest.mark.parametrize("backend", ["gguf", "hf"])
def test_structured(toy: ToyCheckpoint, backend: str, tmp_path: Path) -> None:
    notice = tmp_path / "notice.txt"
    notice.write_text("关于年假的通知。人力资源部，请在 3 月 31 日前提交申请。", encoding="utf-8")
    found = json.loads(run("structured.py", getattr(toy, backend), notice))
    assert set(found) == {"title", "department", "deadlines"}


def test_tools(toy: ToyCheckpoint) -> None:
    assert run("tools.py", toy.gguf, "到 2030 年 1 月 1 日还有几天？").strip()


def test_complete(tmp_path: Path) -> None:
    base = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), kind="base")
    for path in (base.gguf, base.hf):
        assert run("complete.py", path, "长江是").strip()


def test_watch_folder(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("员工每年享有十五天年假。", encoding="utf-8")
    command = [sys.executable, str(ROOT / "examples" / "watch_folder.py"), str(folder), str(tmp_path / "library")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=ROOT
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("年假有几天？\n")
        program.stdin.flush()
        assert "十五天" in program.stdout.readline()
        (folder / "b.txt").write_text("病假须在三天内交证明。", encoding="utf-8")
        for _ in range(60):
            time.sleep(0.5)
            program.stdin.write("病假证明几天内交？\n")
            program.stdin.flush()
            answer = program.stdout.readline()
            if "三天" in answer:
                break
        assert "三天" in answer
        program.stdin.close()
        assert program.wait(timeout=30) == 0
