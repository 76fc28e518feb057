from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.retrieval.highlights import highlights


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("员工每年有年假十五天。", "年假有几天", ["年假"]),
        ("員工的特別休假", "特别休假", ["特別休假"]),
        ("型号 ＺＸ２００ 与 ZX2000", "zx200", ["ＺＸ２００"]),
        ("All Employees get badges.", "employee badge", ["Employees", "badges"]),
        ("在 2015 年和 15 日", "15", ["15"]),
        ("蓍，又名千叶蓍。", "蓍", ["蓍", "蓍"]),
        ("不足 十五天", '"不足 十五天"', ["不足 十五天"]),
        ("没有", "年假", []),
        ("", "年假", []),
        ("年假", "", []),
    ],
)
def test_the_terms_of_a_question_are_shown(text: str, query: str, shown: list[str]) -> None:
    assert [text[start:end] for start, end in highlights(text, query)] == shown


@given(st.text(), st.text())
def test_stretches_are_in_order_and_apart(text: str, query: str) -> None:
    end = -1
    for start, behind in highlights(text, query):
        assert end < start < behind <= len(text)
        end = behind
