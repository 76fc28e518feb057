"""The tokenizer in a checkpoint's own files: ``tokenizer.model``, ``tokenizer.json``, or a GGUF vocabulary."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.byte_pair import BytePairTokenizer
from chinese_alpaca_rag.family.gguf_header import GgufHeader, read_gguf_header
from chinese_alpaca_rag.family.sentencepiece_model import BYTE, CONTROL, NORMAL, UNKNOWN
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.family.tokens import Tokenizer, TokenizerKind
from chinese_alpaca_rag.language import Words

_FILES: Final[dict[TokenizerKind, str]] = {"sentencepiece": "tokenizer.model", "byte-pair": "tokenizer.json"}
_GGUF_KINDS: Final[dict[object, TokenizerKind]] = {"llama": "sentencepiece", "gpt2": "byte-pair"}
_NAMES: Final[dict[TokenizerKind, str]] = {"sentencepiece": "SentencePiece", "byte-pair": "Llama-3 BPE"}

_TOKENS: Final = "tokenizer.ggml.tokens"
_SCORES: Final = "tokenizer.ggml.scores"
_TYPES: Final = "tokenizer.ggml.token_type"
_MERGES: Final = "tokenizer.ggml.merges"


def folder_tokenizer(folder: Path, kind: TokenizerKind) -> Tokenizer:
    """The tokenizer of a transformers folder. Raises ``CheckpointError`` where it holds none of ``kind``."""
    file = folder / _FILES[kind]
    if not file.is_file():
        raise _missing(folder, kind)
    return FamilyTokenizer.from_file(file) if kind == "sentencepiece" else BytePairTokenizer.from_file(file)


def gguf_tokenizer(file: Path, kind: TokenizerKind) -> Tokenizer:
    """The tokenizer in the head of a GGUF file. Raises ``CheckpointError`` where it is not of ``kind``."""
    header = read_gguf_header(file, arrays=(_TOKENS, _SCORES, _TYPES, _MERGES))
    if _GGUF_KINDS.get(header.values.get("tokenizer.ggml.model")) != kind:
        raise _missing(file, kind)
    try:
        return _sentencepiece(header) if kind == "sentencepiece" else _byte_pair(header)
    except (
        TypeError,
        ValueError,
        OverflowError,
    ) as problem:  # a list of numbers where texts belong, or the other way round
        raise _missing(file, kind) from problem


def _sentencepiece(header: GgufHeader) -> FamilyTokenizer:
    tokens = [str(token) for token in header.arrays.get(_TOKENS, [])]
    types = [int(kind) for kind in header.arrays.get(_TYPES, [])] or _types_by_name(tokens)
    return FamilyTokenizer.from_pieces(
        tokens,
        [float(score) for score in header.arrays.get(_SCORES, [])],
        types,
        add_dummy_prefix=bool(header.values.get("tokenizer.ggml.add_space_prefix", True)),
        bos_id=int(header.values.get("tokenizer.ggml.bos_token_id", 1)),
        eos_id=int(header.values.get("tokenizer.ggml.eos_token_id", 2)),
    )


def _byte_pair(header: GgufHeader) -> BytePairTokenizer:
    bos_id, eos_id = (header.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    pre_tokenizer = header.values.get("tokenizer.ggml.pre")
    return BytePairTokenizer.from_pieces(
        [str(token) for token in header.arrays.get(_TOKENS, [])],
        [str(merge) for merge in header.arrays.get(_MERGES, [])],
        [int(kind) for kind in header.arrays.get(_TYPES, [])],
        pre_tokenizer=None if pre_tokenizer is None else str(pre_tokenizer),
        bos_id=None if bos_id is None else int(bos_id),
        eos_id=None if eos_id is None else int(eos_id),
    )


def _types_by_name(tokens: list[str]) -> list[int]:
    """The types of a vocabulary that gives none, as the first converters wrote them."""
    named = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    return [BYTE if re.fullmatch(r"<0x[0-9A-F]{2}>", token) else named.get(token, NORMAL) for token in tokens]


def _missing(path: Path, kind: TokenizerKind) -> CheckpointError:
    name, file = _NAMES[kind], _FILES[kind]
    return CheckpointError(
        Words(
            zh=f"{path.name} 没有 {name} 分词器（{file}）。",
            en=f"{path.name} holds no {name} tokenizer ({file}).",
        ),
        hint=Words(
            zh=f"请把模型自带的 {file} 放进该目录，或重新下载其 GGUF 文件。",
            en=f"Put the {file} that came with the model into the folder, or fetch its GGUF file again.",
        ),
    )
