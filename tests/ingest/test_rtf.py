"""RTF."""

from __future__ import annotations

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.formats import detect_format
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.reading import read_document
from chinese_alpaca_rag.ingest.rtf import read_rtf
from tests.shared_data import shared_data

FONTS = rb"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset134 SimSun;}{\f2\fcharset136 MingLiU;}}"


def hexadecimal(text: str, codec: str) -> bytes:
    return b"".join(b"\\'%02x" % byte for byte in text.encode(codec))


def text_of(body: bytes, head: bytes = rb"\rtf1\ansi\ansicpg936" + FONTS) -> str:
    return read_rtf(b"{" + head + body + b"}", "x").pages[0].text


@pytest.mark.parametrize(("font", "codec", "text"), [(1, "gb18030", "员工年假〇一"), (2, "big5", "員工年假")])
def test_bytes_are_in_the_code_page_of_their_font(font: int, codec: str, text: str) -> None:
    assert text_of(rb"\f%d " % font + hexadecimal(text, codec) + b" abc") == f"{text} abc"


def test_a_character_whose_second_byte_is_written_as_it_is() -> None:
    high, low = "輝".encode("gb18030")  # its second byte is below 0x80
    assert low < 0x80
    low_as_written = bytes([low]) if chr(low).isalnum() else b"\\'%02x" % low
    assert text_of(rb"\f1 " + b"\\'%02x" % high + low_as_written) == "輝"


def test_unicode_with_replacements_of_any_length() -> None:
    assert text_of(rb"\uc1\u24180 ?\u20551 ?") == "年假"
    assert text_of(rb"\uc2\u24180 \'c4\'ea\uc0\u20551 x") == "年假x"
    assert text_of(rb"\uc1\u-10179 ?\u-9190 ?") == "\U0001f41a"


def test_unpaired_surrogates_do_no_harm() -> None:
    assert "好" in text_of(rb"\uc1\u-10180 ? ab \u-9190 ?\u22909 ?")


def test_tables_and_headings() -> None:
    text = text_of(
        rb"\pard\outlinelevel0 \u31456 ?\par\pard body\par\trowd\intbl Name\cell Days\cell\row"
        rb"\trowd\intbl Ann\cell 15\cell\row\pard end\par"
    )
    assert text.split("\n") == ["# 章", "body", "", "Name | Days", "Name: Ann | Days: 15", "", "end"]


def test_hidden_text_is_left_out_and_told() -> None:
    document = read_rtf(rb"{\rtf1 seen {\v not seen} again}", "x")
    assert document.pages[0].text == "seen  again"
    assert "8" in document.hidden


def test_what_is_no_text_stays_out() -> None:
    body = (
        rb"{\info{\title Own title}{\author A}}{\stylesheet{\s0 Normal;}}{\*\unknown x}{\pict 89504e47}"
        rb"{\header head}words\bin4 \{}xmore"
    )
    document = read_rtf(b"{" + rb"\rtf1" + body + b"}", "x")
    assert document.title == "Own title"
    assert document.pages[0].text == "head\nwordsmore"


def test_bytes_of_another_encoding_are_told() -> None:
    document = read_rtf(rb"{\rtf1\ansi\ansicpg936 good\'81\'20 text}", "x")
    assert document.missing


def test_hostile_files_end_soon() -> None:
    with pytest.raises(DocumentRefusedError):
        read_rtf(rb"{\rtf1" + b"{" * 100_000, "x")
    with pytest.raises(DocumentRefusedError):
        read_rtf(b"plain", "x")
    assert read_rtf(rb"{\rtf1 a" + rb"{\b b}" * 50_000 + b"}", "x").pages[0].text.startswith("ab")


def test_a_doc_that_is_rtf() -> None:
    assert detect_format(rb"{\rtf1 x}", "old.doc") == "rtf"


def test_awkward_files() -> None:
    with ParserProcess() as parser:
        for path in sorted(shared_data("awkward").rglob("*.rtf")):
            document = read_document(path, parser=parser)
            assert document.pages[0].text.strip()
            assert "\\" not in document.pages[0].text[:200]


def test_the_default_font_has_a_code_page_too() -> None:
    head = rb"\rtf1\ansi\ansicpg1252\deff1{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset134 SimSun;}}"
    assert text_of(hexadecimal("年假", "gb18030"), head) == "年假"


def test_what_is_cut_off_is_told() -> None:
    assert read_rtf(rb"{\rtf1 whole}", "x").missing == ""
    assert read_rtf(rb"{\rtf1 whole}" + b"\r\n\0", "x").missing == ""
    for data in (rb"{\rtf1 cut", rb"{\rtf1 text\bin999 abc", rb"{\rtf1 text}{\rtf1 more text}"):
        assert read_rtf(data, "x").missing, data


def test_headings_by_style_and_margins_once() -> None:
    body = (
        rb"{\stylesheet{\s0 Normal;}{\s1\outlinelevel0 heading 1;}}{\header Our company\par}{\footer Page 3}"
        rb"\pard\s1 Chapter\par\pard\s0 body\par{\header Our company}\pard more\par"
    )
    assert text_of(body).split("\n") == ["Our company", "", "# Chapter", "body", "more"]
