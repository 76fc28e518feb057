"""Full disks, read-only folders, two writers, wrong clocks and files that change meanwhile: nothing is lost unsaid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from chinese_alpaca_rag.ingest import pipeline
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library import store
from chinese_alpaca_rag.library.store import Library
from tests.ingest.generated_files import holdings, write_files, written
from tests.shared_data import ROOT

FULL_DISK = """
import sys
from pathlib import Path
from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.care import check_library
from chinese_alpaca_rag.library.store import Library
from tests.ingest.generated_files import holdings
disk, documents, elsewhere = map(Path, sys.argv[1:])
with Library.open(elsewhere, create=True) as library:
    ingest_paths([documents], library)
    expected = holdings(library)

def fill(left):
    # The disk then has `left` bytes for the library.
    with open(disk / "other", "wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(1 << 12))
        except OSError:
            other.truncate(max(0, other.tell() - left))

def full(library):
    try:
        ingest_paths([documents], library)
    except LibraryError as error:
        assert error.hint and "disk" in error.hint.en, error
        print(type(error).__name__, error.message.en)
    else:
        raise AssertionError("it fitted")

for left in (900_000, 600_000):
    place = disk / f"library-{left}"
    fill(left)
    with Library.open(place, create=True) as library:
        full(library)
        held = {record.path for record in library.files()}
        full(library)
        assert held <= {record.path for record in library.files()}
    with Library.open(place, readonly=True) as library:
        held = {record.path for record in library.files()}
        print(len(held), "files before the disk was full")
        assert not held or library.search("编号")
    (disk / "other").unlink()
    with Library.open(place, create=True) as library:
        assert check_library(library) == []
        statuses = {one.path: one.status for one in ingest_paths([documents], library)}
        assert {path for path, status in statuses.items() if status == "unchanged"} >= held
        assert holdings(library) == expected
    for file in place.iterdir():
        file.unlink()

fill(0)
for attempt in range(2):
    try:
        Library.open(disk / "none", create=True)
    except LibraryError as error:
        assert error.hint
        print(type(error).__name__, error.message.en)
    else:
        raise AssertionError("it fitted")
(disk / "other").unlink()
with Library.open(disk / "none", create=True) as library:
    ingest_paths([documents], library)
    assert holdings(library) == expected
"""
READONLY = """
import subprocess, sys
from pathlib import Path
from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.store import Library
from tests.ingest.generated_files import holdings, write_files
disk, elsewhere = map(Path, sys.argv[1:])
write_files(disk / "documents", 20)
with Library.open(disk / "library", create=True) as library:
    ingest_paths([disk / "documents"], library)
    expected = holdings(library)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
with Library.open(elsewhere, create=True) as library:
    assert {one.status for one in ingest_paths([disk / "documents"], library)} <= {"added", "duplicate"}
    assert holdings(library) == expected
for place in ("library", "another"):
    try:
        with Library.open(disk / place, create=True) as library:
            ingest_paths([disk / "documents"], library)
    except LibraryError as error:
        assert error.hint
        print(type(error).__name__, error.message.en)
    else:
        raise AssertionError(place)
with Library.open(disk / "library", readonly=True) as library:
    assert len(library.files()) == 19 and library.search("编号")
"""


def on_a_small_disk(folder: Path, size: str, program: str, *arguments: Path) -> str:
    """What ``program`` prints; its first argument is a disk of its own that is gone afterwards."""
    disk = folder / "disk"
    disk.mkdir()
    inside = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:  # noqa: PLW1510
        pytest.skip("no disk can be mounted here")
    started = [*command, sys.executable, "-c", program, str(disk), *map(str, arguments)]
    ended = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    write_files(tmp_path / "documents", 120)
    told = on_a_small_disk(tmp_path, "6m", FULL_DISK, tmp_path / "documents", tmp_path / "elsewhere")
    assert told.count("Error") == 6, told


def test_a_read_only_disk(tmp_path: Path) -> None:
    told = on_a_small_disk(tmp_path, "6m", READONLY, tmp_path / "elsewhere")
    assert told.count("LibraryError") == 2, told


TWO = """
import sys
from pathlib import Path
from chinese_alpaca_rag.errors import LibraryBusyError
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library import lock
from chinese_alpaca_rag.library.store import Library
lock.PATIENCE_SECONDS = float(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
try:
    with Library.open(Path(sys.argv[1]), create=True) as library:
        ingest_paths([Path(sys.argv[2])], library)
except LibraryBusyError as error:
    print("busy", error.message.en, bool(error.hint))
else:
    print("done")
"""


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize(("count", "patience"), [(12, 20.0), (250, 0.1)])
def test_two_ingesting_processes(tmp_path: Path, count: int, patience: float, made: bool) -> None:
    """The second waits for its turn or, after some seconds, is told who writes and how to go on."""
    if made:
        Library.open(tmp_path / "library", create=True).close()
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        write_files(folder, count, seed=seed, marked=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(tmp_path / "library"), str(folder), str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for folder in folders
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert "done\n" in told
    assert not made or told.count("done\n") == (2 if patience > 1 else 1)
    for number, line in enumerate(told):
        if line != "done\n":
            assert line.startswith("busy") and line.endswith("True\n")
            assert not made or str(processes[1 - number].pid) in line
    with Library.open(tmp_path / "library", create=True) as library:
        done = {Path(record.path).parents[1].name for record in library.files()}
        assert done == {folder.name for folder, line in zip(folders, told, strict=True) if line == "done\n"}
        ingest_paths(folders, library)
        together = holdings(library)
    assert len(together["files"]) == 2 * count
    with Library.open(tmp_path / "alone", create=True) as library:
        ingest_paths(folders, library)
        alone = holdings(library)
    # Who came first decides which of the equally good passages are answers.
    del alone["answers"], together["answers"]
    assert alone == together


class _Ahead(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Ahead:
        return cls.fromtimestamp((datetime.now(UTC) + timedelta(days=1)).timestamp(), tz)


def ingested_status(path: Path, library: Library) -> str:
    (outcome,) = ingest_paths([path], library)
    return outcome.status


@pytest.mark.parametrize("clock", ["right", "ahead"])
@pytest.mark.parametrize("days", [-30, 0, 30])
def test_a_changed_file_is_noticed_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str, days: int
) -> None:
    """The file's time may lie in the future, and the clock may have been ahead when it was read."""
    if clock == "ahead":
        monkeypatch.setattr(store, "datetime", _Ahead)
    then = datetime.now(UTC).timestamp() + 86400 * days
    path = written(tmp_path / "a.txt", "年休假为五天。", then)
    with Library.open(tmp_path / "library", create=True) as library:
        assert ingested_status(path, library) == "added"
        monkeypatch.undo()
        assert ingested_status(path, library) == "unchanged"
        # Same length, an older time: the clock was set back between the two versions.
        written(path, "年休假为十天。", then - 3600)
        assert ingested_status(path, library) == "updated"
        assert ingested_status(path, library) == "unchanged"
        assert library.page_text(str(path), 1) == "年休假为十天。"


def test_a_file_from_the_future_that_keeps_size_and_time(tmp_path: Path) -> None:
    then = datetime.now(UTC).timestamp() + 86400
    path = written(tmp_path / "a.txt", "年休假为五天。", then)
    with Library.open(tmp_path / "library", create=True) as library:
        assert ingested_status(path, library) == "added"
        written(path, "年休假为十天。", then)
        assert ingested_status(path, library) == "updated"


def test_a_file_that_is_rewritten_while_it_is_read(tmp_path: Path) -> None:
    """What is stored stood in the file at one moment, and the run after the last change stores the last state.

    A writer that rests between two writes cannot be told from one that is done: its file is read as it then is,
    part old and part new, and read again by the next run.
    """
    path = tmp_path / "a.txt"
    versions = [f"版本{name}的内容。" * 30_000 for name in "甲乙"]
    path.write_text(versions[0], encoding="utf-8")
    stop = threading.Event()

    def rewrite() -> None:
        with path.open("r+b", buffering=0) as stream:
            for number in range(1, 1_000_000):
                data = versions[number % 2].encode()
                stream.seek(0)
                for start in range(0, len(data), 24_000):
                    stream.write(data[start : start + 24_000])
                    if stop.wait(0.002):
                        stream.write(data[start + 24_000 :])
                        return

    writer = threading.Thread(target=rewrite)
    with Library.open(tmp_path / "library", create=True) as library:
        writer.start()
        try:
            for _ in range(3):
                (outcome,) = ingest_paths([path], library)
                if outcome.status != "refused":
                    text = library.page_text(str(path), 1)
                    assert len(text) == len(versions[0])
                    assert text.count("甲的内容。版本乙") + text.count("乙的内容。版本甲") <= 1
        finally:
            stop.set()
            writer.join()
        assert ingested_status(path, library) in ("added", "updated", "unchanged")
        assert library.page_text(str(path), 1) == path.read_text(encoding="utf-8") in versions


def test_a_file_that_goes_between_listing_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_files(tmp_path / "documents", 2, marked=False)
    gone = tmp_path / "documents" / "gone.txt"
    monkeypatch.setattr(pipeline, "find_documents", lambda _: [paths[0], gone, paths[1]])
    with Library.open(tmp_path / "library", create=True) as library:
        outcomes = ingest_paths([tmp_path / "documents"], library)
        assert [one.status for one in outcomes] == ["added", "refused", "added"]
        assert outcomes[1].reason
        assert len(holdings(library)["files"]) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_does_not_stop_the_run(tmp_path: Path) -> None:
    write_files(tmp_path / "documents", 3, marked=False)
    os.mkfifo(tmp_path / "documents" / "pipe.txt")
    with Library.open(tmp_path / "library", create=True) as library:
        assert {one.status for one in ingest_paths([tmp_path / "documents"], library)} == {"added"}
