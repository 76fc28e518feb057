"""What weights on disk will take in memory, from the heads of their files: no weight is read.

How llama.cpp holds them follows its sources as of llama-cpp-python 0.3.36 (``llama-mmap.cpp``,
``llama-model-loader.cpp``, ``ggml-cpu/repack.cpp`` and ``amx/common.h``): a file is mapped and touched
whole; matrices of types that the processor multiplies faster in another layout are copied into that
layout; then what lies before the first and behind the last tensor still used in place is unmapped.
transformers maps safetensors files: weights that keep their type stay there, others are converted while
all of the files are mapped.
"""

from __future__ import annotations

import json
import math
import platform
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.figures import refused
from chinese_alpaca_rag.family.gguf_header import GgufTensor, read_gguf_header
from chinese_alpaca_rag.language import Words

TorchType = Literal["float32", "float16", "bfloat16"]
Quantization = Literal["8bit", "4bit"]

#: Bytes of one element.
TORCH_BYTES: Final[dict[TorchType, int]] = {"float32": 4, "float16": 2, "bfloat16": 2}
# bitsandbytes: bytes of an element of a linear layer, scales included.
_QUANTIZED_BYTES: Final[dict[Quantization, float]] = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
_SAFETENSORS_NAMES: Final[dict[TorchType, str]] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_LARGEST_HEAD: Final = 64 * 1024 * 1024

_PART: Final = re.compile(r"^(.*)-(\d{5})-of-(\d{5})$")
_AFTER_ALL: Final = 1 << 30
_LAYER: Final = re.compile(r"blk\.(\d{1,4})\.", re.ASCII)

# ggml_type.
_F32, _F16, _BF16 = 0, 1, 30
_Q4_0, _Q4_1, _Q8_0 = 2, 3, 8
_Q2_K, _Q4_K, _Q5_K, _Q6_K = 10, 12, 13, 14
_IQ4_NL, _IQ4_XS, _MXFP4 = 20, 23, 39
# What a matrix product converts its other side to, in bytes an element: as it is, f16, or blocks of 8-bit numbers.
_CONVERTED_BYTES: Final = {_F32: 0.0, _F16: 2.0, _BF16: 2.0}
_CONVERTED_TO_BLOCKS: Final = 292 / 256


@dataclass(frozen=True)
class WeightSize:
    """Bytes that weights take: ``held`` once they are loaded, ``loading`` at most on the way there.

    ``droppable`` of those held are mapped but no longer used; the system takes them back when it needs
    to. ``converted`` is what one element of a product's other side is converted to, in bytes.
    """

    held: int
    loading: int
    droppable: int = 0
    converted: float = 0.0


def gguf_weights(file: Path, *, mapped: bool = True, first_on_gpu: int | None = None) -> WeightSize:
    """What the GGUF model in ``file`` (and in the other parts, where it was split) takes under llama.cpp.

    ``mapped``: whether llama.cpp maps the file. Layers from ``first_on_gpu`` on, and with them the
    output matrix, are not counted. Raises ``CheckpointError`` where a part is missing or damaged.
    """
    held = loading = droppable = 0
    converted = 0.0
    for part in gguf_parts(file):
        tensors = read_gguf_header(part).tensors
        staying = [tensor for tensor in tensors if first_on_gpu is None or _layer(tensor) < first_on_gpu]
        copied = [tensor for tensor in staying if is_repacked(tensor)]
        kept = [tensor for tensor in staying if not is_repacked(tensor)]
        copies, used = _bytes(copied), _bytes(kept)
        if mapped:
            span = max(tensor.end for tensor in kept) - min(tensor.start for tensor in kept) if kept else 0
            held += span + copies
            loading += part.stat().st_size + copies
            droppable += max(0, span - used)  # a hostile file's tensors may lie over one another
        else:
            held += used + copies
            loading += used + copies + max(map(_size, copied), default=0)
        converted = max([converted, *(_conversion(tensor) for tensor in staying if len(tensor.shape) == 2)])
    return WeightSize(held=held, loading=loading, droppable=droppable, converted=converted)


def gguf_parts(file: Path) -> list[Path]:
    """All files of a model of which ``file`` is one, in order."""
    split = _PART.fullmatch(file.stem)
    if split is None:
        return [file]
    parts = [file.with_name(f"{split[1]}-{number:05d}-of-{split[3]}.gguf") for number in range(1, int(split[3]) + 1)]
    for part in parts:
        if not part.is_file():
            raise CheckpointError(
                Words(
                    zh=f"{file.name} 是 {len(parts)} 个文件之一，缺少 {part.name}。",
                    en=f"{file.name} is one of {len(parts)} files, and {part.name} is missing.",
                ),
                hint=Words(zh="请把所有分片下载到同一目录。", en="Fetch all of the parts into the same folder."),
            )
    return parts


