"""SentencePiece's model file as bytes: writing one from a vocabulary, and reading how it normalises.

The format is the protocol buffer ``ModelProto`` of ``sentencepiece_model.proto``. The handful of
fields that matter are read and written here directly, so that the protobuf package is not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# ModelProto.SentencePiece.Type, which GGUF's token types copy.
NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
BYTE: Final = 6

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5

_MODEL_BPE: Final = 2


@dataclass(frozen=True)
class Normaliser:
    """``NormalizerSpec``: what is done to text before it is cut into pieces."""

    rewrites: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool


def write_model(
    tokens: Sequence[str], scores: Sequence[float], types: Sequence[int], *, add_dummy_prefix: bool
) -> bytes:
    """A BPE model with byte fallback that leaves its text as it is (no rewriting, no squeezing of spaces)."""
    pieces = bytearray()
    for token, score, kind in zip(tokens, scores, types, strict=True):
        piece = token.encode()
        body = b"\x0a" + _varint(len(piece)) + piece + b"\x15" + struct.pack("<f", score)
        if kind != NORMAL:
            body += b"\x18" + _varint(kind)
        pieces += b"\x0a" + _varint(len(body)) + body
    trainer = _flag(3, _MODEL_BPE) + _flag(4, len(tokens)) + _flag(35, 1)
    normaliser = b"\x0a\x08identity" + _flag(3, int(add_dummy_prefix)) + _flag(4, 0) + _flag(5, 1)
    return bytes(pieces) + _message(2, trainer) + _message(3, normaliser)


def read_normaliser(model: bytes) -> Normaliser:
    """The normaliser of a serialised model. Raises ``ValueError`` where the bytes are not such a model."""
    values: dict[int, int] = {}
    rewrites = False
    for number, value in _fields(memoryview(model)):
        if number != 3 or isinstance(value, int):
            continue
        for inner, setting in _fields(value):
            if isinstance(setting, int):
                values[inner] = setting
            elif inner == 2:  # precompiled_charsmap: empty for the identity
                rewrites = len(setting) > 0
    # A field that is not written has the default of the .proto file: true for all three.
    return Normaliser(
        rewrites=rewrites,
        add_dummy_prefix=bool(values.get(3, 1)),
        remove_extra_whitespaces=bool(values.get(4, 1)),
        escape_whitespaces=bool(values.get(5, 1)),
    )


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _flag(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _message(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(body)) + body


def _read_varint(buffer: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(buffer) and shift < 64:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number runs past the end")


def _fields(buffer: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number with its value: an integer, or the bytes of anything else."""
    position = 0
    while position < len(buffer):
        tag, position = _read_varint(buffer, position)
        wire = tag & 7
        if wire == _VARINT:
            value, position = _read_varint(buffer, position)
            yield tag >> 3, value
            continue
        if wire == _LENGTH:
            length, position = _read_varint(buffer, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if length > len(buffer) - position:
            raise ValueError("a field runs past the end")
        yield tag >> 3, buffer[position : position + length]
        position += length
