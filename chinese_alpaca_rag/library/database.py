"""The library's SQLite file: its tables, how it is opened and checked, and SQLite's errors in the kit's words.

Layout (``user_version`` 1)::

    files ──< pages ──< stretches      the text of a page, in stretches of at most STRETCH characters
      └────< passages                  offsets into a page's text; no second copy of the text
    passage_terms                      FTS5 without content, one row a passage: title, heading and body terms
    about                              which version of ``terms.py`` the index was made by

Text that SQLite cannot hold as UTF-8 (lone surrogates, as in the names of files that are not UTF-8)
is stored with ``surrogatepass`` and comes back the same.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from chinese_alpaca_rag.errors import LibraryError, LibraryFormatError, LibraryNotFoundError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.terms import TERMS_VERSION

FILE_NAME = "library.sqlite3"
APPLICATION_ID = 0x41524147  # "ARAG"
FORMAT = 1
STRETCH = 4096

_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    title TEXT NOT NULL,
    format TEXT NOT NULL,
    page_kind TEXT NOT NULL,
    encoding TEXT NOT NULL,
    missing TEXT NOT NULL,
    parser TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    ingested_at TEXT NOT NULL,
    pages INTEGER NOT NULL,
    passages INTEGER NOT NULL
);
CREATE INDEX files_by_content ON files (sha256);
CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    label TEXT NOT NULL,
    UNIQUE (file_id, number)
);
CREATE TABLE stretches (
    page_id INTEGER NOT NULL REFERENCES pages (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (page_id, start)
) WITHOUT ROWID;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    page_id INTEGER NOT NULL REFERENCES pages (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    heading TEXT NOT NULL,
    UNIQUE (file_id, position)
);
CREATE INDEX passages_by_page ON passages (page_id);
CREATE VIRTUAL TABLE passage_terms USING fts5 (
    title, heading, body, content='', columnsize=1, tokenize="ascii tokenchars '-./:_''+@\\&~#'"
);
"""


def open_database(folder: Path, *, create: bool, readonly: bool) -> sqlite3.Connection:
    """A checked connection to the library in ``folder``, made there first if ``create`` says so."""
    path = folder / FILE_NAME
    if folder.exists() and not folder.is_dir():
        raise _not_a_folder(folder)
    if not path.exists():
        if not create:
            raise not_found(folder)
        _make_file(folder, path)
    with translated(folder):
        connection = _connect_readonly(path) if readonly else _connect(path, "rw")
        try:
            _check(connection, folder, create=create and not readonly)
        except BaseException:
            connection.close()
            raise
    return connection


def _make_file(folder: Path, path: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise LibraryError(
            Words(zh=f"无法在 {folder} 建立知识库：{error}", en=f"Cannot make a library in {folder}: {error}"),
            hint=Words(zh="用 --library 指定一个可写的文件夹。", en="Name a folder that can be written with --library."),
        ) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Read beside a writer where SQLite can make its shared-memory file; from a read-only medium otherwise."""
    connection = _connect(path, "ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        journal = path.with_name(path.name + "-wal")
        if os.access(path.parent, os.W_OK) or (journal.exists() and journal.stat().st_size):
            raise
        return _connect(path, "ro&immutable=1")
    return connection


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def storable(text: str) -> str | bytes:
    """``text`` as a parameter for ``CAST(? AS TEXT)``: itself, or its bytes where it holds lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _check(connection: sqlite3.Connection, folder: Path, *, create: bool) -> None:
    if _is_blank(connection):
        if not create:
            raise not_found(folder)
        connection.execute("PRAGMA journal_mode=WAL")
        with transaction(connection):
            if _is_blank(connection):
                _make_tables(connection)
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application != APPLICATION_ID:
        raise LibraryFormatError(
            Words(
                zh=f"{folder / FILE_NAME} 是别的程序的数据库，不是知识库。",
                en=f"{folder / FILE_NAME} is a database of another program, not a library.",
            ),
            hint=Words(zh="用 --library 指定另一个文件夹。", en="Name another folder with --library."),
        )
    if found != FORMAT:
        raise _other_version(folder, found)


def _is_blank(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return tables == 0 and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def _make_tables(connection: sqlite3.Connection) -> None:
    statement = ""
    for line in _SCHEMA.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute("INSERT INTO about VALUES ('terms', ?)", (TERMS_VERSION,))
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block is kept, durably, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """SQLite's errors inside the block become the library's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LibraryError(
            Words(zh=f"知识库 {folder} 无法读写：{error}", en=f"The library {folder} cannot be read or written: {error}"),
            hint=Words(
                zh="检查磁盘空间和文件夹权限，然后再运行一次；已写入的内容不会丢失。",
                en="Check the disk's free space and the folder's permissions, then run again; nothing written is lost.",
            ),
        ) from error
    except sqlite3.DatabaseError as error:
        raise LibraryFormatError(
            Words(
                zh=f"{folder / FILE_NAME} 不是知识库，或已损坏：{error}",
                en=f"{folder / FILE_NAME} is no library, or is damaged: {error}",
            ),
            hint=Words(
                zh="把该文件移开，再重建：alpaca-rag ingest 路径… --library 新文件夹",
                en="Move the file away and build again: alpaca-rag ingest PATH… --library NEW_FOLDER",
            ),
        ) from error


def not_found(folder: Path) -> LibraryNotFoundError:
    return LibraryNotFoundError(
        Words(zh=f"{folder} 里没有知识库。", en=f"There is no library in {folder}."),
        hint=Words(
            zh=f"先建立一个：alpaca-rag ingest 路径… --library {folder}",
            en=f"Make one first: alpaca-rag ingest PATH… --library {folder}",
        ),
    )


def _not_a_folder(folder: Path) -> LibraryFormatError:
    return LibraryFormatError(
        Words(zh=f"{folder} 是一个文件，知识库是一个文件夹。", en=f"{folder} is a file; a library is a folder."),
        hint=Words(zh="用 --library 指定一个文件夹。", en="Name a folder with --library."),
    )


def _other_version(folder: Path, found: int) -> LibraryFormatError:
    newer = found > FORMAT
    return LibraryFormatError(
        Words(
            zh=f"知识库 {folder} 的格式是第 {found} 版，本程序读写第 {FORMAT} 版。",
            en=f"The library {folder} has format {found}; this version of the kit reads format {FORMAT}.",
        ),
        hint=Words(
            zh="升级程序：pip install -U chinese-alpaca-rag" if newer else "用本版本重建：alpaca-rag ingest 路径… --library 新文件夹",
            en="Upgrade the kit: pip install -U chinese-alpaca-rag"
            if newer
            else "Build it again with this version: alpaca-rag ingest PATH… --library NEW_FOLDER",
        ),
    )
