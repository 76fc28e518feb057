"""The design's promises about the code itself: import directions, lazy imports, sizes of files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "chinese_alpaca_rag"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in PACKAGE.rglob("*.py")
)
HEAVY = ("torch", "transformers", "llama_cpp", "unstructured", "spacy", "chromadb", "faiss", "sentence_transformers")


def test_rooms_import_only_what_the_table_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", cache_dir=None) == EXIT_STATUS_SUCCESS


def test_importing_every_module_loads_nothing_heavy() -> None:
    names = [name for name in MODULES if not name.endswith("__main__")]
    program = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("folder", ["chinese_alpaca_rag", "tests", "benchmarks", "examples", "tools"])
def test_files_stay_readable_in_one_sitting(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 420} == {}


def test_no_module_swallows_every_error_without_a_word() -> None:
    silent = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []
