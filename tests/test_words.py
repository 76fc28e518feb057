"""Text made comparable, and its pieces."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.script import comparable, simplified
from chinese_alpaca_rag.words import Piece, is_chinese, pieces, plain, word_forms


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("臺灣的員工手冊", "台湾的员工手册"),
        ("發展與頭髮", "发展与头发"),
        ("著作、看著", "着作、看着"),
        ("什麼", "什么"),
        ("已经是简体", "已经是简体"),
        ("plain ASCII", "plain ASCII"),
    ],
)
def test_script(text: str, folded: str) -> None:
    assert simplified(text) == folded


@given(st.text())
def test_script_folding_keeps_offsets_and_is_done_at_once(text: str) -> None:
    once = simplified(text)
    assert len(once) == len(text)
    assert simplified(once) == once


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＡＢＣ１２３", "abc123"),
        ("Straße", "strasse"),
        ("ﬁ", "fi"),
        ("ｶﾞ", "ガ"),
        ("員\u200b工", "员工"),
        ("，：", ",:"),
    ],
)
def test_comparable(text: str, folded: str) -> None:
    assert comparable(text) == folded


@given(st.text())
def test_comparable_text_is_normal_and_stays_as_it_is(text: str) -> None:
    folded = comparable(text)
    assert unicodedata.is_normalized("NFKC", folded)
    assert comparable(comparable(folded)) == comparable(folded)


def test_pieces_and_whether_they_touch() -> None:
    assert list(pieces(plain("满10年，价1,200元 ZX-200。"))) == [
        Piece("满", "", False),
        Piece("", "10", True),
        Piece("年", "", True),
        Piece("价", "", False),
        Piece("", "1200", True),
        Piece("元", "", True),
        Piece("", "zx-200", False),
    ]


def test_forms_of_a_word() -> None:
    assert word_forms("zx-200") == ["zx-200", "zx", "200"]
    assert word_forms("05") == ["05", "5"]
    assert word_forms("policies") == ["policy"]
    assert word_forms("glass") == ["glass"]


@given(st.text(max_size=40))
def test_pieces_are_of_one_kind(text: str) -> None:
    for run, word, _ in pieces(plain(text)):
        assert bool(run) != bool(word)
        assert all(map(is_chinese, run))
        assert not any(map(is_chinese, word))
