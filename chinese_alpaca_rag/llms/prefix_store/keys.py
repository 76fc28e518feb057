"""How a block is named: by the weights and options it was computed with, and by every id up to its end."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: The length of a digest, in bytes: a sha256.
DIGEST_BYTES: Final = 32
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlockKey:
    """The name of the ids ``start`` to ``end`` (exclusive, in tokens) behind all that comes before them.

    ``space`` is a ``space_of``. ``digest`` is the sha256 of the digest of the block before (of the space, for the
    first one) and of the ids as little-endian int32: equal digests have the same ids from the first on, cut in the
    same way. ValueError for what cannot name a block.
    """

    space: str
    digest: bytes
    start: int
    end: int

    def __post_init__(self) -> None:
        # Both become names of files.
        if not _HEX.fullmatch(self.space) or len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"no digests: {self.space!r}, {self.digest!r}")
        if not 0 <= self.start < self.end:
            raise ValueError(f"no block of tokens: {self.start} to {self.end}")


def space_of(facts: Mapping[str, object]) -> str:
    """The name, in hex, of all that changes keys and values but the ids: weights, types, rotation.

    ``facts`` is whatever JSON can say; TypeError or ValueError for anything else.
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def block_keys(space: str, ids: Sequence[int], ends: Sequence[int]) -> list[BlockKey]:
    """The keys of the blocks of ``ids`` that end at ``ends`` (in tokens, increasing); each begins where one ended.

    ValueError for ends that do not increase or lie beyond the ids.
    """
    if ends and ends[-1] > len(ids):
        raise ValueError(f"a block ends at {ends[-1]}, behind the last of {len(ids)} ids")
    keys = list[BlockKey]()
    start, digest = 0, bytes.fromhex(space)
    for end in ends:
        digest = chained(digest, packed(ids[start:end]))
        keys.append(BlockKey(space, digest, start, end))
        start = end
    return keys


def chained(before: bytes, ids: bytes) -> bytes:
    """The digest of a block with ``packed`` ids behind the block (or, for a first block, in the space) ``before``."""
    return hashlib.sha256(before + ids).digest()


def before_first(space: str) -> bytes:
    """What stands for the digest of the block before in a first block."""
    return bytes.fromhex(space)


def packed(ids: Sequence[int]) -> bytes:
    """``ids`` as little-endian int32. OverflowError for what is none."""
    numbers = array("i", ids)
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers.tobytes()
