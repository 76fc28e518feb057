from __future__ import annotations

import pytest

from chinese_alpaca_rag.chains.citations import check_citations
from chinese_alpaca_rag.chains.results import Citation
from chinese_alpaca_rag.chains.sources import Excerpt, Source

PAGE = (
    "前言。\n"
    "工作满一年的员工每年享有15天年假。试用期员工不享有带薪年假。\n"
    "副总经理王明负责审批差旅费用，金额不超过3.5万元。他说：“不行。”然后走了。\n"
    "研究表明[12]该方法有效[3]。ZX-200的价格为25.5元，共二十三台。\n"
    "Employees get 15 days of annual leave. They do not get bonuses.\n"
    "重复的一句话。中间。重复的一句话。\n"
)
START = PAGE.index("工作满")
FIRST = Source(1, Excerpt("/docs/手册.pdf", 3, START, len(PAGE), PAGE[START:], title="员工手册"))
PRICES = "ZX-300的价格为99元。保修期为两年。"
SECOND = Source(2, Excerpt("/docs/价目.xlsx", 1, 40, 40 + len(PRICES), PRICES, title="价目表"))


def check(answer: str) -> tuple[Citation, ...]:
    citations = check_citations(answer, [FIRST, SECOND])
    for citation in citations:
        if citation.verified:
            text = {"/docs/手册.pdf": PAGE, "/docs/价目.xlsx": " " * 40 + PRICES}[citation.source]
            assert citation.quote == text[citation.start : citation.end]
    return citations


def verdicts(answer: str) -> list[tuple[int, bool]]:
    return [(citation.n, citation.verified) for citation in check(answer)]


LEAVE = "工作满一年的员工每年享有15天年假"


@pytest.mark.parametrize(
    "answer",
    [
        LEAVE + "[1]。",
        LEAVE + "。[1]",
        LEAVE + " [1] 。",
        LEAVE + "［１］。",
        LEAVE + "【1】。",
        LEAVE + "[来源1]。",
        LEAVE + "[^1]。",
        LEAVE + "（来源：[1]）。",
        LEAVE + "（来源1）。",
        "来源1说明：" + LEAVE + "。",
        "根据[1]，" + LEAVE + "。",
        "[1] " + LEAVE + "。",
        "答：" + LEAVE + "[1]",
        "因此，" + LEAVE + "[1]",
        "根据员工手册，" + LEAVE + "[1]",
        "根据员工手册的规定：“" + LEAVE + "。”[1]",
        "“" + LEAVE + "。”[1]",
        "「" + LEAVE + "」[1]",
        '"' + LEAVE + '"[1]',
        "资料指出“" + LEAVE + "”，见[1]。",
        "以下是最相关的原文：\n" + LEAVE + "。[1]",
        "1. " + LEAVE + "。[1]",
        "- **" + LEAVE + "** [1]",
        "一、" + LEAVE + "[1]",
        LEAVE.replace("15", "１５") + "[1]",
        LEAVE.replace("员工", " 员 工\n") + "[1]",
        "公司很大。" + LEAVE + "。[1]",
    ],
)
def test_words_of_the_source_are_verified_however_they_are_marked(answer: str) -> None:
    [citation] = check(answer)
    assert citation.verified
    assert (citation.n, citation.source, citation.page) == (1, "/docs/手册.pdf", 3)
    assert citation.quote.rstrip("。”") == LEAVE


@pytest.mark.parametrize(
    "claim",
    [
        LEAVE.replace("15", "16"),
        LEAVE.replace("15", "5"),
        LEAVE.replace("一年", "二年"),
        LEAVE.replace("享有", "不享有"),
        "满一年的员工每年享有15天病假",
        "试用期员工享有带薪年假",
        "享有带薪年假",
        "副总经理李明负责审批差旅费用",
        "总经理王明负责审批差旅费用",
        "金额不超过3.5",
        "金额不超过3",
        "5万元。他说",
        "ZX-200的价格为25",
        "00的价格为25.5元",
        "三台",
        "共二十",
        "Employees get 5 days of annual leave",
        "Employees do not get 15 days of annual leave",
        "get bonuses",
        "ployees get 15 days of annual leave",
        "Employees get 15 days of annual lea",
        "十三台",
        "Employees don't get 15 days of annual leave",
        "年假",
        "元",
        "不行",
        "",
        "手册没有规定“" + LEAVE + "”",
        "总经理规定：“" + LEAVE + "”",
        "年假不是20天，“" + LEAVE + "”",
        "根据员工手册：“" + LEAVE.replace("15", "51") + "”",
        "根据总裁办公室，" + LEAVE,
    ],
)
def test_altered_or_empty_claims_are_not(claim: str) -> None:
    [citation] = check(claim + "[1]")
    assert not citation.verified
    assert citation.source == "/docs/手册.pdf"
    assert (citation.page, citation.start, citation.end) == (3, START, len(PAGE))
    assert citation.quote in claim + "[1]"


