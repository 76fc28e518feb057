"""The family's tokenizer: the same ids as SentencePiece, and text back from ids without loss.

SentencePiece itself cuts the text. Around it, three things that it leaves to its caller: a text can
never become a control id, the character U+2581 survives (SentencePiece writes a space as U+2581 and
would give a space back), and ids are decoded one at a time without ever showing half a character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.sentencepiece_model import BYTE, CONTROL, NORMAL, UNKNOWN, read_normaliser, write_model
from chinese_alpaca_rag.family.tokens import StreamDecoder, TokenizerKind, decode_ids, without_surrogates
from chinese_alpaca_rag.language import Words

# How SentencePiece writes a space inside a piece.
_SPACE: Final = "▁"
_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-F]{2})>")

# Pieces of special meaning that some vocabularies hold as ordinary ones: the family's own <pad>, id
# 32000, is of type NORMAL. No text may become one of them.
_SPECIAL_PIECES: Final = frozenset(
    {"<pad>", "[PAD]", "<s>", "</s>", "<unk>", "<mask>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"}
)


class FamilyTokenizer:
    """The tokenizer of a SentencePiece model: see ``tokens.Tokenizer``.

    ``control_ids`` are control pieces, the unknown piece and the padding piece. They decode to
    nothing (the unknown piece to SentencePiece's own `` ⁇ ``).
    """

    kind: TokenizerKind = "sentencepiece"

    def __init__(self, model: bytes, *, bos_id: int | None = None, eos_id: int | None = None) -> None:
        import sentencepiece

        self._prefixed = _check_normaliser(model)
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError, OSError) as problem:
            raise _damaged(str(problem)) from problem
        processor = self._processor
        self.vocabulary_size = int(processor.vocab_size())
        self.bos_id = int(processor.bos_id()) if bos_id is None else bos_id
        self.eos_id = int(processor.eos_id()) if eos_id is None else eos_id
        every = list(range(self.vocabulary_size))
        self._pieces: list[str] = processor.id_to_piece(every)
        self.control_ids: frozenset[int] = frozenset(
            index
            for index, control, unknown in zip(
                every, processor.is_control(every), processor.is_unknown(every), strict=True
            )
            if control or unknown or self._pieces[index] in _SPECIAL_PIECES
        )
        self._unknown_id = int(processor.unk_id())
        self._read_byte_pieces(processor.is_byte(every))
        for name, index in (("BOS", self.bos_id), ("EOS", self.eos_id)):
            if index not in self.control_ids:
                raise _damaged(f"{name} id {index} is no control piece")
        # A model that begins another text has ended its answer too.
        self.end_ids = frozenset({self.eos_id, self.bos_id})
        self.special_ids: Mapping[str, int] = MappingProxyType({self._pieces[i]: i for i in sorted(self.control_ids)})

    def _read_byte_pieces(self, flags: Sequence[bool]) -> None:
        self._byte_values: dict[int, int] = {}
        for index, flag in enumerate(flags):
            named = _BYTE_PIECE.fullmatch(self._pieces[index]) if flag else None
            if named:
                self._byte_values[index] = int(named[1], 16)
        self._byte_ids = {value: index for index, value in self._byte_values.items()}
        if len(self._byte_ids) != 256:
            raise _damaged(f"{len(self._byte_ids)} of 256 byte pieces")

    @classmethod
    def from_file(cls, path: Path | str) -> FamilyTokenizer:
        """The tokenizer in a ``tokenizer.model`` file. Raises ``CheckpointError`` where it is none."""
        try:
            return cls(Path(path).read_bytes())
        except OSError as problem:
            raise _damaged(f"{path}: {problem.strerror or problem}") from problem

    @classmethod
    def from_bytes(cls, model_proto: bytes) -> FamilyTokenizer:
        """The tokenizer in the bytes of a SentencePiece model."""
        return cls(model_proto)

    @classmethod
    def from_pieces(
        cls,
        tokens: Sequence[str],
        scores: Sequence[float],
        types: Sequence[int],
        *,
        add_dummy_prefix: bool = True,
        bos_id: int = 1,
        eos_id: int = 2,
    ) -> FamilyTokenizer:
        """The tokenizer of a GGUF vocabulary: pieces with U+2581 for a space, merge scores, SentencePiece types."""
        if not len(tokens) == len(scores) == len(types):
            raise _damaged(f"{len(tokens)} pieces, {len(scores)} scores, {len(types)} types")
        if any(not NORMAL <= kind <= BYTE for kind in types):
            raise _damaged("a piece of unknown type")
        # Some converters mark <s> and </s> as ordinary pieces; the header's own ids say what they are.
        kinds = list(types)
        for index in (bos_id, eos_id):
            if 0 <= index < len(kinds) and kinds[index] not in (CONTROL, UNKNOWN):
                kinds[index] = CONTROL
        try:
            model = write_model(tokens, scores, kinds, add_dummy_prefix=add_dummy_prefix)
        except (UnicodeEncodeError, OverflowError) as problem:
            raise _damaged(str(problem)) from problem
        return cls(model, bos_id=bos_id, eos_id=eos_id)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, with SentencePiece's dummy prefix and without BOS; never one of ``control_ids``.

        Lone surrogates, which no UTF-8 text holds, become U+FFFD.
        """
        if not text.isascii():
            text = without_surrogates(text)
            if _SPACE in text:
                return self._encode_with_literal_space_mark(text)
        ids: list[int] = self._processor.encode(text)
        return ids if self.control_ids.isdisjoint(ids) else self._spell_out(ids)

    def count(self, text: str) -> int:
        """The number of ids that ``encode`` gives."""
        return len(self.encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``: ``decode(encode(text)) == text``. Bytes that are no UTF-8 become U+FFFD."""
        return decode_ids(self, ids)

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that come one at a time."""
        return StreamDecoder(self)

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of ``text``, and for each the index in ``text`` (characters) at which it ends.

        Where a character is several byte pieces, all of them end after it; a dummy prefix that is a
        piece of its own ends at 0.
        """
        ids = self.encode(text)
        lengths = self._lengths
        ends = list(accumulate(lengths[index] for index in ids))
        if ids and self._prefixed:
            ends = [end - 1 for end in ends]
        return ids, ends

    def spell(self, text: str) -> list[int]:
        """The ids of ``text`` character by character, without dummy prefix: one piece each, or its bytes."""
        return [index for character in without_surrogates(text) for index in self._spell_character(character)]

    def spell_bytes(self, text: str) -> list[int]:
        """The ids of ``text`` byte by byte, without dummy prefix."""
        return [self._byte_ids[value] for value in without_surrogates(text).encode()]

    def _spell_character(self, character: str) -> list[int]:
        index = int(self._processor.piece_to_id(_SPACE if character == " " else character))
        if index in self.control_ids or character == _SPACE:
            return self.spell_bytes(character)
        return [index]

    def _spell_out(self, ids: Iterable[int]) -> list[int]:
        """``ids`` with every control id replaced by the characters of its piece."""
        return [
            spelt
            for index in ids
            for spelt in (
                [index] if index not in self.control_ids else self.spell(self._pieces[index].replace(_SPACE, " "))
            )
        ]

    def _encode_with_literal_space_mark(self, text: str) -> list[int]:
        """Encode a text that holds U+2581 itself: a character of no piece takes its place, then its bytes are put."""
        stand_in = next(
            character
            for character in map(chr, range(0xE000, 0xF900))
            if character not in text and character not in self._characters
        )
        ids = self.encode(text.replace(_SPACE, stand_in))
        wanted = self.spell_bytes(_SPACE)
        found = self.spell_bytes(stand_in)
        position = 0
        while position <= len(ids) - 3:
            if ids[position : position + 3] == found:
                ids[position : position + 3] = wanted
            position += 1
        return ids

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset().union(*self._pieces)

    @cached_property
    def _lengths(self) -> list[int]:
        """Characters that each piece adds: a continuation byte adds none to the character that it ends."""
        lengths = [0 if index in self.control_ids else len(piece) for index, piece in enumerate(self._pieces)]
        for index, value in self._byte_values.items():
            lengths[index] = 0 if 0x80 <= value < 0xC0 else 1
        return lengths

    @cached_property
    def piece_bytes(self) -> list[bytes]:
        """What each id decodes to, in UTF-8 bytes."""
        values = [
            b"" if index in self.control_ids else piece.replace(_SPACE, " ").encode()
            for index, piece in enumerate(self._pieces)
        ]
        for index, value in self._byte_values.items():
            values[index] = bytes([value])
        values[self._unknown_id] = " ⁇ ".encode()
        return values

    def starts_with_space(self, index: int) -> bool:
        """Whether the piece ``index`` starts with a space that may be the dummy prefix."""
        return self._prefixed and self._pieces[index].startswith(_SPACE)


def _check_normaliser(model: bytes) -> bool:
    """Whether a dummy prefix is added. Raises ``CheckpointError`` for a model that rewrites its text."""
    try:
        normaliser = read_normaliser(model)
    except ValueError as problem:
        raise _damaged(str(problem)) from problem
    if normaliser.rewrites or normaliser.remove_extra_whitespaces or not normaliser.escape_whitespaces:
        raise CheckpointError(
            Words(
                zh="这个分词器会改写文本（规范化或合并空格），不属于本模型家族。",
                en="This tokenizer rewrites its text (normalises, or squeezes spaces): it is not one of the family's.",
            ),
            hint=Words(zh="请使用模型自带的 tokenizer.model。", en="Use the tokenizer.model that came with the model."),
        )
    return normaliser.add_dummy_prefix


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"分词器无法使用：{reason}", en=f"The tokenizer cannot be used: {reason}"),
        hint=Words(
            zh="请重新下载模型的 tokenizer.model 或 GGUF 文件。",
            en="Fetch the model's tokenizer.model or GGUF file again.",
        ),
    )
