"""The third generation's tokenizer: Llama-3's byte-level BPE, from ``tokenizer.json`` or a GGUF vocabulary.

The package ``tokenizers`` cuts the text, over a vocabulary that is handed to it without the special
pieces: whatever stands in a text, none of them can come of it. Of ``tokenizer.json`` nothing is taken on
trust: a file that cuts text otherwise than Llama-3 does is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError
from chinese_alpaca_rag.family.sentencepiece_model import BYTE, NORMAL
from chinese_alpaca_rag.family.tokens import StreamDecoder, TokenizerKind, decode_ids, without_surrogates
from chinese_alpaca_rag.language import Words

# Llama-3's own (``llama3/tokenizer.py``): the words that pieces are merged in.
WORDS_REGEX: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)

BEGIN_OF_TEXT: Final = "<|begin_of_text|>"
END_OF_TEXT: Final = "<|end_of_text|>"
START_HEADER: Final = "<|start_header_id|>"
END_HEADER: Final = "<|end_header_id|>"
END_OF_TURN: Final = "<|eot_id|>"
_END_OF_MESSAGE: Final = "<|eom_id|>"  # Llama 3.1 and later
_NEEDED: Final = (BEGIN_OF_TEXT, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN)

# GGUF's names for the regular expression above; the first converters wrote none.
_GGUF_PRE_TOKENIZERS: Final = frozenset({None, "llama-bpe", "llama3", "llama-v3"})

# Llama-3's own program encodes a longer text in stretches of this many characters: regular expressions
# have limits, and a few million spaces would end the process.
_LONGEST_STRETCH: Final = 400_000
_LARGEST_FILE: Final = 64 * 1024 * 1024

# What ``tokenizer.json`` may say of its model beside vocabulary and merges.
_MODEL_SETTINGS: Final[dict[str, tuple[object, ...]]] = {
    "type": ("BPE",),
    "dropout": (None, 0, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, False, True),  # without an unknown piece it says nothing
    "byte_fallback": (None, False),
    "ignore_merges": (None, True),  # files older than the setting leave it out
}


class BytePairTokenizer:
    """Llama-3's tokenizer: see ``tokens.Tokenizer``.

    ``pieces`` are in order of their ids, written in GPT-2's alphabet for bytes; ``merges`` are pairs of
    pieces, most wanted first; ``control_ids`` are the special pieces, which decode to nothing. Raises
    ``CheckpointError`` for a vocabulary that is damaged or not Llama-3's, ``MissingExtraError`` without
    the package ``tokenizers``.
    """

    kind: TokenizerKind = "byte-pair"

    def __init__(self, pieces: Sequence[str], merges: Sequence[tuple[str, str]], control_ids: Iterable[int]) -> None:
        self.vocabulary_size = len(pieces)
        self.control_ids = frozenset(control_ids)
        self.special_ids: Mapping[str, int] = MappingProxyType(
            {pieces[index]: index for index in sorted(self.control_ids)}
        )
        for name in _NEEDED:
            if name not in self.special_ids:
                raise _foreign(f"没有特殊词元 {name}", f"the special piece {name} is missing")
        self.bos_id = self.special_ids[BEGIN_OF_TEXT]
        self.eos_id = self.special_ids[END_OF_TEXT]
        ends = (BEGIN_OF_TEXT, END_OF_TEXT, END_OF_TURN, _END_OF_MESSAGE)
        self.end_ids = frozenset(self.special_ids[name] for name in ends if name in self.special_ids)
        ordinary = {piece: index for index, piece in enumerate(pieces) if index not in self.control_ids}
        if len(ordinary) + len(self.special_ids) != len(pieces):
            raise _damaged("a piece that stands twice")
        self.piece_bytes = [
            b"" if index in self.control_ids else _bytes_of(piece) for index, piece in enumerate(pieces)
        ]
        self._byte_ids = [ordinary.get(character, -1) for character in _BYTE_CHARACTERS]
        if -1 in self._byte_ids:
            raise _damaged(f"{256 - self._byte_ids.count(-1)} of 256 byte pieces")
        if not merges:
            raise _damaged("no merges")
        for left, right in merges:
            if left not in ordinary or right not in ordinary or left + right not in ordinary:
                raise _damaged(f"the merge {left[:40]!r} {right[:40]!r} is of no pieces")
        self._encoder = _build_encoder(ordinary, merges)

    @classmethod
    def from_file(cls, path: Path | str) -> BytePairTokenizer:
        """The tokenizer in a ``tokenizer.json`` file. Raises ``CheckpointError`` where it is none of Llama-3's."""
        content = _read_json(Path(path))
        model = _checked_model(content)
        vocabulary: Any = model.get("vocab")
        added = content.get("added_tokens") or []
        try:
            names = {int(token["id"]): str(token["content"]) for token in added}
            pieces = {int(index): str(piece) for piece, index in vocabulary.items()} | names
            merges = [_pair(merge) for merge in model["merges"]]
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise _damaged(f"{type(problem).__name__}: {str(problem)[:80]}") from problem
        listed = set(vocabulary) | set(names.values())
        if sorted(pieces) != list(range(len(pieces))) or len(listed) != len(pieces) or len(names) != len(added):
            raise _damaged("ids that are not one after another, or one id of two pieces")
        return cls([pieces[index] for index in range(len(pieces))], merges, names)

    @classmethod
    def from_pieces(
        cls,
        tokens: Sequence[str],
        merges: Sequence[str],
        types: Sequence[int],
        *,
        pre_tokenizer: str | None = "llama-bpe",
        bos_id: int | None = None,
        eos_id: int | None = None,
    ) -> BytePairTokenizer:
        """The tokenizer of a GGUF vocabulary: pieces, merges as two pieces with a space between, GGUF's types.

        ``pre_tokenizer`` is what the file says under ``tokenizer.ggml.pre``. ``bos_id`` and ``eos_id``, where
        given, are checked against what the pieces' names say.
        """
        if pre_tokenizer not in _GGUF_PRE_TOKENIZERS:
            raise _foreign(f"预分词方式是 {pre_tokenizer}", f"its pre-tokenizer is {pre_tokenizer}")
        if len(tokens) != len(types):
            raise _damaged(f"{len(tokens)} pieces, {len(types)} types")
        if any(not NORMAL <= kind < BYTE for kind in types):
            raise _damaged("a piece of unknown type")
        try:
            pairs = [_pair(merge) for merge in merges]
        except ValueError as problem:
            raise _damaged(str(problem)) from problem
        tokenizer = cls(tokens, pairs, [index for index, kind in enumerate(types) if kind != NORMAL])
        if bos_id not in (None, tokenizer.bos_id) or (eos_id is not None and eos_id not in tokenizer.end_ids):
            raise _damaged(f"BOS id {bos_id} and EOS id {eos_id} are other pieces")
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` without BOS; never one of ``control_ids``. Lone surrogates become U+FFFD.

        A text of more than 400,000 characters is encoded in stretches of as many, as Llama-3's own program does.
        """
        text = without_surrogates(text)
        ids: list[int] = []
        for start in range(0, len(text), _LONGEST_STRETCH):
            ids += self._encoder.encode(text[start : start + _LONGEST_STRETCH], add_special_tokens=False).ids
        return ids

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """See ``tokens.Tokenizer``. A piece that begins a character ends after it, though others complete it."""
        ids = self.encode(text)
        lengths = self._lengths
        return ids, list(accumulate(lengths[index] for index in ids))

    def count(self, text: str) -> int:
        """The number of ids that ``encode`` gives."""
        return len(self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``: ``decode(encode(text)) == text``. Bytes that are no UTF-8 become U+FFFD."""
        return decode_ids(self, ids)

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that come one at a time."""
        return StreamDecoder(self)

    def spell(self, text: str) -> list[int]:
        """The ids of ``text`` character by character: one piece each, or its bytes."""
        whole = self._ids_by_bytes
        ids: list[int] = []
        for character in without_surrogates(text):
            index = whole.get(character.encode())
            ids += self.spell_bytes(character) if index is None else [index]
        return ids

    def spell_bytes(self, text: str) -> list[int]:
        """The ids of ``text`` byte by byte."""
        return [self._byte_ids[value] for value in without_surrogates(text).encode()]

    def starts_with_space(self, index: int) -> bool:
        """Never: there is no dummy prefix."""
        return False

    @cached_property
    def _lengths(self) -> list[int]:
        """Characters that each piece begins: a continuation byte begins none."""
        return [sum(byte & 0xC0 != 0x80 for byte in value) for value in self.piece_bytes]

    @cached_property
    def _ids_by_bytes(self) -> dict[bytes, int]:
        return {value: index for index, value in enumerate(self.piece_bytes) if value}


def _gpt2_alphabet() -> list[str]:
    """The character that stands for each byte: itself where it can be seen, otherwise one from U+0100 on."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]


_BYTE_CHARACTERS: Final = _gpt2_alphabet()
_BYTES_BY_CHARACTER: Final = {character: byte for byte, character in enumerate(_BYTE_CHARACTERS)}


def _bytes_of(piece: str) -> bytes:
    try:
        value = bytes([_BYTES_BY_CHARACTER[character] for character in piece])
    except KeyError as problem:
        raise _damaged(f"the piece {piece[:40]!r} is not written in bytes") from problem
    if not value:
        raise _damaged("an empty piece")
    return value


def _build_encoder(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Any:
    """A ``tokenizers.Tokenizer`` with Llama-3's rules over ``vocabulary``, which holds no special piece."""
    try:
        from tokenizers import Regex, Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    except ImportError as problem:
        raise MissingExtraError.for_package("tokenizers", "endpoint") from problem

    # A word that is a piece is that piece, whatever the merges would make of it.
    encoder = Tokenizer(BPE(vocab=dict(vocabulary), merges=list(merges), ignore_merges=True))
    encoder.pre_tokenizer = Sequence(
        [Split(Regex(WORDS_REGEX), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return encoder


def _pair(merge: object) -> tuple[str, str]:
    """A merge in the old spelling, one text with a space, or the new, a list of two. Raises ``ValueError``."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"a merge that is no pair: {str(merge)[:40]!r}")
    return parts[0], parts[1]


def _checked_model(content: Mapping[str, Any]) -> dict[str, Any]:
    """The model in ``tokenizer.json``. Raises ``CheckpointError`` where it cuts text otherwise than Llama-3 does."""
    model = content.get("model")
    if not isinstance(model, dict):
        raise _damaged("no model in it")
    for key, value in model.items():
        if key not in ("vocab", "merges") and value not in _MODEL_SETTINGS.get(key, ()):
            raise _foreign(f"{key} 为 {str(value)[:40]}", f"its {key} is {str(value)[:40]}")
    if model.get("type") != "BPE":
        raise _foreign("类型不是 BPE", "its type is not BPE")
    if content.get("normalizer") is not None:
        raise _foreign("它会改写文本", "it rewrites its text (normalizer)")
    if not _cuts_as_llama_3(content.get("pre_tokenizer")):
        raise _foreign("切词规则不同", "its pre-tokenizer cuts text at other places")
    return model


def _cuts_as_llama_3(pre_tokenizer: object) -> bool:
    steps = pre_tokenizer.get("pretokenizers") if isinstance(pre_tokenizer, dict) else None
    if not isinstance(steps, list) or len(steps) != 2 or not all(isinstance(step, dict) for step in steps):
        return False
    split, byte_level = steps
    return (
        split.get("type") == "Split"
        and split.get("pattern") == {"Regex": WORDS_REGEX}
        and split.get("behavior") == "Isolated"
        and not split.get("invert")
        and byte_level.get("type") == "ByteLevel"
        and byte_level.get("add_prefix_space") is False
        and byte_level.get("use_regex") is False
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise _damaged(f"{file.name} is larger than {_LARGEST_FILE:,} bytes")
        content = json.loads(file.read_bytes())
    except OSError as problem:
        raise _damaged(f"{file}: {problem.strerror or problem}") from problem
    except (ValueError, RecursionError) as problem:
        raise _damaged(f"{file.name} is no JSON") from problem
    if not isinstance(content, dict):
        raise _damaged(f"{file.name} is no JSON object")
    return content


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"分词器无法使用：{reason}", en=f"The tokenizer cannot be used: {reason}"),
        hint=Words(
            zh="请重新下载模型的 tokenizer.json 或 GGUF 文件。",
            en="Fetch the model's tokenizer.json or GGUF file again.",
        ),
    )


def _foreign(zh: str, en: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"这个分词器不是 Llama-3 的：{zh}。", en=f"This tokenizer is not Llama-3's: {en}."),
        hint=Words(
            zh="请使用模型自带的 tokenizer.json（与 Meta-Llama-3-8B 的相同）或其 GGUF 版本。",
            en="Use the tokenizer.json that came with the model (that of Meta-Llama-3-8B), or its GGUF form.",
        ),
    )
