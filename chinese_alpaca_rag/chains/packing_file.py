"""Packings in a file, for the next process: what was kept of their prompts on disk serves it as well.

Each line is one packing as JSON, the one used last first. The file holds places and digests, is readable by its owner
alone, and is replaced as a whole: two processes that write lose one packing at worst. Lines that are none are skipped.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeGuard

from chinese_alpaca_rag.chains.packings import PackedSource, Packing, with_packing, without_packing

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())

MOST_IN_FILE = 64
# What is longer than this was not written here: bytes of the file, sources of a packing, any number in it.
_LONGEST_FILE = 16 << 20
_MOST_SOURCES = 4096
_LARGEST_NUMBER = 1 << 40
# A file that was being written when its process was killed goes after this many seconds.
_ABANDONED = 60.0
_UNFINISHED = ".part"

_DIGEST = re.compile(r"[0-9a-f]{64}")


class PackingFile:
    """A ``PackingMemory`` in the file ``path``, which need not be there. A disk that refuses it is no error."""

    def __init__(self, path: Path, most: int = MOST_IN_FILE) -> None:
        self.path = path
        self._most = most
        self._guard = threading.Lock()

    def recall(self, under: str) -> Sequence[Packing]:
        """See ``PackingMemory``."""
        return [packing for packing in self._read() if packing.under == under]

    def remember(self, packing: Packing) -> None:
        """See ``PackingMemory``."""
        self._change(lambda known: with_packing(known, packing))

    def forget(self, packing: Packing) -> None:
        """See ``PackingMemory``."""
        self._change(lambda known: without_packing(known, packing))

    def _change(self, change: Callable[[Sequence[Packing]], list[Packing]]) -> None:
        with self._guard:
            before = self._read()
            after = change(before)[: self._most]
            if after == before:
                return
            try:
                self._write(after)
            except OSError as problem:
                logger.warning("The packings in %s could not be written: %s", self.path, problem)

    def _read(self) -> list[Packing]:
        try:
            with self.path.open("rb") as file:
                content = file.read(_LONGEST_FILE + 1)
        except OSError:
            return []
        if len(content) > _LONGEST_FILE:
            return []
        lines = content.decode("ascii", "replace").splitlines()
        return list(islice(_packings(lines), self._most))

    def _write(self, packings: Sequence[Packing]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = "".join(_line(packing) for packing in packings)
        self._sweep()
        # mkstemp makes files that only their owner may read.
        descriptor, name = tempfile.mkstemp(prefix=self.path.name, suffix=_UNFINISHED, dir=self.path.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content.encode("ascii"))
            os.replace(name, self.path)  # noqa: PTH105 - a name from mkstemp
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise

    def _sweep(self) -> None:
        """Remove what a killed process left."""
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}*{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()


def _line(packing: Packing) -> str:
    sources = [[one.document, one.page, one.start, one.end, one.number, one.shown] for one in packing.sources]
    return json.dumps([packing.under, sources], separators=(",", ":")) + "\n"


def _packings(lines: Sequence[str]) -> Iterator[Packing]:
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            under, sources = json.loads(line)
            if _is_digest(under) and isinstance(sources, list) and 0 < len(sources) <= _MOST_SOURCES:
                yield Packing(under, tuple(_source(one) for one in sources))


def _source(fields: Sequence[object]) -> PackedSource:
    """One source of a line. Raises ValueError or TypeError for what cannot be one."""
    document, page, start, end, number, shown = fields
    if not (_is_digest(document) and _is_digest(shown)):
        raise ValueError
    if not (_is_number(page) and _is_number(start) and _is_number(end) and _is_number(number)):
        raise ValueError
    return PackedSource(document, page, start, end, number, shown)


def _is_digest(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST_NUMBER < value < _LARGEST_NUMBER
