"""An ingesting process that is killed at any moment loses nothing: the next run does what is left, and no more.

A kill is not a power cut: what the system has been given is kept. That a transaction is on the disk before the next
begins is SQLite's part (``synchronous=FULL``).
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.care import check_library
from chinese_alpaca_rag.library.store import Library
from tests.ingest.generated_files import LONG_AGO, holdings, sentences, write_files, written
from tests.shared_data import ROOT

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
FILES = 300
NEW_KILLS, CHANGED_KILLS = 40, 20
INGESTING = """
import sys
from pathlib import Path
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.store import Library
print("ready", flush=True)
with Library.open(Path(sys.argv[2]), create=True) as library:
    ingest_paths([Path(sys.argv[1])], library, prune=True)
"""


def killed(documents: Path, place: Path, seconds: float) -> bool:
    """Ingest in a process of its own and kill it after ``seconds`` of work; whether it was done before that."""
    arguments = [sys.executable, "-c", INGESTING, str(documents), str(place)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == 0


def completed(documents: Path, place: Path) -> dict[str, Any]:
    with Library.open(place, create=True) as library:
        outcomes = ingest_paths([documents], library, prune=True)
        assert not [one for one in outcomes if one.status in ("refused", "partial")]
        return holdings(library)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("crash") / "documents"
    write_files(place, FILES)
    return place


@pytest.fixture(scope="module")
def whole(documents: Path) -> Iterator[tuple[Path, dict[str, Any], float]]:
    """The library of an uninterrupted run, all that it holds, and the seconds that the run took."""
    place = documents.parent / "whole"
    started = time.perf_counter()
    with Library.open(place, create=True) as library:
        ingest_paths([documents], library)
    seconds = time.perf_counter() - started
    with Library.open(place) as library:
        expected = holdings(library)
    assert len(expected["files"]) + len(expected["copies"]) == FILES
    yield place, expected, seconds


def test_killed_while_files_are_added(
    documents: Path, whole: tuple[Path, dict[str, Any], float], tmp_path: Path
) -> None:
    _, expected, seconds = whole
    generator = random.Random(20240501)
    number, interrupted, finished = 0, 0, 0
    counts: list[int] = []
    for kill in range(NEW_KILLS):
        place = tmp_path / f"{number}"
        # Early moments too: the library's file and its tables are being made then.
        done = killed(documents, place, generator.uniform(0, seconds / 4) ** (1 + kill % 2))
        interrupted += not done
        if kill % 4 == 0 and (place / "library.sqlite3").exists() and (place / "library.sqlite3").stat().st_size:
            # Looked into only now and then, so that most runs find what the kill left as it left it.
            with Library.open(place, create=True) as library:
                assert check_library(library) == []
                counts.append(len(library.files()))
        if done:
            assert completed(documents, place) == expected
            number, finished = number + 1, finished + 1
    assert completed(documents, tmp_path / f"{number}") == expected
    assert interrupted >= NEW_KILLS // 2
    assert any(0 < count < FILES for count in counts), counts


def change(documents: Path) -> None:
    """A third of the files gets other text, some go, some move, some are new."""
    generator = random.Random(5)
    for number, path in enumerate(sorted(path for path in documents.rglob("*") if path.is_file())):
        match number % 6:
            case 0 | 1:
                written(path, sentences(generator, 250), LONG_AGO + 10_000 + number)
            case 2:
                path.unlink()
            case 3:
                path.rename(path.with_name(f"moved-{path.name}"))
            case 4:
                written(path.with_name(f"new-{path.name}"), sentences(generator, 100), LONG_AGO + number)


def test_killed_while_files_are_changed_moved_and_removed(
    documents: Path, whole: tuple[Path, dict[str, Any], float], tmp_path: Path
) -> None:
    before, _, seconds = whole
    change(documents)
    expected = completed(documents, tmp_path / "never killed")
    generator = random.Random(20240502)
    number, interrupted = 0, 0
    for _ in range(CHANGED_KILLS):
        place = tmp_path / f"{number}"
        if not place.exists():
            shutil.copytree(before, place)
        done = killed(documents, place, generator.uniform(0, seconds / 3))
        interrupted += not done
        if done:
            assert completed(documents, place) == expected
            number += 1
    if not (place := tmp_path / f"{number}").exists():
        shutil.copytree(before, place)
    assert completed(documents, place) == expected
    assert interrupted >= CHANGED_KILLS // 2
