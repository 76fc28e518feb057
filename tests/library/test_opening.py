"""What stands at a library's path decides which error is raised, and what it says to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import LibraryError, LibraryFormatError, LibraryNotFoundError
from chinese_alpaca_rag.library.database import APPLICATION_ID, FILE_NAME, FORMAT
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put


@pytest.mark.parametrize("readonly", [False, True])
def test_nothing_there(tmp_path: Path, readonly: bool) -> None:
    for folder in (tmp_path, tmp_path / "没有"):
        with pytest.raises(LibraryNotFoundError) as caught:
            Library.open(folder, readonly=readonly)
        assert f"alpaca-rag ingest PATH… --library {folder}" in caught.value.text("en")
        assert f"alpaca-rag ingest 路径… --library {folder}" in caught.value.text("zh")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("笔记", encoding="utf-8")
    for create in (False, True):
        with pytest.raises(LibraryFormatError, match=r"notes\.txt"):
            Library.open(path, create=create)
    assert path.read_text(encoding="utf-8") == "笔记"


def test_the_database_in_place_of_its_folder(tmp_path: Path) -> None:
    Library.open(tmp_path, create=True).close()
    with pytest.raises(LibraryFormatError) as caught:
        Library.open(tmp_path / FILE_NAME)
    assert f"--library {tmp_path}" in caught.value.text("zh")


@pytest.mark.parametrize(
    "content", [b"not a database at all, but longer than a header" * 10, b"SQLite format 3\0" * 300]
)
@pytest.mark.parametrize("create", [False, True])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, create: bool) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(LibraryFormatError) as caught:
        Library.open(tmp_path, create=create)
    assert "alpaca-rag ingest" in caught.value.hint.en
    assert (tmp_path / FILE_NAME).read_bytes() == content


@pytest.mark.parametrize("create", [False, True])
def test_a_database_of_another_program(tmp_path: Path, create: bool) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()
    with pytest.raises(LibraryFormatError, match=r"another program|别的程序"):
        Library.open(tmp_path, create=create)


@pytest.mark.parametrize(("found", "advice"), [(FORMAT + 1, "pip install -U"), (0, "alpaca-rag ingest")])
def test_another_version_of_the_format(tmp_path: Path, found: int, advice: str) -> None:
    Library.open(tmp_path, create=True).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version={found}")
    for create, readonly in ((False, False), (True, False), (False, True)):
        with pytest.raises(LibraryFormatError) as caught:
            Library.open(tmp_path, create=create, readonly=readonly)
        for language in ("zh", "en"):
            text = caught.value.text(language)
            assert f" {found}" in text
            assert f" {FORMAT}" in text
            assert advice in text


def test_a_damaged_library(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as library:
        for number in range(50):
            put(library, f"/{number}", "年假规定" * 500)
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = os.urandom(len(content) // 2 - 4096)
    path.write_bytes(content)

    def read_all() -> None:
        with Library.open(tmp_path) as library:
            for record in library.files():
                library.passages(record.path)
            library.search("年假")

    with pytest.raises(LibraryError) as caught:
        read_all()
    assert "alpaca-rag ingest" in caught.value.hint.en


@pytest.mark.parametrize("stage", ["empty file", "WAL header"])
def test_a_kill_before_the_tables_were_made(tmp_path: Path, stage: str) -> None:
    path = tmp_path / FILE_NAME
    path.touch()
    if stage == "WAL header":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    with pytest.raises(LibraryNotFoundError):
        Library.open(tmp_path)
    with pytest.raises(LibraryNotFoundError):
        Library.open(tmp_path, readonly=True)
    with Library.open(tmp_path, create=True) as library:
        put(library, "/a", "字")
        assert len(library.files()) == 1


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    Library.open(tmp_path, create=True).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_odd_characters_in_the_folders_name(tmp_path: Path) -> None:
    folder = tmp_path / "我的 库?mode=memory&x#%41"
    with Library.open(folder, create=True) as library:
        put(library, "/a", "年假规定")
    assert (folder / FILE_NAME).stat().st_size > 0
    with Library.open(folder, readonly=True) as library:
        assert len(library.search("年假")) == 1


@contextmanager
def without_right_to_write(folder: Path) -> Iterator[None]:
    """The folder cannot be written inside the block, not even by root."""
    for path in (*folder.iterdir(), folder, *folder.parents):
        if path.owner() == Path.home().owner() and path != Path(path.anchor) and "pytest" in str(path):
            path.chmod(path.stat().st_mode | 0o055)
    for path in (*folder.iterdir(), folder):
        path.chmod(path.stat().st_mode & ~0o222)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in (folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode | 0o600)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    with Library.open(folder, create=True) as library:
        put(library, "/a", "年假规定")
    assert [path.name for path in folder.iterdir() if path.name.endswith("-wal")] == []
    with without_right_to_write(folder):
        with Library.open(folder, readonly=True) as library:
            assert [passage.source for passage, _ in library.search("年假")] == ["/a"]
        with pytest.raises(LibraryError, match="library"), Library.open(folder, create=True) as library:
            put(library, "/b", "字")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
def test_a_library_cannot_be_made_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with without_right_to_write(tmp_path), pytest.raises(LibraryError) as caught:
        Library.open(tmp_path / "library", create=True)
    assert "--library" in caught.value.hint.en


def test_two_processes_make_the_same_library(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom chinese_alpaca_rag.library.store import Library\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "Library.open(sys.argv[1], create=True).close()"
    )
    for number in range(5):
        command = [sys.executable, "-c", program, str(tmp_path / str(number))]
        makers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for maker in makers:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "ready\n"
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.write("\n")
            maker.stdin.flush()
        assert [maker.communicate(timeout=30) and maker.returncode for maker in makers] == [0, 0]
