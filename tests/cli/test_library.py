"""``alpaca-rag library``."""

from __future__ import annotations

import json
from pathlib import Path

from chinese_alpaca_rag.library.database import FILE_NAME
from tests.cli.conftest import Alpaca


def test_check_says_that_all_is_well(alpaca: Alpaca, library: Path) -> None:
    done = alpaca("library", "check", "--library", library)
    assert (done.code, done.err) == (0, "")
    assert "whole" in done.out
    assert alpaca("library", "check", "--library", library, "--json").document["whole"] is True
    assert "完好" in alpaca("library", "check", "--library", library, language="zh").out


def test_check_of_what_is_no_library(alpaca: Alpaca, tmp_path: Path) -> None:
    missing = alpaca("library", "check", "--library", tmp_path / "none")
    assert missing.code == 1
    assert "ingest" in missing.err
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1000)
    broken = alpaca("library", "check", "--library", tmp_path)
    assert broken.code == 1
    assert "rebuild --to" in broken.err
    assert alpaca("library", "check", "--library", tmp_path, "--json").document["whole"] is False


def test_rebuild_here_and_elsewhere(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    assert alpaca("library", "rebuild", "--library", library, "--json").document["passages"] > 0
    done = alpaca("library", "rebuild", "--to", tmp_path / "new", "--library", library)
    assert done.code == 0
    asked = alpaca("ask", "电源模块的单价是多少？", "--library", tmp_path / "new")
    assert "三百元" in asked.out
    again = alpaca("library", "rebuild", "--to", tmp_path / "new", "--library", library)
    assert again.code == 2
    assert "--to" in again.err


def test_export_to_a_file_and_to_standard_output(alpaca: Alpaca, library: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    assert alpaca("library", "export", target, "--library", library).code == 0
    lines = target.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert target.stat().st_mode & 0o077 == 0
    assert any("电源模块" in page["text"] for line in lines for page in json.loads(line)["pages"])
    assert alpaca("library", "export", "--library", library).out.splitlines() == lines
    refused = alpaca("library", "export", tmp_path / "no" / "where.jsonl", "--library", library)
    assert refused.code == 2
    assert "cannot be written" in refused.err


def test_compact(alpaca: Alpaca, library: Path) -> None:
    sizes = alpaca("library", "compact", "--library", library, "--json").document
    assert 0 < sizes["after"] <= sizes["before"]
    assert alpaca("library", "compact", "--library", library).code == 0
