"""What all processes know of the store together: its bytes, its clock, and when documents were last forgotten.

The file is also the lock under which the store changes. What it says of bytes may be too much (after a kill between
two steps, or a removal that it was not told of) but never too little: bytes are added before a block is placed
and taken away after one has gone. Who finds the store too full counts again before anything is removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import xxhash

from chinese_alpaca_rag.llms.prefix_store.locks import SAFELY, close_lockable, lock_file

_CONTENT: Final = struct.Struct("<8sqqq")
_MAGIC: Final = b"AlpacaLG"
_LENGTH: Final = _CONTENT.size + 8


@dataclass
class Ledger:
    """``bytes`` kept, ``None`` where nobody knows; ``latest`` use, in nanoseconds; ``generation``: see the store."""

    bytes: int | None
    latest: int
    generation: int
    _descriptor: int = -1

    def save(self) -> None:
        """Write it down. OSError."""
        if self.bytes is None:
            raise ValueError("count first")
        content = _CONTENT.pack(_MAGIC, self.bytes, self.latest, self.generation)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, content + xxhash.xxh3_64_digest(content))

    def add(self, size: int) -> None:
        """``size`` bytes more are kept, or fewer. OSError."""
        self.bytes = max(0, (self.bytes or 0) + size)
        self.save()

    def now(self) -> int:
        """A time of use later than any before, in nanoseconds, even where the clock was set back."""
        self.latest = max(time.time_ns(), self.latest + 1)
        return self.latest


@contextlib.contextmanager
def held_ledger(path: Path, patience: float) -> Iterator[Ledger | None]:
    """The ledger at ``path``, made if need be, held by nobody else; ``None`` after ``patience`` seconds. OSError."""
    descriptor = lock_file(path, patience)
    if descriptor is None:
        yield None
        return
    try:
        ledger = _parsed(os.read(descriptor, _LENGTH))
        ledger._descriptor = descriptor
        yield ledger
    finally:
        close_lockable(descriptor)


def seen_ledger(path: Path) -> Ledger | None:
    """What the ledger says at this moment, whoever holds it; ``None`` where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFELY)
    except OSError:
        return None
    try:
        return _parsed(os.read(descriptor, _LENGTH))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _parsed(content: bytes) -> Ledger:
    if len(content) == _LENGTH and xxhash.xxh3_64_digest(content[: _CONTENT.size]) == content[_CONTENT.size :]:
        magic, kept, latest, generation = _CONTENT.unpack_from(content)
        if magic == _MAGIC and kept >= 0:
            return Ledger(kept, latest, generation)
    # In place of a damaged number one that nobody knows, so that nobody takes it for his.
    return Ledger(None, 0, secrets.randbits(62) if content else 0)
