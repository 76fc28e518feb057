"""The library's SQLite file: its tables, how it is opened and checked, and SQLite's errors in the kit's words.

Layout (``user_version`` 3; a change of these tables or of the rules in ``terms.py`` is another version)::

    files ──< pages ──< stretches      the text of a page, in stretches of at most STRETCH characters
      └────< passages                  offsets into a page's text; no second copy of the text
    passage_terms                      FTS5 without content, one row a passage: title, heading and body terms
      ├────< tags                      the words that the user files it under
      └────< copies                    other paths that hold the same bytes
    embedders ──< vectors              what embedding models made of passages, by the digest of a passage's text
    about                              the version of Unicode that the terms were made with

Text that SQLite cannot hold as UTF-8 (lone surrogates, as in the names of files that are not UTF-8)
is stored with ``surrogatepass`` and comes back the same.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from chinese_alpaca_rag.errors import LibraryBusyError, LibraryError, LibraryFormatError, LibraryNotFoundError
from chinese_alpaca_rag.language import Words

FILE_NAME = "library.sqlite3"
APPLICATION_ID = 0x41524147  # "ARAG"
FORMAT = 3
STRETCH = 4096
BUSY_SECONDS = 5.0

_TAGS = """
    CREATE TABLE tags (
        file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        tag TEXT NOT NULL,
        PRIMARY KEY (file_id, tag)
    ) WITHOUT ROWID
"""
_COPIES = """
    CREATE TABLE copies (
        path TEXT PRIMARY KEY,
        file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        size INTEGER NOT NULL,
        modified_ns INTEGER NOT NULL,
        noted_at TEXT NOT NULL
    ) WITHOUT ROWID
"""
_COPIES_BY_FILE = "CREATE INDEX copies_by_file ON copies (file_id)"
_PASSAGES_BY_DIGEST = "CREATE INDEX passages_by_digest ON passages (digest)"
_EMBEDDERS = """
    CREATE TABLE embedders (
        id INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        probe BLOB NOT NULL,
        used_at TEXT NOT NULL
    )
"""
_VECTORS = """
    CREATE TABLE vectors (
        embedder_id INTEGER NOT NULL REFERENCES embedders (id) ON DELETE CASCADE,
        digest BLOB NOT NULL,
        vector BLOB NOT NULL,
        UNIQUE (embedder_id, digest)
    )
"""
_VECTORS_BY_DIGEST = "CREATE INDEX vectors_by_digest ON vectors (digest)"
_SCHEMA = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE files (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        title TEXT NOT NULL,
        format TEXT NOT NULL,
        page_kind TEXT NOT NULL,
        encoding TEXT NOT NULL,
        missing TEXT NOT NULL,
        confidence REAL NOT NULL DEFAULT 1.0,
        hidden TEXT NOT NULL DEFAULT '',
        parser TEXT NOT NULL,
        size INTEGER NOT NULL,
        modified_ns INTEGER NOT NULL,
        ingested_at TEXT NOT NULL,
        pages INTEGER NOT NULL,
        passages INTEGER NOT NULL
    )
    """,
    "CREATE INDEX files_by_content ON files (sha256)",
    """
    CREATE TABLE pages (
        id INTEGER PRIMARY KEY,
        file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        label TEXT NOT NULL,
        UNIQUE (file_id, number)
    )
    """,
    """
    CREATE TABLE stretches (
        page_id INTEGER NOT NULL REFERENCES pages (id) ON DELETE CASCADE,
        start INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (page_id, start)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE passages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
        page_id INTEGER NOT NULL REFERENCES pages (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        start INTEGER NOT NULL,
        "end" INTEGER NOT NULL,
        heading TEXT NOT NULL,
        digest BLOB,
        UNIQUE (file_id, position)
    )
    """,
    "CREATE INDEX passages_by_page ON passages (page_id)",
    _PASSAGES_BY_DIGEST,
    _EMBEDDERS,
    _VECTORS,
    _VECTORS_BY_DIGEST,
    _TAGS,
    _COPIES,
    _COPIES_BY_FILE,
    # The terms come split already, joined by spaces; the ASCII tokenizer takes every other character as part of one.
    """
    CREATE VIRTUAL TABLE passage_terms USING fts5 (
        title, heading, body, content='', tokenize="ascii tokenchars '-./:_''’+@\\&~#'"
    )
    """,
)

# From each former format to the next. Formats of which nothing was ever released are not among them.
_MIGRATIONS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: (
            "ALTER TABLE files ADD COLUMN confidence REAL NOT NULL DEFAULT 1.0",
            "ALTER TABLE files ADD COLUMN hidden TEXT NOT NULL DEFAULT ''",
            _TAGS,
            _COPIES,
            _COPIES_BY_FILE,
        ),
        # Digests of passages that are there already are made when vectors are (``vectors.fill_digests``).
        2: (
            "ALTER TABLE passages ADD COLUMN digest BLOB",
            _PASSAGES_BY_DIGEST,
            _EMBEDDERS,
            _VECTORS,
            _VECTORS_BY_DIGEST,
        ),
    }
)


def open_database(folder: Path, *, create: bool, readonly: bool) -> sqlite3.Connection:
    """A checked connection to the library in ``folder``, made there first if ``create`` says so."""
    path = folder / FILE_NAME
    if folder.exists() and not folder.is_dir():
        raise _not_a_folder(folder)
    if not path.exists():
        if not create:
            raise _not_found(folder)
        _make_file(folder, path)
    with translated(folder):
        connection = _connect_readonly(path) if readonly else _connect(path, "rw")
        try:
            _check(connection, folder, create=create and not readonly, readonly=readonly)
        except BaseException:
            connection.close()
            raise
    return connection


