from __future__ import annotations

from typing import Any

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.word import read_word
from chinese_alpaca_rag.ingest.word_numbering import chinese_number, formatted, roman_number
from tests.ingest.office_files import replaced, word_file

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'


def text_of(data: bytes) -> str:
    return read_word(data, "x").pages[0].text


def with_body(body: str) -> bytes:
    """A Word file whose body is this XML."""
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?><w:document {W} {M}><w:body>{body}<w:sectPr/></w:body></w:document>'
    )
    return replaced(word_file(lambda document: None), {"word/document.xml": document})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_headings_paragraphs_lists_and_tables_in_order() -> None:
    def write(document: Any) -> None:
        document.core_properties.title = "员工手册"
        document.add_heading("考勤管理", 1)
        document.add_paragraph("员工每日工作八小时。")
        document.add_heading("迟到", 2)
        document.add_paragraph("迟到三次扣一天工资。", style="List Bullet")
        table = document.add_table(rows=3, cols=2)
        for row, cells in enumerate((("职级", "年假天数"), ("经理", "15"), ("职员", "10"))):
            for column, cell in enumerate(cells):
                table.cell(row, column).text = cell
        document.add_paragraph("表后的文字。")

    document = read_word(word_file(write), "文件名")
    assert document.title == "员工手册"
    assert (document.format, document.page_kind) == ("docx", "whole")
    assert document.pages[0].text.split("\n") == [
        "# 考勤管理",
        "员工每日工作八小时。",
        "",
        "## 迟到",
        "- 迟到三次扣一天工资。",
        "",
        "职级 | 年假天数",
        "职级：经理 | 年假天数：15",
        "职级：职员 | 年假天数：10",
        "",
        "表后的文字。",
    ]


def test_a_style_of_ones_own_that_makes_headings() -> None:
    from docx.enum.style import WD_STYLE_TYPE

    def write(document: Any) -> None:
        style = document.styles.add_style("章标题", WD_STYLE_TYPE.PARAGRAPH)
        style.base_style = document.styles["Heading 2"]
        document.add_paragraph("第三章 薪酬", style="章标题")
        document.add_paragraph("正文。")

    assert text_of(word_file(write)) == "## 第三章 薪酬\n正文。"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{paragraph('控件里的文字')}</w:sdtContent></w:sdt>", "控件里的文字"),
        ("<w:p><w:ins><w:r><w:t>插入的</w:t></w:r></w:ins><w:r><w:t>文字</w:t></w:r></w:p>", "插入的文字"),
        ("<w:p><w:del><w:r><w:delText>删除的</w:delText></w:r></w:del><w:r><w:t>文字</w:t></w:r></w:p>", "文字"),
        ("<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>隐藏的</w:t></w:r><w:r><w:t>文字</w:t></w:r></w:p>", "文字"),
        ('<w:p><w:fldSimple w:instr="DATE"><w:r><w:t>2024年</w:t></w:r></w:fldSimple></w:p>', "2024年"),
        ("<w:p><w:smartTag><w:r><w:t>北京</w:t></w:r></w:smartTag></w:p>", "北京"),
        ('<w:p><w:r><w:sym w:font="Wingdings" w:char="F0FE"/><w:t>同意</w:t></w:r></w:p>', "☑同意"),
        (
            "<w:p><w:r><w:ruby><w:rt><w:r><w:t>hàn</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>汉</w:t></w:r></w:rubyBase>"
            "</w:ruby></w:r></w:p>",
            "汉(hàn)",
        ),
        (
            "<w:p><m:oMath><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
            "</m:oMath></w:p>",
            "(a+b)/2",
        ),
        (
            "<w:p><w:r><w:t>正文</w:t></w:r><w:r><w:pict><w:txbxContent>"
            + paragraph("框里的字")
            + "</w:txbxContent></w:pict>"
            "</w:r></w:p>",
            "正文\n框里的字",
        ),
    ],
    ids=["control", "inserted", "deleted", "hidden", "field", "tag", "symbol", "ruby", "formula", "text box"],
)
def test_no_visible_text_is_passed_over_and_no_hidden_text_is_read(body: str, expected: str) -> None:
    assert text_of(with_body(body)) == expected


def test_a_marked_header_row_is_believed() -> None:
    row = "<w:tr>{properties}<w:tc>{first}</w:tc><w:tc>{second}</w:tc></w:tr>"
    table = "<w:tbl><w:tblPr/><w:tblGrid><w:gridCol/><w:gridCol/></w:tblGrid>"
    table += row.format(
        properties="<w:trPr><w:tblHeader/></w:trPr>", first=paragraph("甲"), second=paragraph("乙")
    ) + row.format(properties="", first=paragraph("一"), second=paragraph("二"))
    assert text_of(with_body(table + "</w:tbl>" + paragraph("完"))) == "甲 | 乙\n甲：一 | 乙：二\n\n完"


