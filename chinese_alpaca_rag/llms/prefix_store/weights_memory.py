"""Which weights they are: a digest of all that the files hold, computed once for as long as they stay as they are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import xxhash

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.prefix_store.folder import StoreFolder, read_json, write_json
from chinese_alpaca_rag.llms.prefix_store.problems import NotKeptError

_NAME: Final = "weights.json"
_VERSION: Final = 1
#: So many files are remembered, the last ones that were asked for.
MOST_ROWS: Final = 300
_AT_ONCE: Final = 8 << 20
# A file that was changed so short a time ago, in nanoseconds, may change again without a new time.
_UNSETTLED: Final = 2_000_000_000


def weights_digest(paths: Sequence[Path], folder: Path) -> str:
    """A digest, in hex, of the whole content of the files at ``paths``, their lengths and their order.

    Not of their names: a copy of a model is that model. Files of which path, length, times and inode are those of an
    earlier call are not read again; the store in ``folder`` remembers them, where it can. CheckpointError for a file
    that cannot be read.
    """
    memory = _Memory(StoreFolder(Path(folder)))
    whole = xxhash.xxh3_128()
    for path in paths:
        size, digest = memory.digest(Path(path))
        whole.update(size.to_bytes(8, "little") + digest)
    memory.save()
    return whole.hexdigest()


class _Memory:
    """What the store's folder remembers of weight files: a row of facts and digest for each."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder
        self._rows: list[list[Any]] = []
        self._changed = False
        with contextlib.suppress(OSError, NotKeptError):
            # Of a folder that others may write to nothing is believed.
            if folder.exists():
                self._rows = _rows_in(read_json(folder.path / _NAME))

    def digest(self, path: Path) -> tuple[int, bytes]:
        """Length in bytes and digest of the file at ``path``."""
        try:
            path = path.resolve(strict=True)
            facts = _facts(path)
            for row in self._rows:
                if row[:-1] == facts:
                    return facts[1], bytes.fromhex(row[-1])
            digest = _digest_of(path)
            # One that changes while it is read, or just before, is read again the next time.
            settled = abs(time.time_ns() - facts[3]) > _UNSETTLED
            if settled and _facts(path) == facts:
                self._rows = [row for row in self._rows if row[0] != facts[0]]
                self._rows.append([*facts, digest.hex()])
                self._changed = True
        except OSError as error:
            raise CheckpointError(
                Words(zh=f"无法读取权重文件 {path}：{error}", en=f"The weight file {path} cannot be read: {error}"),
                hint=Words(zh="检查路径和文件权限。", en="Check the path and the file's permissions."),
            ) from error
        return facts[1], digest

    def save(self) -> None:
        """Write down what is new, where that is possible."""
        if self._changed:
            with contextlib.suppress(OSError, NotKeptError):
                self._folder.make()
                content = {"version": _VERSION, "rows": self._rows[-MOST_ROWS:]}
                write_json(self._folder, self._folder.path / _NAME, content)


def _facts(path: Path) -> list[Any]:
    status = path.stat()
    # A name that is no text could not be written down.
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return [name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _rows_in(content: Any) -> list[list[Any]]:
    if not isinstance(content, dict) or content.get("version") != _VERSION or not isinstance(content.get("rows"), list):
        return []
    return [row for row in content["rows"][-MOST_ROWS:] if _is_row(row)]


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 7
        and isinstance(row[0], str)
        and all(type(number) is int for number in row[1:6])
        and isinstance(row[6], str)
        and len(row[6]) == 32
        and all(digit in "0123456789abcdef" for digit in row[6])
    )


def _digest_of(path: Path) -> bytes:
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.digest()
