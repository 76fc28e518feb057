"""OpenDocument text, sheets and slides."""

from __future__ import annotations

import io
import zipfile

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.formats import detect_format
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.opendocument import read_opendocument
from chinese_alpaca_rag.ingest.reading import read_document
from tests.shared_data import shared_data

_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{full}:1.0"'
    for name, full in {
        "office": "office", "text": "text", "table": "table", "draw": "drawing", "style": "style",
        "presentation": "presentation",
    }.items()
)  # fmt: skip


def file(body: str, *, kind: str = "text", styles: str = "", manifest: str = "", meta: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        archive.writestr(
            "content.xml",
            f"<office:document-content {_NAMESPACES}><office:automatic-styles>{styles}</office:automatic-styles>"
            f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>",
        )
        if manifest:
            archive.writestr("META-INF/manifest.xml", manifest)
        if meta:
            archive.writestr("meta.xml", meta)
    return stream.getvalue()


def text_of(body: str) -> str:
    return read_opendocument(file(body), "x").pages[0].text


def test_headings_paragraphs_lists_and_spaces() -> None:
    body = (
        '<text:h text:outline-level="2">第一章</text:h><text:p>甲<text:s text:c="3"/>乙<text:tab/>丙</text:p>'
        "<text:list><text:list-item><text:p>一项</text:p></text:list-item></text:list>"
        "<text:p>脚注<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>说明</text:p>"
        "</text:note-body></text:note>在此</text:p>"
    )
    assert text_of(body) == "## 第一章\n甲   乙\t丙\n- 一项\n脚注（注：说明）在此"


def test_tables_are_rows_with_their_header() -> None:
    def row(*cells: str) -> str:
        inside = "".join(f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>" for cell in cells)
        return f"<table:table-row>{inside}</table:table-row>"

    head = f"<table:table-header-rows>{row('姓名', '年假')}</table:table-header-rows>"
    table = f"<table:table>{head}{row('张三', '15')}</table:table>"
    assert "姓名：张三 | 年假：15" in text_of(table)


def test_sheets_are_pages_and_empty_repeats_cost_nothing() -> None:
    def sheet(name: str, value: str) -> str:
        return (
            f'<table:table table:name="{name}"><table:table-row><table:table-cell table:number-columns-repeated="2">'
            f'<text:p>{value}</text:p></table:table-cell><table:table-cell table:number-columns-repeated="16382"/>'
            '</table:table-row><table:table-row table:number-rows-repeated="1048575"><table:table-cell/>'
            "</table:table-row></table:table>"
        )

    document = read_opendocument(file(sheet("甲", "一") + sheet("乙", "二"), kind="spreadsheet"), "x")
    assert [(page.label, page.text) for page in document.pages] == [("甲", "一 | 一"), ("乙", "二 | 二")]
    assert document.page_kind == "sheet"


def test_slides_are_pages() -> None:
    body = '<draw:page draw:name="首页"><draw:frame><draw:text-box><text:p>标题</text:p></draw:text-box></draw:frame>'
    body += "<presentation:notes><text:p>讲稿</text:p></presentation:notes></draw:page>"
    document = read_opendocument(file(body, kind="presentation"), "x")
    assert [(page.label, page.text) for page in document.pages] == [("首页", "标题\n备注：\n讲稿")]


def test_hidden_and_deleted_text_is_left_out() -> None:
    style = '<style:style style:name="H"><style:text-properties text:display="none"/></style:style>'
    body = (
        "<text:tracked-changes><text:p>删掉的</text:p></text:tracked-changes>"
        '<text:p>看得见<text:span text:style-name="H">看不见</text:span></text:p>'
    )
    document = read_opendocument(file(body, styles=style), "x")
    assert document.pages[0].text == "看得见"
    assert "3" in document.hidden


def test_refusals() -> None:
    locked = file("<text:p>x</text:p>", manifest="<m><manifest:encryption-data/></m>")
    for data, said in ((locked, "password|密码"), (file("<text:p>"), "damaged|损坏"), (file(""), "no text|没有文字")):
        with pytest.raises(DocumentRefusedError, match=said):
            read_opendocument(data, "x")
    bomb = file("<text:p>x</text:p>").replace(b"x", b"x")
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("content.xml", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>')
    with pytest.raises(DocumentRefusedError):
        read_opendocument(stream.getvalue(), "x")
    assert detect_format(bomb, "renamed.docx") == "odt"


def test_elements_inside_each_other_without_end() -> None:
    deep = "<text:span>" * 50_000 + "深" + "</text:span>" * 50_000
    assert text_of(f"<text:p>{deep}</text:p>") == "深"


def test_awkward_files() -> None:
    read = 0
    with ParserProcess() as parser:
        for path in sorted(shared_data("awkward").rglob("*.odt")):
            try:
                document = read_document(path, parser=parser)
            except DocumentRefusedError as error:
                assert error.message.zh
                continue
            assert document.pages[0].text.strip()
            read += 1
    assert read >= 22


def test_a_hidden_section_hides_itself_only() -> None:
    body = '<text:section text:display="none"><text:p>藏着的</text:p></text:section><text:p>看得见</text:p>'
    document = read_opendocument(file(body), "x")
    assert (document.pages[0].text, "3" in document.hidden) == ("看得见", True)


def test_hidden_paragraphs_and_what_is_not_hidden_after_all() -> None:
    body = (
        '<text:p>甲<text:hidden-paragraph text:is-hidden="true"/>整段</text:p>'
        '<text:p>乙<text:hidden-text text:is-hidden="false">可见</text:hidden-text></text:p>'
        '<text:p>丙<text:hidden-text text:is-hidden="true">不可见</text:hidden-text></text:p>'
    )
    document = read_opendocument(file(body), "x")
    assert document.pages[0].text == "乙可见\n丙"
    assert "6" in document.hidden


def test_text_in_frames_does_not_run_together() -> None:
    box = "<draw:frame><draw:text-box><text:p>one</text:p><text:p>two</text:p></draw:text-box></draw:frame>"
    assert text_of(f"<text:p>main{box}</text:p>").split() == ["main", "one", "two"]


def test_values_without_text_hidden_sheets_and_long_repeats() -> None:
    style = '<style:style style:name="H"><style:table-properties table:display="false"/></style:style>'
    cell = '<table:table-cell office:value="{}"/>'
    body = (
        f'<table:table table:name="一"><table:table-row>{cell.format("15.5")}</table:table-row>'
        '<table:table-row table:number-rows-repeated="60"><table:table-cell><text:p>同</text:p></table:table-cell>'
        "</table:table-row></table:table>"
        '<table:table table:name="二" table:style-name="H"><table:table-row><table:table-cell><text:p>藏</text:p>'
        "</table:table-cell></table:table-row></table:table>"
    )
    document = read_opendocument(file(body, kind="spreadsheet", styles=style), "x")
    assert document.pages[0].text.split("\n") == ["15.5", *["同"] * 50]
    assert "10" in document.missing
    assert "1" in document.hidden
    assert document.pages[1].text == ""


def test_blank_slides_keep_their_numbers() -> None:
    box = "<draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    page = '<draw:page draw:name="{}">' + box + "</draw:page>"
    body = page.format("一", "甲") + '<draw:page draw:name="空"/>' + page.format("三", "丙")
    document = read_opendocument(file(body, kind="presentation"), "x")
    assert [(one.number, one.text) for one in document.pages] == [(1, "甲"), (2, ""), (3, "丙")]