@pytest.mark.parametrize("number", ["0", "3", "99", "999999999"])
def test_number_of_no_source_points_nowhere(number: str) -> None:
    assert check(f"{LEAVE}[{number}]") == (Citation(int(number), "", 0, 0, 0, LEAVE, verified=False),)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (LEAVE + "[1, 2]", [(1, True), (2, False)]),
        (LEAVE + "[1，2]", [(1, True), (2, False)]),
        (LEAVE + "[2、1]", [(2, False), (1, True)]),
        (LEAVE + "[1][2]", [(1, True), (2, False)]),
        (LEAVE + "[1]和[2]", [(1, True), (2, False)]),
        (LEAVE + "[1-3]", [(1, True), (2, False), (3, False)]),
        (LEAVE + "[1～2]", [(1, True), (2, False)]),
        (LEAVE + "[1-1000000]", [(1, True), (1000000, False)]),
        (LEAVE + "[1, 1, 1]", [(1, True)]),
        (LEAVE + "[1]。[2]", [(1, True), (2, False)]),
        (f"{LEAVE}[1]，保修期为两年[2]。", [(1, True), (2, True)]),
        (f"{LEAVE}。[1]保修期为两年。[2]", [(1, True), (2, True)]),
        (f"[1] {LEAVE}。\n[2] 保修期为两年。", [(1, True), (2, True)]),
        (f"根据[1]，{LEAVE}；根据[2]，保修期为两年。", [(1, True), (2, True)]),
        (f"保修期为两年[2]。{LEAVE}[1]。", [(2, True), (1, True)]),
        ("没有引用", []),
        ("[]", []),
        ("[ 1", []),
        ("[1.5]", []),
        ("来源2024年的报告", []),
        ("", []),
    ],
)
def test_numbers_are_read_in_all_their_forms(answer: str, expected: list[tuple[int, bool]]) -> None:
    assert verdicts(answer) == expected


def test_each_quotation_is_checked_for_itself() -> None:
    good, bad = "试用期员工不享有带薪年假", "ZX-200的价格为26.5元"
    citations = check(f"“{good}”，而“{bad}”。[1]")
    assert [(citation.quote, citation.verified) for citation in citations] == [(good, True), (bad, False)]


def test_quotations_from_two_sources_are_found_each_in_its_own() -> None:
    citations = check("“试用期员工不享有带薪年假”，并且“ZX-300的价格为99元”。[1][2]")
    assert [(citation.n, citation.quote, citation.verified) for citation in citations] == [
        (1, "试用期员工不享有带薪年假", True),
        (2, "ZX-300的价格为99元", True),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "研究表明[12]该方法有效[3]。[1]",
        "研究表明[12]该方法有效[3][1]",
        "“研究表明[12]该方法有效[3]。”[1]",
        "- 研究表明[12]该方法有效[3]。[1]",
        f"{LEAVE}。[1]研究表明[12]该方法有效[3]。[1]",
    ],
)
def test_numbers_that_are_the_sources_own_are_no_citations(answer: str) -> None:
    citations = check(answer)
    assert [citation.n for citation in citations] == [1] * len(citations)
    assert citations[-1].verified
    assert citations[-1].quote.startswith("研究表明[12]该方法有效[3]")


def test_sentence_with_a_quotation_inside_is_found_whole() -> None:
    for answer in ("他说：“不行。”然后走了。[1]", "“他说：“不行。”然后走了。”[1]"):
        [citation] = check(answer)
        assert (citation.quote, citation.verified) == ("他说：“不行。”然后走了。", True)


def test_repeated_sentence_is_found_within_the_cited_passage() -> None:
    second = PAGE.rindex("重复的一句话。")
    cited = Source(1, Excerpt("/docs/手册.pdf", 3, second, second + 7, PAGE[second : second + 7]))
    [citation] = check_citations("重复的一句话。[1]", [cited])
    assert (citation.start, citation.end, citation.verified) == (second, second + 7, True)


def test_several_sentences_before_one_marker_are_found_together_or_the_last_alone() -> None:
    together = "试用期员工不享有带薪年假。\n副总经理王明负责审批差旅费用，金额不超过3.5万元。"
    assert [citation.quote for citation in check(together + "[1]")] == [together]
    [citation] = check("王明很忙。副总经理王明负责审批差旅费用，金额不超过3.5万元。[1]")
    assert citation.quote == "副总经理王明负责审批差旅费用，金额不超过3.5万元。"


@pytest.mark.parametrize(
    ("answer", "verified"),
    [
        ("员工每年享有15天年假[1]。", True),  # a fragment, and no more is claimed
        ("“每年享有15天年假”[1]", True),
        ("员工每年享有15天年假。[1]", False),  # as a sentence it leaves out whose leave it is
        ("“员工每年享有15天年假。”[1]", False),
        ("ZX-200的价格。[1]", False),
        ("共二十三台。[1]", True),
        ("金额不超过3.5万元。[1]", True),
    ],
)
def test_full_stop_claims_that_the_source_stops_there_too(answer: str, verified: bool) -> None:
    [citation] = check(answer)
    assert citation.verified is verified


@pytest.mark.parametrize(
    ("answer", "verified"),
    [
        ("保修期为三年；ZX-300的价格为99元。[2]", False),
        ("保修期为三年。ZX-300的价格为99元。[2]", True),
    ],
)
def test_semicolon_does_not_part_a_claim(answer: str, verified: bool) -> None:
    [citation] = check(answer)
    assert citation.verified is verified


def test_quotation_framed_from_behind_is_found() -> None:
    [citation] = check("“试用期员工不享有带薪年假。”这是手册的规定。[1]")
    assert citation.quote == "试用期员工不享有带薪年假。"


def test_short_sentence_of_its_own_is_verified_and_a_fragment_is_not() -> None:
    source = Source(1, Excerpt("/a", 1, 0, 12, "前言。共5天。还有15天。", title="a"))
    assert [citation.verified for citation in check_citations("前言。[1]", [source])] == [False]
    assert [citation.verified for citation in check_citations("共5天。[1]", [source])] == [True]
    assert [citation.verified for citation in check_citations("有15天[1]", [source])] == [False]
