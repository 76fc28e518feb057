"""A writer killed at any moment leaves a library that opens and holds each file whole or not at all."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put

ROOT = Path(__file__).resolve().parents[2]
FILES = 12
WRITER = """
import sys
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put
from tests.library.test_crash import pages_of
folder, generation = sys.argv[1], int(sys.argv[2])
with Library.open(folder, create=True) as library:
    print("writing", flush=True)
    while True:
        for number in range(12):
            put(library, f"/{number}", *pages_of(number, generation), title=f"第{number}号")
        library.remove_file("/0")
        library.move_file("/1", "/0", modified_ns=generation)
        generation += 1
"""


def pages_of(number: int, generation: int) -> list[str]:
    """Three pages that all name the file's number and generation, so that a mixture shows."""
    return [f"文件{number} 第{generation}代 第{page}页。" * 60 for page in (1, 2, 3)]


def check(library: Library) -> int:
    """Every file is whole: three pages and passages of one generation, each found by the index. Their count."""
    assert library._rows("PRAGMA integrity_check") == [("ok",)]
    assert library._rows("PRAGMA foreign_key_check") == []
    library._rows("INSERT INTO passage_terms (passage_terms) VALUES ('integrity-check')")
    indexed = {row[0] for row in library._rows("SELECT id FROM passage_terms_docsize")}
    held: set[int] = set()
    for record in library.files():
        passages = library.passages(record.path)
        held.update(passage.id for passage in passages)
        assert (record.pages, record.passages, len(passages)) == (3, 3, 3)
        first = passages[0].text.split("。")[0]
        number, generation, _ = (int("".join(filter(str.isdigit, part))) for part in first.split())
        assert [passage.text for passage in passages] == pages_of(number, generation)
        assert [library.page_text(record.path, page) for page in (1, 2, 3)] == pages_of(number, generation)
    assert indexed == held
    return len(library.files())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_writer_killed_at_random_moments(tmp_path: Path) -> None:
    generator = random.Random(20240229)
    generation, seen = 1, 0
    for _ in range(14):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(generation)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            time.sleep(generator.uniform(0.0, 0.4))
            writer.send_signal(signal.SIGKILL)
        with Library.open(tmp_path, create=True) as library:
            seen += check(library)
        generation += 1000
    assert seen > 0
    with Library.open(tmp_path, create=True) as library:
        for number in range(FILES):
            put(library, f"/{number}", *pages_of(number, generation), title=f"第{number}号")
        assert check(library) == FILES


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_reader_opens_what_a_killed_writer_left(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, str(tmp_path), "1"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        time.sleep(0.3)
        writer.send_signal(signal.SIGKILL)
    with Library.open(tmp_path, readonly=True) as library:
        assert len(library.files()) > 0
        assert len(library.search("文件 第1页")) > 0
