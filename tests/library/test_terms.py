from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.library.terms import index_terms, index_words, query_terms
from chinese_alpaca_rag.words import LONGEST_WORD, is_chinese


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("年假", ["年", "假", "年假"]),
        ("年假有15天。", ["年", "假", "有", "年假", "假有", "15", "天"]),
        ("年，假", ["年", "假"]),
        ("𠮷野家", ["𠮷", "野", "家", "𠮷野", "野家"]),
        ("〇八", ["〇", "八", "〇八"]),
        ("ﾃｽﾄ", ["テ", "ス", "ト", "テス", "スト"]),
        ("휴가", ["휴", "가", "휴가"]),
        ("ＺＸ－２００", ["zx-200", "zx", "200"]),
        ("ZX-200", ["zx-200", "zx", "200"]),
        ("3.14", ["3.14"]),
        ("1,234,567.89元", ["1234567.89", "元"]),
        ("15，200", ["15", "200"]),
        ("2023-05-01", ["2023-05-01", "2023", "5", "1"]),
        ("2023年5月1日", ["2023", "年", "5", "月", "1", "日"]),
        ("user@example.com", ["user@example.com", "user", "example", "com"]),
        ("C++、C#、C", ["c++", "c", "c#", "c", "c"]),
        ("gb18030", ["gb18030", "gb", "18030"]),
        ("Employees' policies", ["employee", "policy"]),
        ("Café CAFE", ["cafe", "cafe"]),
        ("Straße", ["strasse"]),
        ("Йод йод", ["йод", "йод"]),
        ("don’t don't", ["don't", "don", "t", "don't", "don", "t"]),
        ("soft\u00adware 员\u200b工", ["software", "员", "工", "员工"]),
        ("員工手冊", ["员", "工", "手", "册", "员工", "工手", "手册"]),
        ("…… — 「」", []),
        ("", []),
    ],
)
def test_terms_of_a_text(text: str, terms: list[str]) -> None:
    assert index_terms(text) == terms


def test_parts_lead_from_one_way_of_writing_a_date_to_another() -> None:
    assert {"2023", "5", "1"} <= set(index_terms("2023-05-01")) & set(index_terms("2023年5月1日"))


def test_a_long_word_stays_one_short_term() -> None:
    one, other = (index_terms("a" * 5000 + end)[0] for end in "bc")
    assert len(one) == len(other) == LONGEST_WORD
    assert one != other


def test_question_words_are_no_terms() -> None:
    assert query_terms("年假有多少天？") == query_terms("年假有，天")
    assert query_terms("What is the price of ZX-200?") == ["price", "zx-200", "zx", "200"]
    assert query_terms("公司的名字是什么") == query_terms("公司，名字是")


def test_words_that_hold_a_question_word_stay() -> None:
    assert "目的" in query_terms("目的")
    assert "哪咤" in query_terms("哪吒是谁")


def test_a_question_of_question_words_alone_keeps_them() -> None:
    assert "什么" in query_terms("什么？")
    assert query_terms("的") == ["的"]


def test_query_terms_are_different_from_each_other() -> None:
    assert query_terms("天天天天 a a A") == ["天", "天天", "a"]


@given(st.text())
def test_terms_are_plain_tokens(text: str) -> None:
    for term in index_terms(text):
        assert term
        assert not any(character.isspace() or character in '"\0' for character in term)


@given(st.text(alphabet=st.sampled_from("年假天國国Aaé15.-,， \n“"), max_size=40))
def test_the_words_are_the_terms_that_are_no_chinese(text: str) -> None:
    assert index_words(text) == [term for term in index_terms(text) if not is_chinese(term)]


@given(st.text(alphabet="一二三四五六七八", max_size=30))
def test_a_run_gives_each_character_and_each_pair_once(text: str) -> None:
    pairs = [text[start : start + 2] for start in range(len(text) - 1)]
    assert Counter(index_terms(text)) == Counter([*text, *pairs])


@given(st.text(max_size=60))
def test_every_query_term_is_an_index_term_of_the_same_text(text: str) -> None:
    # Taking a question word away may join nothing: what is left and right of it stays apart.
    assert set(query_terms(text)) <= set(index_terms(text))
