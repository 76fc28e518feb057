"""One block on disk: a header that says all that a reader has to check, then the state as the backend gave it.

::

    bytes   0 -  8   MAGIC
            8 - 12   VERSION
           12 - 16   length of the header with its padding, in bytes: a multiple of PAGE
           16 - 20   number of ids
           20 - 24   length of the description, in bytes
           24 - 32   length of the state, in bytes
           32 - 48   xxh3_128 of the state
           48 - 64   xxh3_128 of the whole header with these sixteen bytes as zeros
           64 -      the ids as int32, the description as JSON, zeros; behind them the state

Numbers are little-endian. The checksums are proof against damage, not against an enemy: those are kept out by the
folder's permissions.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import xxhash

from chinese_alpaca_rag.llms.prefix_store.facts import SpaceFacts
from chinese_alpaca_rag.llms.prefix_store.keys import BlockKey, before_first, chained, packed
from chinese_alpaca_rag.llms.prefix_store.locks import SAFELY

MAGIC: Final = b"AlpacaKV"
VERSION: Final = 1
#: The state begins at a multiple of this, in bytes.
PAGE: Final = 4096
#: The longest header and the longest state that are written or read, in bytes.
MOST_HEADER: Final = 1 << 20
MOST_STATE: Final = 4 << 30
_FIXED: Final = struct.Struct("<8sIIIIQ16s16s")
_CHECKSUM: Final = slice(48, 64)
_AT_ONCE: Final = 2 << 20


class DamagedBlockError(Exception):
    """What stands at a block's place is not that block, whole and ours. It never leaves the store."""


@dataclass(frozen=True)
class BlockHeader:
    """What a header says; ``parent`` is the digest of the block before, ``ids`` are ``packed``, lengths in bytes."""

    key: BlockKey
    parent: bytes
    ids: bytes
    about: SpaceFacts
    labels: tuple[str, ...]
    header_bytes: int
    state_bytes: int
    checksum: bytes

    @property
    def is_first(self) -> bool:
        """Whether no block comes before this one."""
        return self.key.start == 0


def written_header(
    key: BlockKey,
    parent: BlockKey | None,
    ids: bytes,
    about: SpaceFacts,
    labels: Sequence[str],
    *,
    state: memoryview,
) -> bytes | None:
    """The header of a block with ``packed`` ids; ``None`` where it would be longer than ``MOST_HEADER``."""
    description = json.dumps(
        {
            "space": key.space,
            "digest": key.digest.hex(),
            "parent": (parent.digest if parent else before_first(key.space)).hex(),
            "start": key.start,
            "end": key.end,
            "about": asdict(about),
            "labels": list(labels),
        }
    ).encode()
    length = -(-(_FIXED.size + len(ids) + len(description)) // PAGE) * PAGE
    if length > MOST_HEADER:
        return None
    checksum = xxhash.xxh3_128_digest(state)
    fixed = _FIXED.pack(MAGIC, VERSION, length, len(ids) // 4, len(description), len(state), checksum, bytes(16))
    header = bytearray(fixed + ids + description)
    header.extend(bytes(length - len(header)))
    header[_CHECKSUM] = xxhash.xxh3_128_digest(header)
    return bytes(header)


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    """A descriptor of the block file at ``path``. OSError where it cannot be opened, FileNotFoundError for none.

    DamagedBlockError for a link, anything else that is no file, and a file of another user.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFELY)
    except OSError:
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
        raise DamagedBlockError("no file") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedBlockError("no file")
        if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            raise DamagedBlockError("of another user")
        yield descriptor
    finally:
        os.close(descriptor)


def read_header(descriptor: int) -> BlockHeader:
    """The header of the file that was just opened; the next byte read is the state's first. DamagedBlockError."""
    header = os.read(descriptor, PAGE)
    if len(header) < PAGE:
        raise DamagedBlockError("too short")
    magic, version, length, count, described, state_bytes, checksum, own = _FIXED.unpack_from(header)
    if magic != MAGIC or version != VERSION:
        raise DamagedBlockError("of another kind or version")
    if length % PAGE or not PAGE <= length <= MOST_HEADER or not 0 < state_bytes <= MOST_STATE:
        raise DamagedBlockError("impossible lengths")
    while len(header) < length:
        more = os.read(descriptor, length - len(header))
        if not more:
            raise DamagedBlockError("too short")
        header += more
    blank = bytearray(header)
    blank[_CHECKSUM] = bytes(16)
    if xxhash.xxh3_128_digest(blank) != own:
        raise DamagedBlockError("damaged header")
    ids_end = _FIXED.size + 4 * count
    if ids_end + described > length or os.fstat(descriptor).st_size != length + state_bytes:
        raise DamagedBlockError("impossible lengths")
    ids = header[_FIXED.size : ids_end]
    return _described(header[ids_end : ids_end + described], ids, length, state_bytes, checksum)


def _described(text: bytes, ids: bytes, length: int, state_bytes: int, checksum: bytes) -> BlockHeader:
    try:
        facts = json.loads(text)
        key = BlockKey(facts["space"], bytes.fromhex(facts["digest"]), _whole(facts["start"]), _whole(facts["end"]))
        parent = bytes.fromhex(facts["parent"])
        about, labels = _about(facts["about"]), facts["labels"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedBlockError("no description") from error
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise DamagedBlockError("no labels")
    if key.end - key.start != len(ids) // 4 or chained(parent, ids) != key.digest:
        raise DamagedBlockError("not the block that it says it is")
    if (key.start == 0) != (parent == before_first(key.space)):
        raise DamagedBlockError("nothing, or something, comes before it")
    return BlockHeader(key, parent, ids, about, tuple(labels), length, state_bytes, checksum)


def _about(given: dict[str, Any]) -> SpaceFacts:
    about = SpaceFacts(**given)
    if not all(isinstance(text, str) for text in (about.model, about.format, about.kv_type, about.rope)):
        raise TypeError("not text")
    _whole(about.window)
    return about


def _whole(number: Any) -> int:
    if type(number) is not int:
        raise TypeError("not a whole number")
    return number


def check(header: BlockHeader, key: BlockKey, ids: Sequence[int]) -> None:
    """DamagedBlockError unless the header is that of ``key`` and ``ids``."""
    if header.key != key or header.ids != packed(ids):
        raise DamagedBlockError("another block")


def read_state(descriptor: int, header: BlockHeader) -> memoryview:
    """The state, whole, right behind ``read_header``. DamagedBlockError. Other threads run meanwhile."""
    import numpy as np

    # Memory that is not filled with zeros first: that takes longer than reading into it.
    state = np.empty(header.state_bytes, np.uint8).data
    checksum = xxhash.xxh3_128()
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        position = 0
        while position < len(state):
            count = file.readinto(state[position : position + _AT_ONCE])
            if not count:
                raise DamagedBlockError("too short")
            # While it is in the processor's cache.
            checksum.update(state[position : position + count])
            position += count
    if checksum.digest() != header.checksum:
        raise DamagedBlockError("damaged state")
    return state
