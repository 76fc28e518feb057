"""Completion by Tab: commands and values, explained in the user's language."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT


@pytest.mark.parametrize(
    ("line", "language", "offered"),
    [
        ("alpaca-rag ", "zh", "把文件或文件夹读进知识库"),
        ("alpaca-rag ", "en", "Read files or folders into the library"),
        ("alpaca-rag ask --strategy ", "zh", "map_reduce"),
        ("alpaca-rag models ", "zh", "一个模型的全部资料"),
        ("alpaca-rag ask --lib", "zh", "知识库所在的文件夹"),
    ],
)
def test_zsh_is_offered_what_fits(line: str, language: str, offered: str) -> None:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "ALPACA_RAG_LANGUAGE": language, "_ALPACA_RAG_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": line,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "chinese_alpaca_rag"], capture_output=True, check=False, env=environment
    )
    assert offered in done.stdout.decode("utf-8")
