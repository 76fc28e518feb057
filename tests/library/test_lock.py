from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import LibraryBusyError
from chinese_alpaca_rag.library import database, lock
from chinese_alpaca_rag.library.lock import WriterLock
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def another_writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the right to write until the block ends."""
    program = f"""
        from chinese_alpaca_rag.library.store import Library
        library = Library.open({str(folder)!r}, create=True)
        print("holding", flush=True)
        input()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        try:
            yield process
        finally:
            process.kill()


def test_one_process_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.2)
    with another_writer(tmp_path) as process:
        with pytest.raises(LibraryBusyError) as caught:
            Library.open(tmp_path, create=True)
        assert str(process.pid) in caught.value.text("zh")
        with Library.open(tmp_path) as library:
            assert library.files() == []
            with pytest.raises(LibraryBusyError):
                put(library, "/a", "字")
        process.kill()
        process.wait()
        with Library.open(tmp_path, create=True) as library:
            put(library, "/a", "字")


def test_a_second_writer_in_the_same_process_waits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.1)
    with Library.open(tmp_path, create=True) as library:
        with pytest.raises(LibraryBusyError):
            Library.open(tmp_path, create=True)
        put(library, "/a", "字")
    with Library.open(tmp_path, create=True) as library:
        put(library, "/b", "字")


def test_opening_to_read_leaves_the_right_to_write_alone(tmp_path: Path) -> None:
    Library.open(tmp_path, create=True).close()
    with Library.open(tmp_path), Library.open(tmp_path, readonly=True), Library.open(tmp_path, create=True) as writer:
        put(writer, "/a", "字")


def test_the_lock_is_taken_and_given_back(tmp_path: Path) -> None:
    one, other = WriterLock(tmp_path), WriterLock(tmp_path)
    one.acquire()
    one.acquire()
    assert one.held
    assert one.path.read_text() == str(os.getpid())
    with pytest.raises(LibraryBusyError):
        other.acquire(patience=0)
    assert not other.held
    one.release()
    one.release()
    other.acquire(patience=0)
    other.release()


def test_another_program_that_writes_the_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    with Library.open(tmp_path, create=True) as library:
        with closing(sqlite3.connect(tmp_path / database.FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LibraryBusyError):
                put(library, "/a", "字")
            other.execute("ROLLBACK")
        put(library, "/a", "字")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The lock of a killed writer is free even while a worker that it forked lives on."""
    holder = WriterLock(tmp_path)
    holder.acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0 if not holder.held else 1)
    os.close(reading)
    holder.release()
    other = WriterLock(tmp_path)
    other.acquire(patience=0)
    other.release()
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
