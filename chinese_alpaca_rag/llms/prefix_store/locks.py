"""Locks on whole files that fall with the process that holds them, between threads too."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from pathlib import Path
from typing import Final

#: What every file of the store is opened with: no link is followed, no other program inherits it, no pipe waits.
SAFELY: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_POLL_SECONDS: Final = 0.002

# What this process may have locked. A forked child has them open as well: the locks would live as long as it does.
_held: set[int] = set()


def _forget_all() -> None:
    for descriptor in list(_held):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


if sys.platform == "win32":
    import msvcrt

    # Windows locks byte ranges, and a locked byte cannot be read: lock one behind any content.
    _LOCKED_BYTE: Final = (1 << 31) - 2

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
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


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file at ``path``, which is for this user only: whatever the umask is. OSError."""
    descriptor = os.open(path, flags | SAFELY, 0o600)
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
        try:
            os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def open_lockable(path: Path, flags: int) -> int:
    """As ``open_private``, for a file that is to be locked; to be ended by ``close_lockable``."""
    descriptor = open_private(path, flags)
    _held.add(descriptor)
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Lock the open file, unless somebody has. OSError where the disk knows no locks."""
    return _lock(descriptor)


def close_lockable(descriptor: int) -> None:
    """Unlock and close; nothing where that was done already, as in a forked child, which closed it at once."""
    if descriptor in _held:
        _held.discard(descriptor)
        _unlock(descriptor)
        os.close(descriptor)


def lock_file(path: Path, patience: float) -> int | None:
    """The descriptor of the file at ``path``, made if need be, locked; ``None`` after ``patience`` seconds.

    It is the file that stands there when the lock is had: another one may have come in its place. OSError.
    """
    deadline = time.monotonic() + patience
    while True:
        descriptor = open_lockable(path, os.O_RDWR | os.O_CREAT)
        try:
            locked = _locked_by(descriptor, deadline)
            if locked and _stands_at(descriptor, path):
                return descriptor
        except BaseException:
            close_lockable(descriptor)
            raise
        close_lockable(descriptor)
        if not locked:
            return None


def _locked_by(descriptor: int, deadline: float) -> bool:
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _stands_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
