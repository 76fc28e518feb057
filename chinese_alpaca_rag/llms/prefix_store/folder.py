"""The store's folder: private to one user, with small files that are replaced whole, and partial ones that are not yet.

::

    store.json      the format of the store (1 where there is no such file), and its limit
    ledger          bytes kept, last use, times that documents were forgotten; locked while the store changes
    claims          locked where a block is being computed
    weights.json    digests of weight files
    partial/        files that are being written
    blocks/SPACE/first two digits of DIGEST/DIGEST.block
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.llms.prefix_store import problems
from chinese_alpaca_rag.llms.prefix_store.locks import SAFELY, close_lockable, open_lockable, try_lock
from chinese_alpaca_rag.llms.prefix_store.problems import NotKeptError

#: The format of a store that this version makes, and the newest that it knows.
FORMAT: Final = 1
_MARKER: Final = "store.json"
_MOST_JSON: Final = 1 << 20
_MOST_TRIES: Final = 20

# Names of the partial files that threads of this process write: not every network disk's locks tell threads apart.
_being_written: set[str] = set()


def default_folder() -> Path:
    """Where prefixes are kept unless told otherwise: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path is ignored.
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return base / "chinese-alpaca-rag" / "prefixes"


class StoreFolder:
    """A store's folder at ``path``, which need not exist; nothing is made before ``make``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks = path / "blocks"
        self.partial = path / "partial"
        self.ledger = path / "ledger"
        self.claims = path / "claims"
        self._seen = False
        self._marker: tuple[object, dict[str, Any]] = (None, {})

    def exists(self) -> bool:
        """Whether a store is there. NotKeptError for one that may not be touched, OSError where it cannot be seen."""
        try:
            status = os.stat(self.path)  # noqa: PTH116 - the folder itself may be a link: its target is looked at
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISDIR(status.st_mode):
            raise NotKeptError(problems.no_folder(self.path))
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            raise NotKeptError(problems.not_private(self.path))
        found = self.marker().get("format", FORMAT)
        if type(found) is int and found > FORMAT:
            raise NotKeptError(problems.newer(self.path, found, FORMAT))
        self._seen = True
        return True

    def make(self) -> None:
        """Make what is missing. Errors as of ``exists``; a folder that was there and has gone is not made again."""
        # Asked before, for another thread may make it in between.
        seen = self._seen
        if not self.exists():
            # It may have been a disk's: what is written to its place then fills another one.
            if seen:
                raise NotKeptError(problems.vanished(self.path))
            _make_private(self.path)
            if not self.exists():
                raise NotKeptError(problems.vanished(self.path))
        make_subfolder(self.partial)
        make_subfolder(self.blocks)

    def marker(self) -> Mapping[str, Any]:
        """The content of ``store.json``: empty where it is missing or damaged, for the blocks speak for themselves."""
        path = self.path / _MARKER
        try:
            status = os.lstat(path)
        except OSError:
            return {}
        state = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._marker[0] != state:
            content = read_json(path)
            self._marker = (state, content if isinstance(content, dict) else {})
        return self._marker[1]

    def write_marker(self, content: Mapping[str, Any]) -> None:
        """Replace ``store.json``. OSError."""
        write_json(self, self.path / _MARKER, content)

    @property
    def limit(self) -> int | None:
        """The limit that the folder names, in bytes."""
        limit = self.marker().get("limit")
        return limit if type(limit) is int and limit >= 0 else None


def _make_private(path: Path) -> None:
    """The folder and those above it that are missing, for this user only: whatever the umask is."""
    missing = []
    while not path.exists() and path != path.parent:
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
            folder.chmod(0o700)


def make_subfolder(path: Path) -> None:
    """A folder in a folder of the store, if it is missing. OSError, for a link or a file in its place too."""
    try:
        path.mkdir(0o700)
        path.chmod(0o700)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise


class PartialFile:
    """A file that is being written, locked as long as its writer lives; ``write`` and ``place`` raise OSError."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Append all of ``parts`` and wait until the disk has them."""
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(self.descriptor, rest[: 64 << 20]) :]
        os.fsync(self.descriptor)

    def mark_used(self, nanoseconds: int) -> None:
        """Set the time of its last use."""
        os.utime(self.descriptor if os.utime in os.supports_fd else self._path, ns=(nanoseconds, nanoseconds))

    def place(self, path: Path) -> None:
        """Put the file at ``path``, whatever stood there."""
        if os.name == "nt":
            close_lockable(self.descriptor)
        self._path.replace(path)


@contextlib.contextmanager
def partial_file(folder: Path) -> Iterator[PartialFile]:
    """A new file in ``folder``, which is gone after the block unless it was placed. OSError."""
    path, descriptor = _new_partial(folder)
    try:
        yield PartialFile(path, descriptor)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        close_lockable(descriptor)
        _being_written.discard(path.name)


def _new_partial(folder: Path) -> tuple[Path, int]:
    for _ in range(_MOST_TRIES):
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        _being_written.add(path.name)
        descriptor = open_lockable(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            # A sweep may have come between: then it holds the lock, or the file is gone already.
            if try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0:
                return path, descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            close_lockable(descriptor)
            raise
        close_lockable(descriptor)
        _being_written.discard(path.name)
    raise FileExistsError(f"no partial file could be made in {folder}")


def sweep(folder: Path) -> None:
    """Remove the partial files whose writers are no more. They hold a lock on them as long as they live.

    To be called with the ledger held: then no file stands between its last lock and its place.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in list(found):
            if entry.name not in _being_written:
                with contextlib.suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        path.unlink()
        return
    descriptor = open_lockable(path, os.O_RDWR)
    try:
        if try_lock(descriptor):
            if os.name == "nt":
                close_lockable(descriptor)
            path.unlink(missing_ok=True)
    finally:
        close_lockable(descriptor)


def read_json(path: Path) -> Any:
    """The content of a small file of the store; ``None`` where it is missing, damaged or not this user's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFELY)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            return None
        content = os.read(descriptor, _MOST_JSON + 1)
        return json.loads(content) if len(content) <= _MOST_JSON else None
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def write_json(folder: StoreFolder, path: Path, content: object) -> None:
    """Replace a small file of the store, whole or not at all. OSError."""
    make_subfolder(folder.partial)
    with partial_file(folder.partial) as file:
        file.write(json.dumps(content).encode())
        file.place(path)
    wait_for_disk(folder.path)
