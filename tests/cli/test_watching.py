"""``alpaca-rag ingest --watch``, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.store import Library
from tests.cli.conftest import ROOT, Alpaca

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")


@contextmanager
def watching(folder: Path, library: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "chinese_alpaca_rag", "ingest", folder, "--watch", "--json", "--library", library]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def names(library: Path) -> dict[str, int]:
    if not library.exists():
        return {}
    try:
        with Library.open(library, readonly=True) as opened:
            return {Path(record.path).name: record.size for record in opened.files()}
    except Exception:
        return {}


def test_a_folder_is_kept_in_step(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    library = folder / "kb"  # inside the folder that it is made from
    folder.mkdir()
    (folder / "a.txt").write_text("年假为十五天。", encoding="utf-8")
    with watching(folder, library) as process:
        until(lambda: set(names(library)) == {"a.txt"}, process)
        (folder / "b.txt").write_text("病假要证明。", encoding="utf-8")
        until(lambda: set(names(library)) == {"a.txt", "b.txt"}, process)
        (folder / "b.txt").write_text("病假要证明，并在三天内提交。", encoding="utf-8")
        until(lambda: names(library).get("b.txt") == (folder / "b.txt").stat().st_size, process)
        (folder / "a.txt").unlink()
        until(lambda: set(names(library)) == {"b.txt"}, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    rounds = [json.loads(line) for line in out.splitlines()]
    assert len(rounds) <= 6  # the library's own writing starts no round
    assert {file["status"] for one in rounds for file in one["files"]} >= {"added", "updated", "removed"}


def test_a_folder_that_is_empty_at_first(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    with watching(folder, tmp_path / "kb") as process:
        until((tmp_path / "kb").exists, process)
        (folder / "a.txt").write_text("年假为十五天。", encoding="utf-8")
        until(lambda: set(names(tmp_path / "kb")) == {"a.txt"}, process)


def test_a_folder_that_is_not_there(alpaca: Alpaca, tmp_path: Path) -> None:
    done = alpaca("ingest", tmp_path / "none", "--watch", "--library", tmp_path / "kb")
    assert done.code == 1
    assert "There is no" in done.err
    assert not (tmp_path / "kb").exists()
