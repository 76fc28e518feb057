from __future__ import annotations

from typing import Any

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.pdf import number_ranges, read_pdf, removed_heads
from chinese_alpaca_rag.ingest.reading import read_document
from tests.ingest.office_files import lines, pdf_file, picture
from tests.shared_data import ROOT

# Three lines of one paragraph as a typesetter breaks them, 32 characters to the line, the first one indented.
PARAGRAPH = (
    "　　公司实行带薪年休假制度，员工累计工作满一年不满十年的，每年享有五天年",
    "休假；满十年不满二十年的，每年享有十天；满二十年的，每年享有十五天，国家",
    "法定休假日和休息日不计入年休假的假期。",
)


def page_text(*texts: str, **layout: Any) -> str:
    return read_pdf(pdf_file([lines(*texts, **layout)]), "x").pages[0].text


def test_each_page_is_a_page() -> None:
    document = read_pdf(pdf_file([lines("第一页的内容。"), lines("第二页的内容。"), lines("第三页的内容。")]), "手册")
    assert [(page.number, page.text) for page in document.pages] == [
        (1, "第一页的内容。"),
        (2, "第二页的内容。"),
        (3, "第三页的内容。"),
    ]
    assert (document.format, document.page_kind, document.title, document.missing) == ("pdf", "page", "手册", "")


def test_lines_of_a_chinese_paragraph_are_joined_without_spaces() -> None:
    text = page_text(*PARAGRAPH, "　　第二段从这里开始，说明请假的手续。")
    paragraphs = text.split("\n")
    assert paragraphs[0].lstrip("　") == "".join(PARAGRAPH).lstrip("　")
    assert paragraphs[1].endswith("第二段从这里开始，说明请假的手续。")


def test_short_lines_stay_lines() -> None:
    assert (
        page_text("公司：某某科技", "电话：010-12345678", "地址：北京市")
        == "公司：某某科技\n电话：010-12345678\n地址：北京市"
    )


def test_numbered_lines_begin_paragraphs() -> None:
    long = "一二三四五六七八九十" * 3
    assert page_text(f"一、{long}", f"二、{long}", f"第三条{long}").count("\n") == 2


def test_the_lines_of_a_list_item_hang_behind_its_bullet() -> None:
    def draw(canvas: Any) -> None:
        for number, text in enumerate(("· " + "雷雨天气不得在室外安装" * 3, "或检修。", "· 接线前断开电源。")):
            canvas.drawString(72 if text.startswith("·") else 90, 700 - 18 * number, text)
        canvas.drawString(90, 600, "正文的一行，和上面的第一行一样长，这样右边的边界就有两行文字到达了")

    text = read_pdf(pdf_file([draw]), "x").pages[0].text
    assert text.split("\n")[:2] == ["· " + "雷雨天气不得在室外安装" * 3 + "或检修。", "· 接线前断开电源。"]


def test_english_is_joined_with_spaces_and_its_hyphens_are_mended() -> None:
    def draw(canvas: Any) -> None:
        canvas.setFont("Helvetica", 12)
        for number, text in enumerate(
            (
                "The annual leave of an employee who has worked for ten years or longer is set by the com-",
                "pany in agreement with the law and is announced every year in the first week of January,",
                "at the latest.",
            )
        ):
            canvas.drawString(72, 700 - 16 * number, text)

    text = read_pdf(pdf_file([draw]), "x").pages[0].text
    assert text == (
        "The annual leave of an employee who has worked for ten years or longer is set by the company in agreement "
        "with the law and is announced every year in the first week of January, at the latest."
    )


def test_a_gap_between_cells_is_a_tab_and_letter_spacing_is_nothing() -> None:
    def draw(canvas: Any) -> None:
        canvas.drawString(72, 700, "城市")
        canvas.drawString(200, 700, "标准")
        for number, character in enumerate("加宽的标题"):
            canvas.drawString(72 + 15 * number, 600, character)

    document = read_pdf(pdf_file([draw]), "x")
    if document.missing:  # characters set one by one in a font that only machines with Chinese fonts draw
        assert "fonts-noto-cjk" in document.missing
        assert document.pages[0].text == "城市\t标准"
    else:
        assert document.pages[0].text.split("\n\n") == ["城市\t标准", "加宽的标题"]


def test_scanned_pages_are_named() -> None:
    document = read_pdf(pdf_file([lines("有文字的一页。"), picture, picture, lines("又一页。"), picture]), "x")
    assert [bool(page.text) for page in document.pages] == [True, False, False, True, False]
    assert "2-3, 5" in document.missing
    assert "OCR" in document.missing


def test_a_blank_page_is_not_missing() -> None:
    document = read_pdf(pdf_file([lines("有文字的一页。"), lines()]), "x")
    assert len(document.pages) == 2
    assert document.missing == ""


def test_a_scan_is_refused_with_the_way_out() -> None:
    with pytest.raises(DocumentRefusedError) as caught:
        read_pdf(pdf_file([picture, picture]), "x")
    assert "OCR" in caught.value.message.en
    assert "1-2" in caught.value.message.zh


def test_a_blank_file_is_refused() -> None:
    with pytest.raises(DocumentRefusedError, match=r"blank|空白"):
        read_pdf(pdf_file([lines()]), "x")


def test_an_encrypted_file_needs_its_password() -> None:
    data = pdf_file([lines("秘密。")], encrypt="secret")
    with pytest.raises(DocumentRefusedError, match=r"password|密码"):
        read_pdf(data, "x")
    assert read_pdf(data, "x", password="secret").pages[0].text == "秘密。"


@pytest.mark.parametrize("cut", [0.1, 0.5])
def test_half_a_file_is_refused_or_read_but_never_crashes(cut: float) -> None:
    data = pdf_file([lines("第一页。"), lines("第二页。")])
    try:
        document = read_pdf(data[: int(len(data) * cut)], "x")
    except DocumentRefusedError:
        return
    assert any(page.text for page in document.pages)


def test_no_pdf_at_all() -> None:
    with pytest.raises(DocumentRefusedError, match="PDF"):
        read_pdf(b"%PDF-1.4 and then nothing", "x")


def test_filled_in_form_fields_are_read() -> None:
    def draw(canvas: Any) -> None:
        canvas.drawString(72, 700, "申请人：")
        canvas.acroForm.textfield(name="name", value="Zhang San", x=150, y=695, width=200, height=20)

    assert "Zhang San" in read_pdf(pdf_file([draw]), "x").pages[0].text


def test_ranges() -> None:
    assert number_ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
    assert number_ranges([]) == ""


def test_a_numbered_heading_of_the_examples_stands_on_its_own_line() -> None:
    report = read_document(ROOT / "examples" / "documents" / "年度报告.pdf")
    shown = [line for page in report.pages for line in page.text.splitlines()]
    assert "4.2 2024年上市的新产品" in shown
    assert "3.5 现金、应收与存货" in shown


def test_headers_and_page_numbers_are_left_out_and_told() -> None:
    def drawn(number: int) -> Any:
        def draw(canvas: Any) -> None:
            lines(f"{'甲乙丙丁'[number]}部门的规定。", f"{'甲乙丙丁'[number]}部门的附则。")(canvas)
            canvas.drawString(72, 810, "员工手册")
            canvas.drawString(290, 30, f"第 {number + 1} 页")

        return draw

    data = pdf_file([drawn(number) for number in range(4)])
    assert [page.text for page in read_pdf(data, "x").pages] == [
        f"{part}部门的规定。\n{part}部门的附则。" for part in "甲乙丙丁"
    ]
    assert [head.page for head in removed_heads(data)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {head.text for head in removed_heads(data)} >= {"员工手册", "第 4 页"}
    assert removed_heads(pdf_file([drawn(0), drawn(1)])) == ()


def test_a_page_of_very_many_lines_is_read_in_time() -> None:
    def draw(canvas: Any) -> None:
        canvas.setFont("Helvetica", 1)
        for number in range(6_000):
            canvas.drawString(20 + 5 * (number % 100), 820 - 13 * (number // 100), f"n{number}")

    assert "n5999" in read_pdf(pdf_file([draw]), "x").pages[0].text


@pytest.mark.parametrize("name", ["HG-G200网关用户手册.pdf", "年度报告.pdf"])
def test_the_examples_lose_their_running_heads_and_nothing_else(name: str) -> None:
    path = ROOT / "examples" / "documents" / name
    report = read_document(path)
    heads = removed_heads(path.read_bytes())
    assert len(heads) == 2 * (len(report.pages) - 1)
    assert all("常州禾观传感技术有限公司\t" in head.text or f"第{head.page}页" in head.text for head in heads)
