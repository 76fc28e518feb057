"""EPUB."""

from __future__ import annotations

import io
import zipfile

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.epub import read_epub
from chinese_alpaca_rag.ingest.formats import detect_format
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.reading import read_document
from tests.shared_data import shared_data

_CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'


def book(parts: dict[str, str], *, spine: list[str] | None = None, extra: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", _CONTAINER)
        items = "".join(f'<item id="{one}" href="{one}.xhtml" media-type="application/xhtml+xml"/>' for one in parts)
        order = "".join(f'<itemref idref="{one}"/>' for one in spine or parts)
        archive.writestr(
            "OPS/book.opf",
            '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>书名</dc:title></metadata>'
            f"<manifest>{items}</manifest><spine>{order}</spine></package>",
        )
        for name, content in {**{f"OPS/{one}.xhtml": text for one, text in parts.items()}, **(extra or {})}.items():
            archive.writestr(name, content)
    return stream.getvalue()


def page(heading: str, words: str) -> str:
    return f"<!DOCTYPE html><html><body><h1>{heading}</h1><p>{words}</p></body></html>"


def test_parts_come_in_the_order_of_the_spine() -> None:
    data = book({"a": page("第二章", "乙。"), "b": page("第一章", "甲。")}, spine=["b", "a"])
    document = read_epub(data, "x")
    assert detect_format(data, "book.zip") == "epub"
    assert (document.title, document.page_kind, document.missing) == ("书名", "page", "")
    assert [(one.number, one.label) for one in document.pages] == [(1, "第一章"), (2, "第二章")]
    assert "甲。" in document.pages[0].text


def test_parts_that_are_not_there_are_named() -> None:
    document = read_epub(book({"a": page("一", "甲。")}, spine=["a", "lost"]), "x")
    assert "lost" in document.missing


def test_copy_protection_and_damage_are_refused_and_hidden_fonts_are_not() -> None:
    def encryption(algorithm: str) -> dict[str, str]:
        return {"META-INF/encryption.xml": f'<encryption><EncryptionMethod Algorithm="{algorithm}"/></encryption>'}

    parts = {"a": page("一", "甲。")}
    for extra in (encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc"), {"META-INF/rights.xml": "<x/>"}):
        with pytest.raises(DocumentRefusedError, match=r"password|密码"):
            read_epub(book(parts, extra=extra), "x")
    assert read_epub(book(parts, extra=encryption("http://www.idpf.org/2008/embedding")), "x").pages[0].text
    with pytest.raises(DocumentRefusedError):
        read_epub(book({"a": page("", "")}), "x")
    with pytest.raises(DocumentRefusedError):
        read_epub(book(parts)[:300], "x")


def test_awkward_files() -> None:
    with ParserProcess() as parser:
        for path in sorted(shared_data("awkward").rglob("*.epub")):
            assert any(one.text.strip() for one in read_document(path, parser=parser).pages)
