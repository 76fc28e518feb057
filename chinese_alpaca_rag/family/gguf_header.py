"""Reading the metadata of a GGUF file (versions 2 and 3), without its weights and without llama.cpp.

The format is ggml's ``docs/gguf.md``. A model file is untrusted input: every length is checked
against what is left of the file before anything of that length is read or allocated, and what is
not asked for is stepped over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.language import Words

Scalar = int | float | bool | str

# gguf_metadata_value_type: struct code and size in bytes of the fixed-size types.
_FIXED: Final[dict[int, tuple[str, int]]] = {
    0: ("<B", 1),
    1: ("<b", 1),
    2: ("<H", 2),
    3: ("<h", 2),
    4: ("<I", 4),
    5: ("<i", 4),
    6: ("<f", 4),
    7: ("<?", 1),
    10: ("<Q", 8),
    11: ("<q", 8),
    12: ("<d", 8),
}
_STRING: Final = 8
_ARRAY: Final = 9

# ggml_type: elements and bytes of one block, for the types that llama.cpp writes today.
_BLOCKS: Final[dict[int, tuple[int, int]]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
}

# Far above any real file: a 70B model has some 50 keys, 800 tensors and 300,000 merges.
_MOST_KEYS: Final = 4096
_MOST_TENSORS: Final = 65536
_MOST_ITEMS: Final = 4_194_304
_LONGEST_KEY: Final = 65535  # the format's own limit, in bytes
_LONGEST_STRING: Final = 16 * 1024 * 1024
_MOST_DIMENSIONS: Final = 4
_MOST_METADATA: Final = 512 * 1024 * 1024


@dataclass(frozen=True)
class GgufTensor:
    """``shape`` as the file has it, the row's length first. ``kind`` is its ``ggml_type``.

    ``start`` and ``end`` are its bytes in the file; of a type unknown here ``end`` is ``start``.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """``values``: the single values; ``arrays``: the lists asked for; ``lengths``: of every list, its items.

    ``kinds``: the type of each single value (``gguf_metadata_value_type``), which ``values`` do not tell.
    """

    version: int
    tensor_count: int
    values: dict[str, Scalar] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, list[Scalar]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: tuple[GgufTensor, ...] = ()


