from __future__ import annotations

import datetime

import pytest

from chinese_alpaca_rag.ingest.cell_display import shown
from chinese_alpaca_rag.ingest.tables import table_lines


def test_names_are_written_to_each_cell() -> None:
    rows = [["部门", "姓名", "年假"], ["销售部", "张三", "15"], ["", "李四", "5"], ["", "", ""]]
    assert table_lines(rows) == [
        "部门 | 姓名 | 年假",
        "部门：销售部 | 姓名：张三 | 年假：15",
        "姓名：李四 | 年假：5",
    ]


def test_english_names_take_an_english_colon() -> None:
    assert table_lines([["Name", "Days"], ["Bob", "15"]])[1] == "Name: Bob | Days: 15"


@pytest.mark.parametrize(
    "rows",
    [
        [["姓名", "张三", "性别", "男"], ["部门", "销售部", "职位", "经理"], ["电话", "138", "工号", "001"]],
        [["2021", "100"], ["2022", "120"], ["2023", "150"]],
        [["本条适用于全体员工。", "另有规定的除外。"], ["甲", "1"], ["乙", "2"]],
        [["甲方：", "乙方："], ["王", "李"], ["张", "赵"]],
        [["只有一行", "没有数据"]],
    ],
)
def test_without_evidence_no_row_is_taken_for_names(rows: list[list[str]]) -> None:
    assert table_lines(rows) == [" | ".join(row) for row in rows]


def test_two_rows_of_names_are_joined() -> None:
    rows = [["地区", "一季度", "一季度"], ["地区", "收入", "成本"], ["华东", "10", "8"]]
    assert table_lines(rows, header_rows=2)[2] == "地区：华东 | 一季度/收入：10 | 一季度/成本：8"


def test_line_breaks_inside_a_cell_do_not_break_the_row() -> None:
    assert table_lines([["名称", "说明"], ["甲", "第一行\n第二行"]])[1] == "名称：甲 | 说明：第一行 第二行"


@pytest.mark.parametrize(
    ("value", "number_format", "expected"),
    [
        (1234567.891, "General", "1234567.891"),
        (3.0, "General", "3"),
        (0.1 + 0.2, "General", "0.3"),
        (0.00001, "General", "0.00001"),
        (0.15, "0%", "15%"),
        (0.1234, "0.0%", "12.34%"),
        (1299, "¥#,##0.00", "¥1299"),
        (1299.5, '"￥"#,##0.00', "￥1299.5"),
        (15, '0"天"', "15天"),
        (99, "[$€-407] #,##0", "€99"),
        (42, "000000", "000042"),
        (-5, "#,##0;[Red]-#,##0", "-5"),
        (True, "General", "TRUE"),
        (datetime.datetime(2024, 3, 1), "yyyy/m/d", "2024-03-01"),
        (datetime.datetime(2024, 3, 1, 9, 30), "General", "2024-03-01 09:30"),
        (datetime.time(9, 30), "h:mm", "09:30:00"),
        (datetime.timedelta(hours=26, minutes=5), "[h]:mm", "26:05:00"),
        ("文字", "@", "文字"),
        (None, None, ""),
        (1e300, "General", "1e+300"),
    ],
)
def test_cells_are_shown_as_the_sheet_shows_them(value: object, number_format: str | None, expected: str) -> None:
    assert shown(value, number_format) == expected
