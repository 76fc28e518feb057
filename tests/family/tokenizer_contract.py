"""What every tokenizer of the family does, whichever way it cuts its text."""

from __future__ import annotations

import re
import time
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.family.tokens import Tokenizer
from tests.family.vocabularies import any_named

# Text of every kind, with more of what could go wrong than chance would give.
FRAGMENTS = [
    "▁",
    "▁▁",
    " ",
    "  ",
    "\x00",
    "\n",
    "\t",
    "😀",
    "👨‍👩‍👧",
    "</s>",
    "<s>",
    "<unk>",
    "<pad>",
    "<0x41>",
    "⁇",
    "�",
]
FRAGMENTS += ["<|eot_id|>", "<|", "|>", "\ud800", "\udc00", "'s", "12345", "\r\n", "知识库", "\x1c", "\u0085"]
FRAGMENTS += ["\ue000", "\ue001", "年假", "有", "the", "[INST]", "e\u0301", "\u200b", "ﬁ", "Ａ", "　", "𠮷", "\u202e"]
# All that a Python string can hold, lone surrogates included.
ANY = st.characters(exclude_categories=())
TEXT = st.one_of(
    st.text(ANY), st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(ANY, max_size=3)), max_size=12).map("".join)
)

# Each subclass runs the same functions.
inherited = settings(suppress_health_check=[HealthCheck.differing_executors])


def shown(text: str) -> str:
    """``text`` as a model is shown it: a lone surrogate is no character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


class TokenizerContract:
    """A subclass says in ``name`` which tokenizer is tested."""

    name: ClassVar[str]

    @property
    def tokenizer(self) -> Tokenizer:
        return any_named(self.name)

    @inherited
    @given(text=TEXT)
    def test_text_comes_back(self, text: str) -> None:
        ids = self.tokenizer.encode(text)
        assert self.tokenizer.decode(ids) == shown(text)
        assert self.tokenizer.control_ids.isdisjoint(ids)
        assert self.tokenizer.count(text) == len(ids)

    @inherited
    @given(text=TEXT)
    def test_spelt_text_comes_back(self, text: str) -> None:
        for ids in (self.tokenizer.spell(text), self.tokenizer.spell_bytes(text)):
            assert b"".join(self.tokenizer.piece_bytes[index] for index in ids).decode() == shown(text)
            assert self.tokenizer.control_ids.isdisjoint(ids)

    @inherited
    @given(text=TEXT)
    def test_ends_mark_every_character(self, text: str) -> None:
        tokenizer = self.tokenizer
        ids, ends = tokenizer.encode_with_ends(text)
        assert ids == tokenizer.encode(text)
        assert ends == sorted(ends)
        assert (ends[-1] if ends else 0) == len(text)
        decoder = tokenizer.stream_decoder()
        whole = ""
        for index, end in zip(ids, ends, strict=True):
            whole += decoder.push(index)
            # What is begun and not whole yet is one character at most.
            assert len(whole) in (end, end - 1)
            assert shown(text).startswith(whole)

    def test_lone_surrogates_become_replacement_characters(self) -> None:
        assert self.tokenizer.decode(self.tokenizer.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd"

    @inherited
    @given(ids=st.lists(st.integers(-3, 1100), max_size=40))
    def test_streaming_joins_to_the_whole_and_never_fails(self, ids: list[int]) -> None:
        decoder = self.tokenizer.stream_decoder()
        parts = [*map(decoder.push, ids), decoder.finish()]
        assert "".join(parts) == self.tokenizer.decode(ids)

    @inherited
    @given(text=TEXT)
    def test_streaming_gives_whole_characters(self, text: str) -> None:
        decoder = self.tokenizer.stream_decoder()
        whole = ""
        for index in self.tokenizer.encode(text):
            whole += decoder.push(index)
            assert shown(text).startswith(whole)
        assert decoder.finish() == ""
        assert whole == shown(text)

    def test_broken_bytes_become_replacement_characters(self) -> None:
        first, second, third = self.tokenizer.spell_bytes("好")
        (letter,) = self.tokenizer.spell("a")
        decoder = self.tokenizer.stream_decoder()
        assert [decoder.push(index) for index in (first, second, letter)] == ["", "", "\ufffda"]
        assert [decoder.push(index) for index in (first, second, third)] == ["", "", "好"]
        assert decoder.push(first) == ""
        assert decoder.finish() == "\ufffd"

    def test_ids_that_are_no_text_decode_to_nothing(self) -> None:
        tokenizer = self.tokenizer
        unknown = tokenizer.special_ids.get("<unk>")
        control = [index for index in tokenizer.control_ids if index != unknown]
        assert tokenizer.decode([*control, tokenizer.vocabulary_size, 10**9, -1]) == ""
        assert len(tokenizer.piece_bytes) == tokenizer.vocabulary_size

    def test_what_begins_and_ends_a_text_is_a_control_id(self) -> None:
        tokenizer = self.tokenizer
        assert {tokenizer.bos_id, tokenizer.eos_id} <= tokenizer.end_ids <= tokenizer.control_ids
        assert set(tokenizer.special_ids.values()) == tokenizer.control_ids

    def test_a_long_text_is_encoded_in_no_time(self) -> None:
        text = "本公司员工每年享有年假。▁🙂 The report. " * 20_000
        start = time.perf_counter()
        ids, ends = self.tokenizer.encode_with_ends(text)
        assert time.perf_counter() - start < 5.0  # 640,000 characters; some tenths of a second here
        assert ends[-1] == len(text)
        assert self.tokenizer.decode(ids) == text