def read_gguf_header(path: Path, *, arrays: Collection[str] = ()) -> GgufHeader:
    """The metadata of the file at ``path``, with the lists named in ``arrays``.

    Raises ``CheckpointError`` for a file that is no GGUF, is damaged, or ends before its last tensor.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _HeaderReader(path, file, size, frozenset(arrays)).read()
    except OSError as problem:
        raise _damaged(path, problem.strerror or str(problem)) from problem


class _HeaderReader:
    """One pass over the head of a file. ``_left`` is what remains of it, in bytes."""

    def __init__(self, path: Path, file: BinaryIO, size: int, wanted: frozenset[str]) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._left = size
        self._wanted = wanted

    def read(self) -> GgufHeader:
        if self._left < 24 or self._take(4) != b"GGUF":
            raise _damaged(self._path, "it does not begin as a GGUF file does")
        version = self._number("<I", 4)
        if version not in (2, 3):
            raise _damaged(self._path, f"GGUF version {version}; versions 2 and 3 (little-endian) are read")
        tensors = self._count("<Q", _MOST_TENSORS, "tensors", at_least=24)
        keys = self._count("<Q", _MOST_KEYS, "keys", at_least=13)
        header = GgufHeader(version=version, tensor_count=tensors)
        for _ in range(keys):
            self._read_pair(header)
            if self._size - self._left > _MOST_METADATA:
                raise _damaged(self._path, f"more than {_MOST_METADATA:,} bytes of metadata")
        return replace(header, tensors=self._tensors(header))

    def _read_pair(self, header: GgufHeader) -> None:
        key = self._string(_LONGEST_KEY)
        if not key:
            raise _damaged(self._path, "a key without a name")
        if key in header.values or key in header.lengths:
            raise _damaged(self._path, f"the key {key[:80]!r} stands twice")
        kind = self._number("<I", 4)
        if kind == _ARRAY:
            self._read_array(header, key)
        else:
            header.values[key] = self._value(kind)
            header.kinds[key] = kind

    def _read_array(self, header: GgufHeader, key: str) -> None:
        kind = self._number("<I", 4)
        if kind != _STRING and kind not in _FIXED:
            raise _damaged(self._path, f"the list {key[:80]!r} holds values of type {kind}")
        width = 8 if kind == _STRING else _FIXED[kind][1]
        length = self._count("<Q", _MOST_ITEMS, f"items in {key[:80]!r}", at_least=width)
        header.lengths[key] = length
        if key not in self._wanted:
            if kind == _STRING:
                for _ in range(length):
                    self._skip(self._count("<Q", _LONGEST_STRING, "bytes of text"))
            else:
                self._skip(length * width)
        elif kind == _STRING:
            header.arrays[key] = [self._string(_LONGEST_STRING) for _ in range(length)]
        else:
            code = _FIXED[kind][0]
            header.arrays[key] = list(struct.unpack(f"<{length}{code[1]}", self._take(length * width)))

    def _value(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self._string(_LONGEST_STRING)
        if kind not in _FIXED:
            raise _damaged(self._path, f"a value of type {kind}")
        code, width = _FIXED[kind]
        value: Scalar = struct.unpack(code, self._take(width))[0]
        return value

    def _tensors(self, header: GgufHeader) -> tuple[GgufTensor, ...]:
        """The list of tensors, once it is sure that the file is long enough to hold every one of them."""
        # Offsets count from where the data begins, which is known only after the list.
        tensors = [self._tensor() for _ in range(header.tensor_count)]
        alignment = header.values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 65536:
            raise _damaged(self._path, f"an alignment of {alignment}")
        start = -(-(self._size - self._left) // alignment) * alignment
        needed = start + max((tensor.end for tensor in tensors), default=0)
        if needed > self._size:
            raise CheckpointError(
                Words(
                    zh=f"{self._path.name} 不完整：应有 {needed:,} 字节，只有 {self._size:,} 字节。",
                    en=f"{self._path.name} is cut short: {needed:,} bytes needed, {self._size:,} there.",
                ),
                hint=Words(zh="请重新下载该文件。", en="Fetch the file again."),
            )
        return tuple(replace(tensor, start=start + tensor.start, end=start + tensor.end) for tensor in tensors)

    def _tensor(self) -> GgufTensor:
        name = self._string(_LONGEST_KEY)
        dimensions = self._number("<I", 4)
        if dimensions > _MOST_DIMENSIONS:
            raise _damaged(self._path, f"the tensor {name[:80]!r} has {dimensions} dimensions")
        shape = tuple(self._number("<Q", 8) for _ in range(dimensions))
        kind = self._number("<I", 4)
        per_block, block_bytes = _BLOCKS.get(kind, (1, 0))
        start = self._number("<Q", 8)
        return GgufTensor(name, shape, kind, start, start + math.prod(shape) // per_block * block_bytes)

    def _take(self, length: int) -> bytes:
        if length > self._left:
            raise _damaged(self._path, f"{length:,} bytes are announced where {self._left:,} are left")
        data = self._file.read(length)
        if len(data) != length:
            raise _damaged(self._path, "it became shorter while it was read")
        self._left -= length
        return data

    def _skip(self, length: int) -> None:
        if length > self._left:
            raise _damaged(self._path, f"{length:,} bytes are announced where {self._left:,} are left")
        self._file.seek(length, 1)
        self._left -= length

    def _number(self, code: str, width: int) -> int:
        value: int = struct.unpack(code, self._take(width))[0]
        return value

    def _count(self, code: str, most: int, what: str, *, at_least: int = 1) -> int:
        """A number of things of which each takes ``at_least`` bytes of what follows."""
        count = self._number(code, struct.calcsize(code))
        if count > most or count * at_least > self._left:
            raise _damaged(self._path, f"{count:,} {what} are announced where {self._left:,} bytes are left")
        return count

    def _string(self, longest: int) -> str:
        data = self._take(self._count("<Q", longest, "bytes of text"))
        try:
            return data.decode()
        except UnicodeDecodeError as problem:
            raise _damaged(self._path, "a text in it is not UTF-8") from problem


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"无法读取 GGUF 文件 {path.name}：{reason}", en=f"{path.name} cannot be read as GGUF: {reason}"),
        hint=Words(
            zh="请重新下载该文件，或用 llama.cpp 重新转换。",
            en="Fetch the file again, or convert it again with llama.cpp.",
        ),
    )
