"""When a passage is a right one."""

from __future__ import annotations

import pytest

from chinese_alpaca_rag.evaluation.matching import absent, is_named, verdict
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion
from tests.evaluation.passages import passage

FIRST = "工作满一年的员工每年享有五天年假，须提前两周申请，由部门主管批准后生效。"
SECOND = "工作满十年的员工每年享有十天年假，可以分两次使用，不得转到下一年度。"
OTHER = "出差住宿费每晚最多报销五百元，超出的部分由本人承担，发票须在一个月内交来。"


def asking(**known: object) -> JudgedQuestion:
    return JudgedQuestion(1, "年假有几天？", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("手册.pdf", True),
        ("人事/手册.pdf", True),
        ("./人事/手册.pdf", True),
        ("人事\\手册.pdf", True),
        ("/资料/人事/手册.pdf", True),
        ("财务/手册.pdf", False),
        ("册.pdf", False),
        ("手册", False),
        ("手册.PDF", False),
        ("", False),
        ("/", False),
    ],
)
def test_a_file_is_named_by_the_end_of_its_path(source: str, expected: bool) -> None:
    assert is_named("/资料/人事/手册.pdf", [source]) is expected


def test_how_a_name_is_composed_makes_no_difference() -> None:
    assert is_named("/docs/Re\u0301sume\u0301.pdf", ["Résumé.pdf"])


def test_a_page_is_right_and_another_page_is_of_the_right_document() -> None:
    question = asking(sources=("手册.pdf",), pages=(3, 4))
    assert verdict(question, passage(page=3)) == "right"
    assert verdict(question, passage(page=2)) == "right document"
    assert verdict(question, passage(source="/资料/别的.pdf", page=3)) == "wrong"
    assert verdict(asking(sources=("手册.pdf",)), passage(page=9)) == "right"


def test_a_source_may_be_another_path_of_the_same_bytes() -> None:
    copies = {"/资料/手册.pdf": ["/旧/员工手册.pdf"]}
    assert verdict(asking(sources=("员工手册.pdf",)), passage(), copies) == "right"
    assert verdict(asking(sources=("员工手册.pdf",)), passage()) == "wrong"


def test_sources_count_before_answers() -> None:
    question = asking(sources=("手册.pdf",), answers=("五天",))
    assert verdict(question, passage(FIRST, source="/别的.txt")) == "wrong"
    assert verdict(question, passage(OTHER)) == "right"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FIRST + SECOND, "right"),
        ("另外：" + FIRST + SECOND + OTHER, "right"),
        (SECOND, "right"),
        (FIRST, "right document"),
        (FIRST[10:20], "right document"),
        (OTHER[:30] + SECOND, "right"),
        (OTHER + SECOND[:20], "wrong"),
        (OTHER, "wrong"),
        ("别处也有十天年假", "wrong"),
        ("", "wrong"),
    ],
)
def test_of_a_context_the_part_with_the_answer_is_right(text: str, expected: str) -> None:
    assert verdict(asking(context=FIRST + SECOND, answers=("十天",)), passage(text)) == expected


def test_any_part_is_right_where_no_answer_stands_in_the_context() -> None:
    assert verdict(asking(context=FIRST + SECOND), passage(FIRST)) == "right"
    assert verdict(asking(context=FIRST + SECOND, answers=("10 天",)), passage(FIRST)) == "right"


def test_half_of_a_long_answer_will_do() -> None:
    answer = FIRST[10:] + SECOND[:30]
    question = asking(context=FIRST + SECOND, answers=(answer,))
    assert len(answer) >= 40
    assert verdict(question, passage(SECOND[:34])) == "right"
    assert verdict(question, passage(FIRST[:20])) == "right document"


def test_texts_are_compared_without_layout_and_script() -> None:
    assert verdict(asking(context="員工　手冊\n規定：" + FIRST), passage("员工手册规定：" + FIRST)) == "right"


def test_without_source_and_context_any_passage_with_an_answer_is_right() -> None:
    question = asking(answers=("十五天", "15 天"))
    assert verdict(question, passage("年假为 15 天。")) == "right"
    assert verdict(question, passage("年假为 115 天。")) == "wrong"


def test_sources_that_are_not_there() -> None:
    there, elsewhere = asking(sources=("手册.pdf", "没有.pdf")), asking(sources=("人事/手册.pdf",))
    unknown = asking(answers=("十天",))
    assert absent([there, elsewhere, unknown], ["/资料/手册.pdf"]) == (elsewhere,)
