"""One writer at a time: a lock on a file beside the library, which falls with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from pathlib import Path

from chinese_alpaca_rag.errors import LibraryBusyError, LibraryError
from chinese_alpaca_rag.language import Words

LOCK_NAME = "library.lock"
PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 0.05


class WriterLock:
    """Held from ``acquire`` to ``release``; the file's content is the holder's process number."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._descriptor: int | None = None
        _living.add(self)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, patience: float | None = None) -> None:
        """Wait for the lock, ``patience`` seconds (PATIENCE_SECONDS by default).

        LibraryBusyError, with the holder's number, where it stays held; LibraryError where the folder
        cannot be written.
        """
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _cannot_write(self.path.parent, error) from error
        deadline = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
        while not _lock(descriptor):
            if time.monotonic() >= deadline:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise _busy(self.path.parent, holder)
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it would let two writers lock different files."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            _unlock(descriptor)
            os.close(descriptor)

    def forget(self) -> None:
        """In a forked child: close the inherited descriptor, so that the lock falls with the parent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


_living: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_living):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


if sys.platform == "win32":
    import msvcrt

    # Windows locks byte ranges, and a locked byte cannot be read: lock one far behind the number.
    _LOCKED_BYTE = 1 << 20

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, 20)
    return content.decode() if content.isdigit() else "?"


def _busy(folder: Path, holder: str) -> LibraryBusyError:
    return LibraryBusyError(
        Words(
            zh=f"另一个进程（{holder}）正在写入知识库 {folder}。",
            en=f"Another process ({holder}) is writing the library {folder}.",
        ),
        hint=Words(
            zh="等它完成后再运行一次；或用 --library 指定另一个文件夹。提问和查看不受影响。",
            en="Run this again when it is done, or name another folder with --library. Asking and listing go on.",
        ),
    )


def _cannot_write(folder: Path, error: OSError) -> LibraryError:
    return LibraryError(
        Words(zh=f"无法写入知识库 {folder}：{error}", en=f"The library {folder} cannot be written: {error}"),
        hint=Words(
            zh="检查文件夹权限，或用 --library 指定另一个文件夹。",
            en="Check the folder's permissions, or name another with --library.",
        ),
    )
