"""Writing GGUF files by hand, whole ones and hostile ones, independently of the reader and of llama.cpp."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.family.vocabularies import vocabulary_of


@dataclass(frozen=True)
class Raw:
    """A value of a stated type: the type's number and the bytes behind it."""

    kind: int
    data: bytes


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(content: Any) -> Raw:
    if isinstance(content, Raw):
        return content
    if isinstance(content, bool):
        return Raw(7, struct.pack("<?", content))
    if isinstance(content, int):
        return Raw(4, struct.pack("<I", content))
    if isinstance(content, float):
        return Raw(6, struct.pack("<f", content))
    if isinstance(content, str):
        return Raw(8, text(content))
    items = [value(item) for item in content]
    return Raw(9, struct.pack("<IQ", items[0].kind, len(items)) + b"".join(item.data for item in items))


def gguf_bytes(
    values: Mapping[str, Any],
    *,
    tensors: Sequence[tuple[str, tuple[int, ...], int, int]] = (),
    data: bytes = b"",
    version: int = 3,
    magic: bytes = b"GGUF",
    keys: int | None = None,
) -> bytes:
    """A file; a tensor is its name, dimensions, type and offset into ``data``."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(values) if keys is None else keys)
    for key, content in values.items():
        raw = value(content)
        head += text(key) + struct.pack("<I", raw.kind) + raw.data
    for name, dimensions, kind, offset in tensors:
        head += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
    return head + bytes(-len(head) % 32) + data


def llama_values(**changes: Any) -> dict[str, Any]:
    """The metadata of a small Llama with the toy vocabulary; ``changes`` in full names with dots as ``__``."""
    pieces, scores, types = vocabulary_of("toy")
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "toy",
        "llama.block_count": 2,
        "llama.context_length": 4096,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 176,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 4,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    for key, content in changes.items():
        name = key.replace("__", ".")
        if content is None:
            values.pop(name, None)
        else:
            values[name] = content
    return values


def write_gguf(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(llama_values(**changes)))
    return path
