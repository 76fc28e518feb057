"""``ingest`` on real files: what is reported, what is refused, and what a second run finds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.library.store import Library
from tests.cli.conftest import ROOT, Alpaca

FILE_KEYS = ["path", "status", "reason", "encoding", "confidence", "hidden", "pages", "passages"]
LEAVE = "年假规定：工作满一年的员工每年享有五天年假。工作满十年的员工每年享有十天年假。"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Three texts in three encodings, one of them in a folder below."""
    folder = tmp_path / "documents"
    (folder / "制度").mkdir(parents=True)
    (folder / "手册.md").write_text(f"# 年假\n\n{LEAVE}\n", encoding="utf-8")
    (folder / "制度" / "差旅.txt").write_text("出差到一线城市，住宿费每晚最多报销六百元。\n" * 3, encoding="gb18030")
    (folder / "公告.txt").write_text("本辦事處地址變更，請各位同仁留意新的電話號碼與地址。\n" * 3, encoding="big5")
    return folder


def statuses(document: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {Path(file["path"]).name: file["status"] for file in document["files"]}


def encrypted_pdf(path: Path) -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), encrypt=StandardEncryption("secret", canPrint=0))
    canvas.drawString(100, 700, "secret")
    canvas.save()


def test_what_was_read_as_json(alpaca: Alpaca, documents: Path, tmp_path: Path) -> None:
    done = alpaca("ingest", documents, "--library", tmp_path / "library", "--json")
    assert (done.code, done.err) == (0, "")
    assert list(done.document) == ["files", "passages", "seconds"]
    assert all(list(file) == FILE_KEYS for file in done.document["files"])
    assert statuses(done.document) == {"手册.md": "added", "差旅.txt": "added", "公告.txt": "added"}
    assert done.document["passages"] == sum(file["passages"] for file in done.document["files"]) >= 3
    encodings = {Path(file["path"]).name: file["encoding"].lower() for file in done.document["files"]}
    assert "18030" in encodings["差旅.txt"]
    assert "big5" in encodings["公告.txt"]
    with Library.open(tmp_path / "library", readonly=True) as library:
        assert library.passage_count() == done.document["passages"]


def test_a_second_run_finds_what_changed(alpaca: Alpaca, documents: Path, tmp_path: Path) -> None:
    command = ["ingest", documents, "--library", tmp_path / "library", "--json"]
    alpaca(*command)
    assert set(statuses(alpaca(*command).document).values()) == {"unchanged"}
    (documents / "手册.md").write_text(f"{LEAVE}病假需要提供医院证明。\n", encoding="utf-8")
    (documents / "公告.txt").rename(documents / "新公告.txt")
    (documents / "制度" / "差旅.txt").unlink()
    done = alpaca(*command, "--prune")
    assert done.code == 0
    found = statuses(done.document)
    assert (found["手册.md"], found["新公告.txt"], found["差旅.txt"]) == ("updated", "moved", "removed")


@pytest.mark.parametrize(
    ("language", "words"),
    [("zh", ["新增", "3 个文件（新增 3）", "段落"]), ("en", ["added", "3 files (added 3)", "passage"])],
)
def test_what_was_read_for_a_person(
    alpaca: Alpaca, documents: Path, tmp_path: Path, language: str, words: list[str]
) -> None:
    done = alpaca("ingest", documents, "--library", tmp_path / "library", language=language)
    assert done.code == 0
    assert all(word in done.out for word in words)
    assert "手册.md" in done.out
    assert str(tmp_path / "library") in done.err


def test_refused_files_are_named_with_the_reason(alpaca: Alpaca, documents: Path, tmp_path: Path) -> None:
    (documents / "空.txt").touch()
    encrypted_pdf(documents / "加密.pdf")
    done = alpaca("ingest", documents, "--library", tmp_path / "library", "--json", language="zh")
    assert done.code == 3
    refused = {
        Path(file["path"]).name: file["reason"] for file in done.document["files"] if file["status"] == "refused"
    }
    assert set(refused) == {"空.txt", "加密.pdf"}
    assert all(refused.values())
    assert refused["空.txt"] != refused["加密.pdf"]
    told = alpaca("ingest", documents, "--library", tmp_path / "library", language="zh")
    assert told.code == 3
    assert "被拒绝" in told.out
    assert refused["加密.pdf"] in told.out
    english = alpaca("ingest", documents, "--library", tmp_path / "library", language="en")
    assert "refused" in english.out
    assert refused["加密.pdf"] not in english.out