def _make_file(folder: Path, path: Path) -> None:
    """An empty file that only its owner reads; SQLite gives its journal the same rights."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise LibraryError(
            Words(zh=f"无法在 {folder} 建立知识库：{error}", en=f"Cannot make a library in {folder}: {error}"),
            hint=Words(
                zh="用 --library 指定一个可写的文件夹。", en="Name a folder that can be written with --library."
            ),
        ) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    settings = ("foreign_keys=ON", "trusted_schema=OFF")
    for setting in (*settings, "synchronous=FULL", "secure_delete=ON") if mode == "rw" else settings:
        connection.execute(f"PRAGMA {setting}")
    return connection


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Read beside a writer where SQLite can make its shared-memory file; from a read-only medium otherwise."""
    connection = _connect(path, "ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        journal = path.with_name(path.name + "-wal")
        effective = os.access in os.supports_effective_ids
        if os.access(path.parent, os.W_OK, effective_ids=effective) or (journal.exists() and journal.stat().st_size):
            raise  # immutable would leave out what the journal holds
        return _connect(path, "ro&immutable=1")
    except BaseException:
        connection.close()
        raise
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


def _check(connection: sqlite3.Connection, folder: Path, *, create: bool, readonly: bool) -> None:
    if _is_blank(connection):
        if not create:
            raise _not_found(folder)
        _write_ahead(connection)
        with transaction(connection):
            if _is_blank(connection):  # no other process was faster
                _make_tables(connection)
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise _foreign(folder)
    found = _pragma(connection, "user_version")
    if found in _MIGRATIONS and not readonly:
        with transaction(connection):
            _migrate(connection)
        found = _pragma(connection, "user_version")
    if found != FORMAT:
        raise _other_version(folder, found)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite does not wait by itself here while another process makes the library."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this format, step by step; another process may have been faster."""
    while (found := _pragma(connection, "user_version")) in _MIGRATIONS:
        for statement in _MIGRATIONS[found]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={found + 1}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever made in the file, as after a kill between making it and its tables."""
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    return tables == 0 and _pragma(connection, "application_id") == 0 and _pragma(connection, "user_version") == 0


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("INSERT INTO about VALUES ('unicode', ?)", (unicodedata.unidata_version,))
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All of the block is kept, durably, or nothing of it; ``DEFERRED`` for one that only reads, of one state."""
    connection.execute(f"BEGIN {kind}")
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
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _busy(folder) from error
        raise _unusable(folder, error) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise _damaged(folder, error) from error


def _not_found(folder: Path) -> LibraryNotFoundError:
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
        hint=Words(
            zh=f"指定文件夹，例如：--library {folder.parent}",
            en=f"Name a folder, as in: --library {folder.parent}",
        )
        if folder.name == FILE_NAME
        else Words(zh="用 --library 指定一个文件夹。", en="Name a folder with --library."),
    )


def _foreign(folder: Path) -> LibraryFormatError:
    return LibraryFormatError(
        Words(
            zh=f"{folder / FILE_NAME} 是别的程序的数据库，不是知识库。",
            en=f"{folder / FILE_NAME} is a database of another program, not a library.",
        ),
        hint=Words(zh="用 --library 指定另一个文件夹。", en="Name another folder with --library."),
    )


def _other_version(folder: Path, found: int) -> LibraryFormatError:
    upgrade = Words(
        zh="升级程序：pip install -U chinese-alpaca-rag", en="Upgrade the kit: pip install -U chinese-alpaca-rag"
    )
    rebuild = Words(
        zh="用本版本重建：alpaca-rag ingest 路径… --library 新文件夹",
        en="Build it again with this version: alpaca-rag ingest PATH… --library NEW_FOLDER",
    )
    migrate = Words(
        zh=f"把它换成新格式，内容不变：alpaca-rag library rebuild --library {folder}",
        en=f"Bring it to the new format, with all that is in it: alpaca-rag library rebuild --library {folder}",
    )
    return LibraryFormatError(
        Words(
            zh=f"知识库 {folder} 的格式是第 {found} 版，本程序读写第 {FORMAT} 版。",
            en=f"The library {folder} has format {found}; this version of the kit reads and writes format {FORMAT}.",
        ),
        hint=upgrade if found > FORMAT else migrate if found in _MIGRATIONS else rebuild,
    )


def _damaged(folder: Path, error: Exception) -> LibraryFormatError:
    return LibraryFormatError(
        Words(
            zh=f"{folder / FILE_NAME} 不是知识库，或已损坏：{error}",
            en=f"{folder / FILE_NAME} is no library, or is damaged: {error}",
        ),
        hint=Words(
            zh="救出还能读的：alpaca-rag library rebuild --to 新文件夹；"
            "或重新读入：alpaca-rag ingest 路径… --library 新文件夹",
            en="Save what can be read: alpaca-rag library rebuild --to NEW_FOLDER; or build again: "
            "alpaca-rag ingest PATH… --library NEW_FOLDER",
        ),
    )


def _busy(folder: Path) -> LibraryBusyError:
    return LibraryBusyError(
        Words(zh=f"另一个进程正在写入知识库 {folder}。", en=f"Another process is writing the library {folder}."),
        hint=Words(zh="等它完成后再运行一次。", en="Run this again when it is done."),
    )


def _unusable(folder: Path, error: sqlite3.Error) -> LibraryError:
    return LibraryError(
        Words(zh=f"知识库 {folder} 无法读写：{error}", en=f"The library {folder} cannot be read or written: {error}"),
        hint=Words(
            zh="检查磁盘空间和文件夹权限，然后再运行一次；已写入的内容不会丢失。",
            en="Check the disk's free space and the folder's permissions, then run again; nothing written is lost.",
        ),
    )
