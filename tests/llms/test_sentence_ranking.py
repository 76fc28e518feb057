from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.numerals import chinese_number, numbers_in
from chinese_alpaca_rag.llms.question_form import look_at
from chinese_alpaca_rag.llms.sentence_features import (
    LONGEST_QUOTE,
    LONGEST_STRETCH,
    QuestionFeatures,
    quotable_spans,
    sentences_of,
    terms_of,
)
from chinese_alpaca_rag.llms.sentence_ranking import WEIGHTS, rank_sentences
from chinese_alpaca_rag.words import plain


@pytest.mark.parametrize(
    ("numeral", "value"),
    [
        ("十", 10),
        ("十五", 15),
        ("二十三", 23),
        ("一百二十", 120),
        ("一千零一", 1001),
        ("两千", 2000),
        ("三万五千", 35_000),
        ("百万", 1_000_000),
        ("一亿二千万", 120_000_000),
        ("一万亿", 10**12),
        ("二〇二四", 2024),
        ("零", 0),
    ],
)
def test_chinese_numbers(numeral: str, value: int) -> None:
    assert chinese_number(numeral) == value


@given(st.text(alphabet="零〇一二两三四五六七八九十百千万亿", min_size=1, max_size=30))
def test_any_row_of_numerals_has_a_value(numeral: str) -> None:
    assert chinese_number(numeral) >= 0


def test_numbers_in_a_text() -> None:
    assert [number for number, _ in numbers_in("满10年和满十年，1,234.5元，第三章，一些，zx-200")] == [
        "10",
        "1234.5",
        "10",
        "3",
    ]


def test_marks_are_numbers_and_codes() -> None:
    assert terms_of(plain("ZX-200E 和 E22，满十年 3.5%"))[2] == {"zx-200e", "e22", "10", "3.5"}


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("公司哪一年成立？", {"time", "thing"}),
        ("年假有多少天？", {"number", "duration"}),
        ("誰批准年假？", {"person"}),
        ("总部在哪里？", {"place", "thing"}),
        ("为什么读数偏低？", {"reason", "thing"}),
        ("怎样恢复出厂设置？", {"manner"}),
        ("产品有哪些型号？", {"list", "thing"}),
        ("When was it made?", {"time"}),
        ("How many days?", {"number", "duration"}),
        ("How do I reset it?", {"manner"}),
        ("介绍一下公司", set()),
    ],
)
def test_the_kinds_of_a_question(question: str, kinds: set[str]) -> None:
    assert look_at(question).kinds == kinds


def test_the_question_word_and_its_neighbours() -> None:
    form = look_at("员工每年有多少天的年假？")
    assert form.before == "员工每年有"
    assert form.after == "天的年假"
    assert form.unit == "天"
    assert "多少" not in form.content
    assert look_at("年假").before == "年假"


def test_sentences_are_quoted_whole() -> None:
    text = "满1年的，7天；满10年的，12天；满20年的，15天。另行通知。\n标题\n内容；"
    assert [text[start:end] for start, end in quotable_spans(text)] == [
        "满1年的，7天；满10年的，12天；满20年的，15天。",
        "另行通知。",
        "标题",
        "内容；",
    ]


def test_a_long_enumeration_is_quoted_clause_by_clause() -> None:
    clause = "甲" * 60 + "；"
    text = clause * 3 + "乙。"
    assert [text[start:end] for start, end in quotable_spans(text)] == [clause, clause, clause, "乙。"]


@given(st.text(alphabet=st.sampled_from("年。；，;. \n！aB1“”|"), max_size=60), st.integers(1, 40))
def test_quotable_spans_hold_every_character(text: str, copies: int) -> None:
    text = text * copies
    spans = list(quotable_spans(text))
    assert all(start < end for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    outside = "".join(
        text[a:b] for a, b in zip([0, *(end for _, end in spans)], [*(s for s, _ in spans), len(text)], strict=True)
    )
    assert not outside.strip()
    assert all(end - start <= max(LONGEST_QUOTE, LONGEST_STRETCH) for start, end in spans)
    assert all("\n" not in text[start:end] for start, end in spans)


def test_the_same_sentence_is_read_once() -> None:
    rows = sentences_of([SourceText(1, "年假有七天。另行通知。"), SourceText(2, "年假有七天！病假有五天。")])
    assert [[sentence.letters for sentence in row] for row in rows] == [["年假有七天", "另行通知"], ["病假有五天"]]


def test_every_feature_has_a_weight_and_every_weight_a_feature() -> None:
    [(_, features), *_] = QuestionFeatures("年假有几天？", [SourceText(1, "年假有七天。")]).all()
    assert features.keys() == WEIGHTS.keys()


def test_chances_add_up() -> None:
    ranked = rank_sentences("年假有几天？", [SourceText(1, "年假有七天。另行通知。"), SourceText(2, "病假有五天。")])
    assert sum(found.chance for found in ranked) == pytest.approx(1)
    assert [found.chance for found in ranked] == sorted((found.chance for found in ranked), reverse=True)
    assert (ranked[0].source, ranked[0].start, ranked[0].end) == (0, 0, 6)


@given(
    question=st.text(max_size=30),
    texts=st.lists(st.text(max_size=80), max_size=4),
)
def test_no_text_is_an_error(question: str, texts: list[str]) -> None:
    sources = [SourceText(number, text) for number, text in enumerate(texts, start=1)]
    for found in rank_sentences(question, sources):
        assert texts[found.source][found.start : found.end].strip()