def test_of_many_files_those_that_went_wrong_are_all_named(alpaca: Alpaca, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        text = "" if number % 2 else f"第{number}条：{LEAVE}"
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    done = alpaca("ingest", folder, "--library", tmp_path / "library")
    assert sum(line.startswith("added") for line in done.out.splitlines()) == 20
    assert "… and 10 more (--json lists all)" in done.out
    assert sum(line.startswith("refused") for line in done.out.splitlines()) == 30
    assert "60 files (added 30, refused 30)" in done.out


@pytest.mark.parametrize("make", [Path.touch, encrypted_pdf], ids=["empty", "encrypted"])
def test_a_single_refused_file(alpaca: Alpaca, tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "file.pdf"
    make(file)
    done = alpaca("ingest", file, "--library", tmp_path / "library", "--json")
    assert done.code == 3
    assert [entry["status"] for entry in done.document["files"]] == ["refused"]
    summary = alpaca("summarize", file, "--json")
    assert (summary.code, summary.error["type"]) == (1, "DocumentRefusedError")
    assert "file.pdf" in summary.error["message"]
    assert summary.error["hint"]


@pytest.mark.parametrize("command", ["ingest", "summarize"])
def test_a_missing_file(alpaca: Alpaca, tmp_path: Path, command: str) -> None:
    done = alpaca(command, tmp_path / "没有.txt", "--library", tmp_path / "library", "--json")
    assert done.code == 1
    assert "没有.txt" in done.error["message"]
    assert done.error["hint"]
    assert not (tmp_path / "library").exists(), "nothing was read, so no library was made"


@pytest.mark.parametrize("command", ["ingest", "summarize"])
def test_a_folder_without_documents(alpaca: Alpaca, tmp_path: Path, command: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = alpaca(command, tmp_path / "folder", "--library", tmp_path / "library", "--json")
    assert (done.code, done.error["type"]) == (1, "NoDocumentsError")
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize("command", ["ingest", "summarize"])
def test_an_unknown_format(alpaca: Alpaca, tmp_path: Path, command: str) -> None:
    file = tmp_path / "data.xyz"
    file.write_bytes(bytes(range(256)) * 8)
    done = alpaca(command, file, "--library", tmp_path / "library", "--json")
    assert done.code in (1, 3)
    assert ".xyz" in done.out or "data.xyz" in done.out


def test_the_encoding_may_be_said(alpaca: Alpaca, tmp_path: Path) -> None:
    file = tmp_path / "短.txt"
    file.write_bytes("年假十天".encode("gb18030"))
    done = alpaca("ingest", file, "--encoding", "gb18030", "--library", tmp_path / "library", "--json")
    assert done.document["files"][0]["encoding"].lower().replace("-", "") == "gb18030"
    for wrong in ("gb99999", "hex", "rot13"):
        done = alpaca("ingest", file, "--encoding", wrong, "--library", tmp_path / "other", "--json")
        assert (done.code, done.error["type"]) == (2, "WrongUsageError")
        assert wrong in done.error["message"]


def test_the_rate_is_shown_on_a_terminal_only(documents: Path, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chinese_alpaca_rag", "ingest", str(documents), "--library", str(tmp_path / "library")],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ALPACA_RAG_LANGUAGE": "zh", "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        shown += piece
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "读取文件" in shown.decode()
    assert "3/3" in shown.decode()
    assert b"\x1b" not in out


def test_control_c_keeps_what_was_read(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}.md").write_text(f"# 第{number}条\n\n{LEAVE}\n" * 20, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "chinese_alpaca_rag",
        "ingest",
        str(folder),
        "--library",
        str(tmp_path / "library"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        with contextlib.suppress(LibraryError), Library.open(tmp_path / "library", readonly=True) as library:
            if len(library.files()) >= 3:
                break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert "the same command finishes the rest" in err.decode()
    with Library.open(tmp_path / "library", readonly=True) as library:
        assert 0 < len(library.files()) < 400


def test_tags_are_put_on_files_read_now_or_before(alpaca: Alpaca, documents: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    assert alpaca("ingest", documents, "--library", library).code == 0
    assert "tags" not in alpaca("sources", "--library", library).out.splitlines()[0]
    assert alpaca("ingest", documents, "--tag", "人事", "-t", "2024", "--library", library).code == 0
    files = alpaca("sources", "--library", library, "--json").document["files"]
    assert all(file["tags"] == ["2024", "人事"] for file in files)
    assert "2024, 人事" in alpaca("sources", "--library", library).out
    assert alpaca("ingest", documents, "--tag", " ", "--library", library).code == 2
