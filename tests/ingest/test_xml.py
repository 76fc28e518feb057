"""XML of any kind."""

from __future__ import annotations

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.reading import read_bytes, read_document
from chinese_alpaca_rag.ingest.xml_text import read_xml
from tests.shared_data import shared_data


def text_of(body: str) -> str:
    return read_xml(body.encode(), "x").pages[0].text


def test_leaves_are_named_and_mixed_text_is_kept() -> None:
    text = text_of("<书><title>年假规定</title><段>员工<强调>每年</强调>有假。</段><空/></书>")
    assert text == "title：年假规定\n员工\n强调：每年\n有假。"
    assert read_xml("<a><title>年假规定</title></a>".encode(), "x").title == "年假规定"


def test_attributes_that_hold_words() -> None:
    text = text_of('<a xmlns:b="urn:x" id="n1" 说明="每年十五天" count="3"><c>x</c></a>')
    assert text == "a.说明：每年十五天\nc：x"


@pytest.mark.parametrize("codec", ["gb18030", "gb2312", "big5", "utf-16"])
def test_declared_encodings(codec: str) -> None:
    words = "關於員工請假規定的說明" if codec == "big5" else "关于员工请假规定的说明"
    data = f'<?xml version="1.0" encoding="{codec}"?>\n<a>{words}</a>'.encode(codec)
    assert read_xml(data, "x").pages[0].text == f"a：{words}"


def test_entities_lose_no_text() -> None:
    assert text_of("<a>甲&nbsp;乙&unknown;丙&lt;丁</a>") == "a：甲 乙&unknown;丙<丁"
    assert text_of('<!DOCTYPE a SYSTEM "file:///none.dtd"><a>前&mdash;后</a>') == "a：前—后"


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://x.test/"> %b;]><a>x</a>',
        "<a><b></a>",
        "<a>" * 50_000,
        "<a/>",
        "text",
    ],
)
def test_hostile_broken_and_empty_files_are_refused(body: str) -> None:
    with pytest.raises(DocumentRefusedError):
        read_xml(body.encode(), "x")


def test_xml_that_is_a_page_of_html() -> None:
    data = '<?xml version="1.0"?><html><body><p>正文。</p></body></html>'.encode()
    with ParserProcess() as parser:
        assert read_bytes(data, "a.xml", parser=parser).format == "html"
        assert read_bytes("<a>正文</a>".encode(), "a.xml", parser=parser).format == "xml"


def test_awkward_files() -> None:
    read = 0
    with ParserProcess() as parser:
        for path in sorted(shared_data("awkward").rglob("*.xml")):
            try:
                read += bool(read_document(path, parser=parser).pages[0].text.strip())
            except DocumentRefusedError as error:
                assert "no text" in error.message.en
    assert read == 4
