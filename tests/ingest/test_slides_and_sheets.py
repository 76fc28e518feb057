from __future__ import annotations

import datetime
from typing import Any

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from tests.ingest.office_files import sheets_file, slides_file

pytest.importorskip("openpyxl", reason="needs the office extra")

from chinese_alpaca_rag.ingest import sheets
from chinese_alpaca_rag.ingest.sheets import read_sheets
from chinese_alpaca_rag.ingest.slides import read_slides


def test_each_slide_is_a_page_with_title_bullets_table_and_notes() -> None:
    from pptx.util import Inches

    def write(presentation: Any) -> None:
        first = presentation.slides.add_slide(presentation.slide_layouts[0])
        first.shapes.title.text = "年度总结"
        first.placeholders[1].text = "销售部"
        second = presentation.slides.add_slide(presentation.slide_layouts[5])
        second.shapes.title.text = "销售额"
        table = second.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(4), Inches(2)).table
        for row, cells in enumerate((("季度", "金额"), ("一", "100"), ("二", "120"))):
            for column, cell in enumerate(cells):
                table.cell(row, column).text = cell
        second.notes_slide.notes_text_frame.text = "强调二季度。"
        box = second.shapes.add_textbox(Inches(-3), Inches(-3), Inches(1), Inches(1))
        box.text_frame.text = "页外的文字"

    document = read_slides(slides_file(write), "x")
    assert (document.page_kind, document.title) == ("slide", "年度总结")
    assert [(page.number, page.label) for page in document.pages] == [(1, "年度总结"), (2, "销售额")]
    assert document.pages[0].text == "# 年度总结\n销售部"
    second = document.pages[1].text
    assert second.startswith("# 销售额")
    assert "季度：二 | 金额：120" in second
    assert "页外的文字" in second
    assert second.endswith("备注：强调二季度。")


def test_the_data_of_a_chart_is_read() -> None:
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    def write(presentation: Any) -> None:
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        data = CategoryChartData()
        data.categories = ["北京", "上海"]
        data.add_series("收入", (10, 20.5))
        slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(1), Inches(4), Inches(3), data)

    text = read_slides(slides_file(write), "x").pages[0].text
    assert "北京 | 收入：10" in text
    assert "上海 | 收入：20.5" in text


def test_slides_without_text_are_refused() -> None:
    with pytest.raises(DocumentRefusedError):
        read_slides(slides_file(lambda presentation: presentation.slides.add_slide(presentation.slide_layouts[6])), "x")


def test_each_sheet_is_a_page_and_each_row_reads_by_itself() -> None:
    def write(workbook: Any) -> None:
        staff = workbook.active
        staff.title = "员工"
        for row in (
            ["2024年员工名册"],
            ["部门", "姓名", "年假", "入职日期", "绩效"],
            ["销售部", "张三", 15, datetime.date(2010, 5, 1), 0.95],
            [None, "李四", 5.5, datetime.date(2022, 1, 15), 0.8],
            ["备注：年假单位为天"],
        ):
            staff.append(row)
        staff.merge_cells("A3:A4")
        for cell in ("E3", "E4"):
            staff[cell].number_format = "0%"
        prices = workbook.create_sheet("价格")
        for row in (["型号", "单价"], ["A1", 1234567.891], ["A2", 59]):
            prices.append(row)

    document = read_sheets(sheets_file(write), "名册")
    assert (document.page_kind, document.title, document.missing) == ("sheet", "名册", "")
    assert [(page.number, page.label) for page in document.pages] == [(1, "员工"), (2, "价格")]
    assert document.pages[0].text.split("\n") == [
        "2024年员工名册",
        "部门 | 姓名 | 年假 | 入职日期 | 绩效",
        "部门：销售部 | 姓名：张三 | 年假：15 | 入职日期：2010-05-01 | 绩效：95%",
        "部门：销售部 | 姓名：李四 | 年假：5.5 | 入职日期：2022-01-15 | 绩效：80%",
        "备注：年假单位为天",
    ]
    assert "型号：A1 | 单价：1234567.891" in document.pages[1].text


def test_names_below_groups() -> None:
    def write(workbook: Any) -> None:
        sheet = workbook.active
        for row in (
            ["地区", "一季度", None, "二季度", None],
            [None, "收入", "成本", "收入", "成本"],
            ["华东", 10, 8, 12, 9],
        ):
            sheet.append(row)
        sheet.merge_cells("B1:C1")
        sheet.merge_cells("D1:E1")
        sheet.merge_cells("A1:A2")

    lines = read_sheets(sheets_file(write), "x").pages[0].text.split("\n")
    assert lines[-1] == "地区：华东 | 一季度/收入：10 | 一季度/成本：8 | 二季度/收入：12 | 二季度/成本：9"


def test_formulas_without_a_value_stand_as_formulas_and_are_reported() -> None:
    def write(workbook: Any) -> None:
        for row in (["项目", "金额"], ["房租", 100], ["水电", 20], ["合计", "=SUM(B2:B3)"]):
            workbook.active.append(row)

    document = read_sheets(sheets_file(write), "x")
    assert "金额：=SUM(B2:B3)" in document.pages[0].text
    assert "1" in document.missing


def test_a_stray_cell_far_away_costs_nothing() -> None:
    def write(workbook: Any) -> None:
        workbook.active["A1"] = "开头"
        workbook.active["B900000"] = "遥远"

    assert read_sheets(sheets_file(write), "x").pages[0].text == "开头\n\n遥远"


def test_an_empty_workbook_is_refused() -> None:
    with pytest.raises(DocumentRefusedError):
        read_sheets(sheets_file(lambda workbook: None), "x")


def test_one_long_text_in_many_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(workbook: Any) -> None:
        for _ in range(20):
            workbook.active.append(["x" * 100])

    monkeypatch.setattr(sheets, "_MOST_CHARACTERS", 1000)
    with pytest.raises(DocumentRefusedError, match=r"limit|上限"):
        read_sheets(sheets_file(write), "x")


def test_shapes_are_read_from_the_top_down_and_groups_together() -> None:
    from pptx.util import Inches

    def write(presentation: Any) -> None:
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        for text, left, top in (("右下", 5, 5), ("左下", 1, 5), ("上", 3, 1)):
            slide.shapes.add_textbox(Inches(left), Inches(top), Inches(1), Inches(1)).text_frame.text = text
        group = slide.shapes.add_group_shape()
        for text, top in (("组内一", 3), ("组内二", 2)):
            group.shapes.add_textbox(Inches(1), Inches(top), Inches(1), Inches(1)).text_frame.text = text

    lines = read_slides(slides_file(write), "x").pages[0].text.split("\n")
    assert [line for line in lines if line] == ["上", "组内二", "组内一", "左下", "右下"]


def test_slides_stand_in_the_order_of_the_presentation() -> None:
    def write(presentation: Any) -> None:
        for text in ("一", "二", "三"):
            presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = text
        slides = presentation.slides._sldIdLst
        slides.append(slides[0])

    assert [page.label for page in read_slides(slides_file(write), "x").pages] == ["二", "三", "一"]
