"""Claims on computing a block: one process, and in it one thread, has it at a time.

A claim is a lock on one byte of one file, at a place that the block's digest names: nothing is written, nothing
grows, and the system drops the claims of a process that dies.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from chinese_alpaca_rag.llms.prefix_store.keys import BlockKey
from chinese_alpaca_rag.llms.prefix_store.locks import open_private

# Places, in bytes, as far as Windows counts them: that two blocks meet at one is as good as impossible.
_PLACES: Final = (1 << 31) - 2


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, place: int) -> bool:
        os.lseek(descriptor, place, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int, place: int) -> None:
        os.lseek(descriptor, place, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # These locks belong to the process, not to the descriptor: threads are told apart by `_ClaimFile.places`.
    def _lock(descriptor: int, place: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place, os.SEEK_SET)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(descriptor: int, place: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place, os.SEEK_SET)


class Claim:
    """A block is this process's to compute, until ``release``, which any thread may call, or the end of ``with``."""

    def __init__(self, file: _ClaimFile | None, place: int) -> None:
        self._file = file
        self._place = place

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        with _guard:
            file, self._file = self._file, None
            if file is not None:
                file.release(self._place)

    def __del__(self) -> None:
        # An interruption may have come between the claim and whoever was to release it.
        self.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class _ClaimFile:
    """The one descriptor that this process has of a file of claims: closing a second one would drop them all."""

    def __init__(self, identity: tuple[int, int], descriptor: int) -> None:
        self.identity = identity
        self.descriptor = descriptor
        self.places: set[int] = set()

    def release(self, place: int) -> None:
        if self.descriptor < 0:
            return
        _unlock(self.descriptor, place)
        self.places.discard(place)
        self.close_unused()

    def close_unused(self) -> None:
        if not self.places:
            del _files[self.identity]
            os.close(self.descriptor)
            self.descriptor = -1


# Taken again by the collector, which may let go of a claim at any time.
_guard = threading.RLock()
_files: dict[tuple[int, int], _ClaimFile] = {}


def _forget_all() -> None:
    # The parent's claims are not the child's, and its guard may have been held by a thread that the child has not.
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    for file in _files.values():
        os.close(file.descriptor)
        file.descriptor = -1
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def claim(path: Path, key: BlockKey) -> Claim | None:
    """The claim on ``key`` in the file at ``path``; ``None`` while another process or thread has it.

    Where no claim can be made (no folder to write to, a disk without locks) it is an empty one: then nobody else can
    have it either.
    """
    place = int.from_bytes(key.digest[:8], "little") % _PLACES
    with _guard:
        try:
            file = _file_at(path)
        except OSError:
            return Claim(None, place)
        if place in file.places:
            return None
        try:
            if _lock(file.descriptor, place):
                file.places.add(place)
                return Claim(file, place)
        except OSError:
            return Claim(None, place)
        finally:
            file.close_unused()
        return None


def _file_at(path: Path) -> _ClaimFile:
    # Looked up before it is opened: a second descriptor must never be there to be closed.
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if known := _files.get((status.st_dev, status.st_ino)):
            return known
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    status = os.fstat(descriptor)
    file = _files.setdefault((status.st_dev, status.st_ino), _ClaimFile((status.st_dev, status.st_ino), descriptor))
    if file.descriptor != descriptor:
        os.close(descriptor)
    return file