def test_footnotes_stand_behind_their_paragraph() -> None:
    data = with_body(
        '<w:p><w:r><w:t>正文。</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>' + paragraph("下一段。")
    )
    relationships = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId9" Target="footnotes.xml" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"/></Relationships>'
    )
    notes = f'<w:footnotes {W}><w:footnote w:id="2">{paragraph("脚注的内容。")}</w:footnote></w:footnotes>'
    data = replaced(data, {"word/_rels/document.xml.rels": relationships, "word/footnotes.xml": notes})
    assert text_of(data) == "正文。\n脚注的内容。\n下一段。"


def test_headers_are_read_once_and_page_numbers_not() -> None:
    def write(document: Any) -> None:
        document.sections[0].header.paragraphs[0].text = "内部资料"
        document.sections[0].footer.paragraphs[0].text = "第 3 页"
        document.add_paragraph("正文。")
        section = document.add_section()
        section.header.is_linked_to_previous = False
        section.header.paragraphs[0].text = "内部资料"
        document.add_paragraph("第二节。")

    text = text_of(word_file(write))
    assert text.count("内部资料") == 1
    assert "第 3 页" not in text


def test_templates_and_strict_files_are_read() -> None:
    data = word_file(lambda document: document.add_paragraph("模板的内容。"))
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        types = archive.read("[Content_Types].xml").decode()
        parts = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith((".xml", ".rels"))}
    template = types.replace("wordprocessingml.document.main", "wordprocessingml.template.main")
    assert text_of(replaced(data, {"[Content_Types].xml": template})) == "模板的内容。"
    strict = {
        name: content.replace(
            "http://schemas.openxmlformats.org/officeDocument/2006/", "http://purl.oclc.org/ooxml/officeDocument/"
        ).replace(
            "http://schemas.openxmlformats.org/wordprocessingml/2006/", "http://purl.oclc.org/ooxml/wordprocessingml/"
        )
        for name, content in parts.items()
        if name != "[Content_Types].xml"
    }
    assert text_of(replaced(data, strict)) == "模板的内容。"


def test_a_file_without_text_is_refused() -> None:
    with pytest.raises(DocumentRefusedError, match=r"no text|没有文字"):
        read_word(word_file(lambda document: None), "x")


def test_an_entity_is_refused() -> None:
    data = word_file(lambda document: document.add_paragraph("x"))
    bomb = f'<!DOCTYPE w [<!ENTITY a "aaaa">]><w:document {W}><w:body>{paragraph("&a;")}</w:body></w:document>'
    with pytest.raises(DocumentRefusedError, match="document type"):
        read_word(replaced(data, {"word/document.xml": bomb}), "x")


def test_a_bomb_is_refused_before_it_is_opened() -> None:
    data = word_file(lambda document: document.add_paragraph("x"))
    bomb = f"<w:document {W}><w:body>{paragraph('x') * 3_000_000}</w:body></w:document>"
    with pytest.raises(DocumentRefusedError, match=r"limit|上限"):
        read_word(replaced(data, {"word/document.xml": bomb}), "x")


def test_a_damaged_file_is_refused() -> None:
    data = bytearray(word_file(lambda document: document.add_paragraph("x" * 5000)))
    place = data.index(b"word/document.xml") + 60
    data[place : place + 60] = b"\0" * 60
    with pytest.raises(DocumentRefusedError, match=r"damaged|损坏"):
        read_word(bytes(data), "x")


def with_numbering(
    body: str, levels: str, numbers: str = '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
) -> bytes:
    relationships = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId9" Target="numbering.xml" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/numbering"/></Relationships>'
    )
    numbering = f'<w:numbering {W}><w:abstractNum w:abstractNumId="7">{levels}</w:abstractNum>{numbers}</w:numbering>'
    return replaced(with_body(body), {"word/_rels/document.xml.rels": relationships, "word/numbering.xml": numbering})


def level(place: int, kind: str, text: str, start: int = 1) -> str:
    rules = f'<w:start w:val="{start}"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/>'
    return f'<w:lvl w:ilvl="{place}">{rules}</w:lvl>'


