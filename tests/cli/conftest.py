"""Running the command line, inside the test process or as a user's shell would, away from the user's own settings."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.cli.run import run
from chinese_alpaca_rag.library.records import Page, PageKind, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.store import Library
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Done:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it has to be."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error that ``--json`` printed."""
        document = self.document
        assert list(document) == ["error"]
        return dict(document["error"])


Alpaca = Callable[..., Done]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own for each test, in English unless the test says otherwise."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.upper().startswith("ALPACA_RAG_") or name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ALPACA_RAG_LANGUAGE", "en")
    monkeypatch.setenv("COLUMNS", "100")
    return home


@pytest.fixture
def alpaca(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Alpaca:
    """Run ``alpaca-rag ARGUMENTS…`` in this process."""

    def call(*arguments: object, language: str = "en") -> Done:
        monkeypatch.setenv("ALPACA_RAG_LANGUAGE", language)
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture
def alpaca_process() -> Alpaca:
    """Run ``python -m chinese_alpaca_rag ARGUMENTS…`` as a process of its own; ``environment`` adds to this one's."""

    def call(
        *arguments: object, environment: dict[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
    ) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "chinese_alpaca_rag", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        return Done(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace"))

    return call


HANDBOOK = [
    "第一章 总则。本手册适用于全体员工。",
    "工作满一年的员工每年享有五天年假。\n工作满十年的员工每年享有十天年假。\n病假需要提供医院证明。",
]
PRICES = "网关 G200 的单价是一千二百元。\n电源模块的单价是三百元。"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of two documents: a handbook of two pages and a workbook of one sheet."""
    folder = tmp_path / "library"
    with Library.open(folder, create=True) as opened:
        put(opened, "/docs/员工手册.pdf", HANDBOOK, kind="page")
        put(opened, "/docs/价格表.xlsx", [PRICES], kind="sheet", label="报价")
    return folder


def put(library: Library, path: str, texts: list[str], *, kind: PageKind, label: str = "", missing: str = "") -> None:
    """Store a document whose pages are ``texts``, each page one passage."""
    pages = tuple(Page(number, text, label) for number, text in enumerate(texts, start=1))
    document = ParsedDocument(
        format=Path(path).suffix[1:], title=Path(path).stem, pages=pages, page_kind=kind, missing=missing
    )
    spans = [PassageSpan(page.number, 0, len(page.text)) for page in pages if page.text]
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    library.put_file(path=path, sha256=digest, size=1, modified_ns=0, parser="test", document=document, spans=spans)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """A chat model of the family with random weights."""
    return build_toy_family(tmp_path_factory.mktemp("toys"), tokenizer_model=toy_tokenizer_model())
