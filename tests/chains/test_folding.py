from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.chains.folding import fold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ＺＸ－２００", "zx-200"),
        ("“年假”", '"年假"'),
        ("「年假」", "“年假”"),
        ("年 假\n15 天", "年假15天"),
        ("annual\n  leave", "Annual leave"),
        ("【1】", "[1]"),
        ("《手册》", "<手册>"),
        ("A、B", "A,B"),
        ("年\u200b假\ufeff", "年假"),
        ("e\u0301te\u0301", "été"),
        ("**15天**年假", "15天年假"),
        ("ﬁle", "file"),
        ("……", "......"),
        ("㎡", "m2"),
        ("合同——附件", "合同--附件"),
        ("臺灣辦事處的頭髮", "台湾办事处的头发"),
    ],
)
def test_what_says_the_same_folds_the_same(one: str, other: str) -> None:
    assert fold(one).text == fold(other).text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 5天", "15天"),
        ("1. 5天", "1.5天"),
        ("1, 000", "1,000"),
        ("10²", "102"),
        ("an nual", "annual"),
        ("5**3", "53"),
        ("-5", "5"),
        ("50%", "50‰"),
        ("不享有", "享有"),
        ("3.5", "35"),
    ],
)
def test_what_says_something_else_does_not(one: str, other: str) -> None:
    assert fold(one).text != fold(other).text


@given(st.text(alphabet=st.characters()) | st.text(alphabet="年假5 .e\u0301ﬁ½ǅ㎡“*\n\u200bがガ한\ud800", max_size=30))
def test_every_folded_character_knows_where_it_comes_from(original: str) -> None:
    folded = fold(original)
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert all(0 <= start < end <= len(original) for start, end in zip(folded.starts, folded.ends, strict=True))
    assert list(folded.starts) == sorted(folded.starts)
    assert list(folded.ends) == sorted(folded.ends)
    # Nothing that shows is lost: what lies outside all stretches is space, invisible or Markdown's mark.
    covered = {i for start, end in zip(folded.starts, folded.ends, strict=True) for i in range(start, end)}
    for position, character in enumerate(original):
        assert (
            position in covered
            or character.isspace()
            or character == "*"
            or unicodedata.category(character) in ("Cf", "Cc", "Mn", "Lo", "Zl", "Zp")
        )
