"""What the rest of the kit needs of a tokenizer, whichever way it cuts its text.

Two kinds fulfil it: ``FamilyTokenizer`` (SentencePiece: the first and second generation, Ziya2) and
``BytePairTokenizer`` (the third generation).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

TokenizerKind = Literal["sentencepiece", "byte-pair"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Tokenizer(Protocol):
    """Text to ids and back. A tokenizer holds no state between calls and may be shared by threads."""

    @property
    def kind(self) -> TokenizerKind:
        """How text is cut, which decides the templates that go with it."""

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, control ids included; they are 0 to this, exclusive."""

    @property
    def bos_id(self) -> int:
        """The id that begins every prompt."""

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Every id that ends an answer when the model chooses it."""

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids that no text can become."""

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The control ids by the pieces they stand for (``</s>``, ``<|eot_id|>``)."""

    @property
    def piece_bytes(self) -> Sequence[bytes]:
        """What each id decodes to, in UTF-8 bytes; nothing for control ids but an unknown piece."""

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` without BOS; never one of ``control_ids``. Lone surrogates become U+FFFD."""

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of ``text``, and for each the index in ``text`` (characters) at which it ends.

        Where a character is spread over several pieces, all of them end after it.
        """

    def count(self, text: str) -> int:
        """The number of ids that ``encode`` gives."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``: ``decode(encode(text)) == text``. Bytes that are no UTF-8 become U+FFFD."""

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that come one at a time."""

    def spell(self, text: str) -> list[int]:
        """The ids of ``text`` character by character, without dummy prefix: one piece each, or its bytes."""

    def spell_bytes(self, text: str) -> list[int]:
        """The ids of ``text`` byte by byte, without dummy prefix."""

    def starts_with_space(self, index: int) -> bool:
        """Whether the piece ``index`` starts with a space that may be the dummy prefix."""


class StreamDecoder:
    """Ids in, whole characters out. What ``push`` and ``finish`` return joins to what ``decode`` returns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._piece_bytes = tokenizer.piece_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True

    def push(self, token_id: int) -> str:
        """The characters that ``token_id`` completes; an id that the vocabulary does not hold adds none."""
        # A model's last layer may be padded beyond its vocabulary.
        if not 0 <= token_id < len(self._piece_bytes):
            return ""
        value = self._piece_bytes[token_id]
        if self._at_start and value:
            self._at_start = False
            if self._tokenizer.starts_with_space(token_id):
                value = value[1:]
        return self._decoder.decode(value)

    def finish(self) -> str:
        """What is left when no more ids come: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", True)


def decode_ids(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """``Tokenizer.decode`` by way of its stream decoder, so that streaming cannot give another text."""
    decoder = tokenizer.stream_decoder()
    return "".join([*map(decoder.push, ids), decoder.finish()])


def without_surrogates(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which no UTF-8 text holds; as many characters as before."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
