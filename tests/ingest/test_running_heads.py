from __future__ import annotations

from collections.abc import Sequence

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.pdf import read_pdf, removed_heads
from chinese_alpaca_rag.ingest.pdf_lines import Line
from chinese_alpaca_rag.ingest.running_heads import without_running_heads
from tests.shared_data import shared_data

BODY = ("员工入职满三个月后转正。", "部门经理在五个工作日内签字。", "试用期内工资不低于八成。", "年休假按工龄计算。")


def line(text: str, baseline: float, *, size: float = 12, tabular: bool = False) -> Line:
    return Line(text, 72, 72 + size * len(text), baseline, size, tabular=tabular)


def page(number: int, *, head: str = "", foot: str = "", size: float = 12) -> list[Line]:
    """A page whose body is not that of any other, with a header above and a footer below."""
    body = [line(f"{'甲乙丙丁戊己庚辛壬癸'[number % 10]}：{text}", 700 - 20 * row) for row, text in enumerate(BODY)]
    heads = [line(head, 790, size=size)] if head else []
    return [*heads, *body, *([line(foot, 40)] if foot else [])]


def left(pages: Sequence[Sequence[Line]]) -> list[str]:
    return [text.text for lines in pages for text in lines]


def removed(pages: Sequence[Sequence[Line]]) -> list[tuple[int, str]]:
    kept, taken = without_running_heads(pages)
    assert sorted(left(kept) + [head.text for head in taken]) == sorted(left(pages)), "nothing is lost unaccounted for"
    return [(head.page, head.text) for head in taken]


@pytest.mark.parametrize(
    "foot",
    ["{n}", "- {n} -", "第 {n} 页", "第{n}页 共5页", "{n}/5", "Page {n} of 5", "员工手册 {n}", "Staff manual | {n}"],
)
def test_headers_and_page_numbers_are_taken_out(foot: str) -> None:
    pages = [page(n, head="员工手册（2024版）", foot=foot.format(n=n)) for n in range(1, 6)]
    expected = [(n, text) for n in range(1, 6) for text in ("员工手册（2024版）", foot.format(n=n))]
    assert removed(pages) == expected


@pytest.mark.parametrize(
    "numbers", [("i", "ii", "iii", "iv"), ("IX", "X", "XI", "XII"), ("第九页", "第十页", "第十一页", "第十二页")]
)
def test_roman_and_chinese_page_numbers(numbers: Sequence[str]) -> None:
    assert removed([page(n, foot=text) for n, text in enumerate(numbers)]) == list(enumerate(numbers, 1))


def test_page_numbers_may_begin_anew() -> None:
    numbers = ["i", "ii", "iii", "1", "2", "3", "4"]
    assert [text for _, text in removed([page(n, foot=text) for n, text in enumerate(numbers)])] == numbers


def test_odd_and_even_pages_have_heads_of_their_own() -> None:
    pages = [page(n, head="第三章 考勤" if n % 2 else "员工手册") for n in range(1, 8)]
    assert len(removed(pages)) == 7


def test_a_cover_without_a_head_changes_nothing() -> None:
    assert removed([page(0), *(page(n, head="员工手册") for n in range(1, 5))]) == [
        (n, "员工手册") for n in range(2, 6)
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_short_documents_are_left_alone(count: int) -> None:
    assert removed([page(n, head="员工手册", foot=f"第{n}页") for n in range(1, count + 1)]) == []


@pytest.mark.parametrize(
    "head",
    ["第{n}章 总则", "第 {n} 条", "{n}. 安全须知", "步骤 {n}", "问题{n}", "Question {n}", "Chapter {n}", "{n}、总则"],
)
def test_numbered_headings_of_the_body_stay(head: str) -> None:
    assert removed([page(n, head=head.format(n=n)) for n in range(1, 6)]) == []


def test_numbers_that_do_not_count_pages_stay() -> None:
    assert removed([page(n, foot=str(n * n)) for n in range(1, 8)]) == []
    assert removed([page(n, foot=f"合计 {n * 37} 元") for n in range(1, 8)]) == []
    assert removed([page(n, foot="0") for n in range(1, 8)]) == []


def test_what_recurs_on_few_pages_stays() -> None:
    assert removed([page(n, head="员工手册" if n < 4 else "") for n in range(1, 10)]) == []


def test_what_recurs_at_another_height_stays() -> None:
    pages = [[*page(n), line("以下空白。", 500 - 90 * n)] for n in range(1, 5)]
    assert removed(pages) == []


def test_what_recurs_within_the_body_stays() -> None:
    pages = [[line(f"{n}甲", 700), line(f"{n}乙", 680), line("同一句话。", 660), *page(n)] for n in range(1, 6)]
    assert "同一句话。" in left(without_running_heads(pages)[0])


def test_a_second_row_goes_only_with_the_first() -> None:
    assert removed([[line(f"{'春夏秋冬'[n]}季", 790), line("公司简报", 770), *page(n)] for n in range(4)]) == []
    both = [[line("某某公司", 790), line("公司简报", 770), *page(n)] for n in range(4)]
    assert len(removed(both)) == 8


def test_a_title_in_large_letters_stays() -> None:
    assert removed([page(n, head="工资单", size=20) for n in range(5)]) == []


def test_the_header_of_a_table_on_every_page_stays() -> None:
    rows = [
        [
            line("姓名\t部门\t工资", 720, tabular=True),
            *(line(f"员工{n}{row}\t销售\t{n}{row}00", 700 - 20 * row, tabular=True) for row in range(5)),
        ]
        for n in range(1, 6)
    ]
    assert removed(rows) == []
    headed = [[line("某某公司\t工资表", 790, tabular=True), *lines] for lines in rows]
    assert removed(headed) == [(n, "某某公司\t工资表") for n in range(1, 6)]


def test_a_page_that_would_become_empty_keeps_its_text() -> None:
    pages = [page(n, head="员工手册", foot=str(n)) for n in range(1, 5)]
    pages.append([line("员工手册", 790), line("5", 40)])
    kept, taken = without_running_heads(pages)
    assert left(kept[4:]) == ["员工手册", "5"]
    assert {head.page for head in taken} == {1, 2, 3, 4}


def test_heads_are_found_by_height_and_not_by_the_order_of_drawing() -> None:
    pages = [page(n, head="员工手册", foot=str(n)) for n in range(1, 5)]
    assert len(removed([[*lines[2:], *lines[:2]] for lines in pages])) == 8


def test_many_pages_take_no_time_out_of_proportion() -> None:
    pages = [page(n, head=f"{n % 3_000}号文件", foot=str(n)) for n in range(1, 9_001)]
    assert len(removed(pages)) == 9_000


def test_pages_without_lines() -> None:
    assert removed([[], [], []]) == []
    assert removed([]) == []


def test_nothing_but_accounted_lines_is_left_out_of_real_files() -> None:
    read = 0
    for path in sorted(shared_data("awkward").glob("*/*.pdf")):
        data = path.read_bytes()
        try:
            document = read_pdf(data, path.stem)
        except DocumentRefusedError:
            continue
        read += 1
        taken = removed_heads(data)
        pages = {number.page for number in taken}
        assert all(document.pages[number - 1].text for number in pages), path.name
        assert not taken or len(document.pages) >= 3, path.name
    assert read > 100
