from __future__ import annotations

from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError, WrongUsageError
from chinese_alpaca_rag.ingest.formats import CONVERTIBLE, SUFFIXES, detect_format
from chinese_alpaca_rag.ingest.reading import read_bytes, read_document
from tests.ingest.office_files import lines, pdf_file, sheets_file, word_file

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def test_every_suffix_has_a_parser_version() -> None:
    from chinese_alpaca_rag.ingest.parsers import PARSERS

    assert set(SUFFIXES.values()) == {name for name, row in PARSERS.items() if not row.internal}
    assert not set(SUFFIXES) & set(CONVERTIBLE)


@pytest.mark.parametrize(
    ("data", "filename", "expected"),
    [
        (b"plain", "a.TXT", "text"),
        (b"plain", "README", "text"),
        (b"# x", "a.md", "markdown"),
        (b"<!DOCTYPE html><p>x", "a.doc", "html"),
        (b"\xef\xbb\xbf  <html><table></table>", "export.xls", "html"),
        (b"a\tb\n1\t2\n", "export.xls", "csv"),
        (b"<!DOCTYPE html>", "source.txt", "text"),
        (b"<p>fragment</p>", "a.html", "html"),
        (pdf_file([lines("x")]), "a.txt", "pdf"),
        (b"\r\n\r\n%PDF-1.4 ...", "a.pdf", "pdf"),
        (sheets_file(lambda workbook: None), "a.docx", "xlsx"),
        (word_file(lambda document: None), "a.zip", "docx"),
    ],
)
def test_bytes_decide_where_they_speak(data: bytes, filename: str, expected: str) -> None:
    assert detect_format(data, filename) == expected


@pytest.mark.parametrize(
    ("data", "filename", "reason", "hint"),
    [
        (OLE, "old.doc", "damaged", "save"),
        (OLE, "renamed.docx", "damaged", "save"),
        (OLE, "old.xls", "damaged", "save"),
        (OLE, "unknown.bin", "97-2003", ".docx"),
        (b"{\\rtf1 }", "a.rtf", "no text", "OCR"),
        (b"x", "a.odt", "OpenDocument", "save"),
        (b"x", "a.pages", "Pages", ".docx"),
        (b"\x7fELF", "program.exe", ".exe", ".txt"),
        (b"PK\x03\x04 no archive", "a.docx", "damaged", "save"),
        (b"not a spreadsheet", "a.xlsx", "damaged", "save"),
        (b"", "a.txt", "empty", "saved"),
        (b" \n ", "a.txt", "no text", "OCR"),
    ],
)
def test_refusals_say_why_and_what_to_do(data: bytes, filename: str, reason: str, hint: str) -> None:
    with pytest.raises(DocumentRefusedError) as caught:
        read_bytes(data, filename)
    assert reason in caught.value.message.en
    assert hint in caught.value.hint.en
    assert caught.value.message.zh != caught.value.message.en


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentRefusedError):
        read_document(tmp_path / "nothing.txt")


def test_an_encoding_for_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("援".encode("big5"))
    assert read_document(path, encoding="big5").pages[0].text == "援"
    with pytest.raises(WrongUsageError):
        read_document(path, encoding="nonsense")


def test_every_format_by_way_of_the_child(tmp_path: Path) -> None:
    files = {
        "a.pdf": pdf_file([lines("年假五天。")]),
        "b.html": "<p>年假五天。</p>".encode("gbk"),
        "c.txt": "年假五天。".encode("big5"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        document = read_document(tmp_path / name)
        assert document.pages[0].text == "年假五天。"
        assert document.title == name[0]


def test_office_formats_by_way_of_the_child() -> None:
    pytest.importorskip("openpyxl", reason="needs the office extra")
    word = word_file(lambda document: document.add_paragraph("年假五天。"))
    sheet = sheets_file(lambda workbook: workbook.active.append(["年假五天。"]))
    assert read_bytes(word, "a.docx").pages[0].text == "年假五天。"
    assert read_bytes(sheet, "a.xlsx").pages[0].text == "年假五天。"


def test_without_an_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from chinese_alpaca_rag.ingest.offline_unstructured import partition_function
    from chinese_alpaca_rag.ingest.sheets import read_sheets

    for name in [name for name in sys.modules if name.partition(".")[0] in ("unstructured", "docx", "openpyxl")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("unstructured", "openpyxl"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        partition_function("docx")
    assert "[unstructured]" in caught.value.hint.en
    with pytest.raises(MissingExtraError) as caught:
        read_sheets(b"", "x")
    assert "[office]" in caught.value.hint.en