def is_repacked(tensor: GgufTensor) -> bool:
    """Whether llama.cpp copies ``tensor`` into a layout that this machine's processor multiplies faster."""
    if len(tensor.shape) != 2 or tensor.name == "token_embd.weight":
        return False
    rows = _repacked_types().get(tensor.kind)
    return rows is not None and tensor.shape[1] % rows == 0


def safetensors_weights(folder: Path, dtype: TorchType, *, quantization: Quantization | None = None) -> WeightSize:
    """What a transformers folder takes in ``dtype``. Raises ``CheckpointError`` for a damaged head."""
    held = stored = 0
    converts = quantization is not None
    for file in shards(folder):
        for tensor in _safetensors(file):
            stored += tensor.size
            elements = math.prod(tensor.shape)
            if quantization is not None and tensor.is_linear:
                held += round(elements * _QUANTIZED_BYTES[quantization])
            else:
                held += elements * TORCH_BYTES[dtype]
            converts = converts or tensor.kind != _SAFETENSORS_NAMES[dtype]
    return WeightSize(held=held, loading=held + (stored if converts else 0))


def matrix_rows(path: Path) -> int | None:
    """The rows of the embedding, of which every id of the vocabulary needs one; ``None`` where no head tells."""
    if path.is_file():
        for part in gguf_parts(path):
            for tensor in read_gguf_header(part).tensors:
                if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
                    return tensor.shape[1]
        return None
    for file in shards(path):
        for stored in _safetensors(file):
            if stored.name == "model.embed_tokens.weight" and len(stored.shape) == 2:
                return stored.shape[0]
    return None


@dataclass(frozen=True)
class _StoredTensor:
    """One entry of a safetensors head; ``size`` in bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    size: int

    @property
    def is_linear(self) -> bool:
        """Whether a quantisation would take hold of it."""
        return len(self.shape) == 2 and "embed_tokens" not in self.name and "lm_head" not in self.name


def shards(folder: Path) -> list[Path]:
    """The weight files that transformers would read."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    try:
        table = json.loads(index.read_bytes())["weight_map"]
        return [folder / Path(name).name for name in sorted(set(table.values()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _damaged(index) from problem


def _safetensors(file: Path) -> list[_StoredTensor]:
    """The head of a safetensors file: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEAD:
                raise _damaged(file)
            head = json.loads(stream.read(length))
        return [
            _StoredTensor(
                name,
                str(entry["dtype"]),
                tuple(map(int, entry["shape"])),
                int(entry["data_offsets"][1]) - int(entry["data_offsets"][0]),
            )
            for name, entry in head.items()
            if name != "__metadata__"
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        struct.error,
    ) as problem:
        raise _damaged(file) from problem


def _damaged(file: Path) -> CheckpointError:
    return refused(
        file, "文件头损坏", "its head is damaged", hint=Words(zh="请重新下载该文件。", en="Fetch the file again.")
    )


def _layer(tensor: GgufTensor) -> int:
    """The layer of a tensor: -1 for the embedding, and for the output one that comes after every other."""
    named = _LAYER.match(tensor.name)
    if named is not None:
        return int(named[1])
    return _AFTER_ALL if tensor.name.startswith("output") else -1


def _size(tensor: GgufTensor) -> int:
    return tensor.end - tensor.start


def _bytes(tensors: Iterable[GgufTensor]) -> int:
    return sum(map(_size, tensors))


def _conversion(tensor: GgufTensor) -> float:
    return _CONVERTED_BYTES.get(tensor.kind, _CONVERTED_TO_BLOCKS)


@cache
def _repacked_types() -> dict[int, int]:
    """The ``ggml_type``s that are copied into another layout here, each with what its rows must be a multiple of."""
    features = processor_features()
    types: dict[int, int] = {}
    if "avx2" in features:
        types |= dict.fromkeys((_Q4_0, _Q4_K, _IQ4_NL, _MXFP4), 8)
    if "avx512f" in features:
        types |= {_Q2_K: 8}
    if "amx_int8" in features:
        types |= dict.fromkeys((_Q4_0, _Q4_1, _Q8_0, _Q4_K, _Q5_K, _Q6_K, _IQ4_XS), 32)
    if "asimddp" in features:
        types |= dict.fromkeys((_Q4_0, _IQ4_NL, _MXFP4, _Q8_0), 4) | dict.fromkeys((_Q4_K, _Q5_K, _Q6_K), 8)
    return types


def processor_features() -> frozenset[str]:
    """The processor's instruction sets by Linux's names; elsewhere those that nearly every machine has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset({"asimddp"} if platform.machine().lower() in ("arm64", "aarch64") else {"avx2"})