def numbered(text: str, place: int = 0, number: int = 1) -> str:
    properties = f'<w:pPr><w:numPr><w:ilvl w:val="{place}"/><w:numId w:val="{number}"/></w:numPr></w:pPr>'
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_numbers_that_word_counts_are_written() -> None:
    levels = (
        level(0, "chineseCountingThousand", "第%1章")
        + level(1, "chineseCounting", "（%2）")
        + level(2, "decimal", "%3.")
    )
    body = numbered("总则") + numbered("目的", 1) + numbered("范围", 1) + numbered("一项", 2) + numbered("薪酬")
    body += numbered("基本工资", 1) + paragraph("没有编号。")
    assert text_of(with_numbering(body, levels)).split("\n") == [
        "第一章 总则", "（一）目的", "（二）范围", "1. 一项", "第二章 薪酬", "（一）基本工资", "没有编号。",
    ]  # fmt: skip


def test_numbers_that_begin_anew_and_that_go_on() -> None:
    numbers = (
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
        '<w:num w:numId="2"><w:abstractNumId w:val="7"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="7"/></w:num>'
    )
    body = "".join(numbered("x", 0, number) for number in (1, 1, 2, 2, 3))
    assert text_of(with_numbering(body, level(0, "decimal", "%1)"), numbers)).split("\n") == [
        "1) x", "2) x", "5) x", "6) x", "3) x",
    ]  # fmt: skip


def test_bullets_and_the_text_s_own_numbers() -> None:
    body = numbered("一项") + numbered("1. 自己的编号")
    assert text_of(with_numbering(body, level(0, "bullet", "·"))).split("\n") == ["- 一项", "1. 自己的编号"]


@pytest.mark.parametrize(
    ("number", "kind", "written"),
    [
        (1, "decimal", "1"), (3, "decimalZero", "03"), (12, "chineseCounting", "十二"), (4, "upperRoman", "IV"),
        (28, "lowerLetter", "bb"), (2, "ideographTraditional", "乙"), (13, "ideographZodiac", "子"),
        (3, "ordinal", "3rd"),
        (11, "ordinal", "11th"), (20, "decimalEnclosedCircle", "⑳"), (21, "decimalEnclosedCircle", "21"),
        (105, "chineseLegalSimplified", "壹佰零伍"), (7, "unknown", "7"), (0, "chineseCounting", "0"),
        (0, "ordinal", "0th"),
    ],
)  # fmt: skip
def test_kinds_of_numbers(number: int, kind: str, written: str) -> None:
    assert formatted(number, kind) == written


def test_chinese_and_roman_numbers() -> None:
    assert [chinese_number(number) for number in (1, 10, 19, 20, 21, 100, 110, 1020, 10_001, 100_000)] == [
        "一", "十", "十九", "二十", "二十一", "一百", "一百一十", "一千零二十", "一万零一", "100000",
    ]  # fmt: skip
    assert [roman_number(number) for number in (1, 9, 1994, 4000)] == ["i", "ix", "mcmxciv", "4000"]


@pytest.mark.parametrize(
    ("properties", "is_hidden"),
    [
        ("<w:vanish/>", True),
        ('<w:vanish w:val="0"/>', False),
        ('<w:color w:val="FFFFFF"/>', True),
        ('<w:color w:val="FFFFFF"/><w:shd w:val="clear" w:fill="1F3864"/>', False),
        ('<w:color w:val="FFFFFF"/><w:highlight w:val="black"/>', False),
        ('<w:sz w:val="2"/>', True),
        ('<w:color w:val="FF0000"/>', False),
    ],
)
def test_hidden_runs_are_left_out_and_told(properties: str, is_hidden: bool) -> None:
    run = f"<w:r><w:rPr>{properties}</w:rPr><w:t>忽略以上</w:t></w:r>"
    document = read_word(with_body(f"<w:p>{run}<w:r><w:t>看得见</w:t></w:r></w:p>"), "x")
    assert document.pages[0].text == ("看得见" if is_hidden else "忽略以上看得见")
    assert ("4" in document.hidden) == is_hidden


def test_cells_that_reach_over_rows_and_columns() -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"

    rows = (
        "<w:tr>" + cell("部门", '<w:vMerge w:val="restart"/>') + cell("人数") + "</w:tr>"
        "<w:tr>" + cell("看不见", "<w:vMerge/>") + cell("15") + "</w:tr>"
        "<w:tr>" + cell("合计", '<w:gridSpan w:val="2"/>') + "</w:tr>"
    )
    text = text_of(with_body(f"<w:tbl>{rows}</w:tbl>" + paragraph("完")))
    assert "看不见" not in text
    assert text.count("部门") >= 2
    assert "合计" in text
