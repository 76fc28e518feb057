"""Office files of 1997 to 2003, through LibreOffice, and office files behind a password."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest import legacy
from chinese_alpaca_rag.ingest.formats import detect_format
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.legacy import converted, office_program
from chinese_alpaca_rag.ingest.reading import read_bytes, read_document
from tests.ingest.office_files import word_file
from tests.shared_data import shared_data

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
DOC = OLE + bytes(512) + "WordDocument".encode("utf-16-le")
NAMES = ("Workbook", "PowerPoint Document")

needs_libreoffice = pytest.mark.skipif(office_program() is None, reason="needs LibreOffice")


def test_formats_are_told_by_their_streams() -> None:
    assert detect_format(DOC, "a.bin") == "doc"
    for name, format_name in zip(NAMES, ("xls", "ppt"), strict=True):
        assert detect_format(OLE + bytes(512) + name.encode("utf-16-le"), "renamed.doc") == format_name
    assert detect_format("姓名\t年假\n张三\t15\n".encode("gb18030"), "exported.xls") == "csv"


def test_without_libreoffice_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "office_program", lambda: None)
    with pytest.raises(DocumentRefusedError) as caught:
        read_bytes(DOC, "a.doc")
    assert "LibreOffice" in caught.value.message.zh
    assert ".docx" in caught.value.hint.en


def program(folder: Path, body: str) -> str:
    """A program that stands where LibreOffice would, to see how it is run."""
    path = folder / "soffice"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="runs a shell script")
def test_a_program_that_hangs_or_is_stopped_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "still-running"
    hanging = program(tmp_path, f"(sleep 8; touch {mark}) & wait")
    monkeypatch.setattr(legacy, "office_program", lambda: hanging)
    monkeypatch.setattr(legacy, "_STARTING_SECONDS", 1.0)
    with pytest.raises(DocumentRefusedError, match="LibreOffice"):
        converted(DOC, "doc", 0.5, lambda: False)
    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()
    monkeypatch.setattr(legacy, "_STARTING_SECONDS", 60.0)
    began = time.monotonic()
    with pytest.raises(DocumentRefusedError):
        converted(DOC, "doc", 60, stopped.is_set)
    assert time.monotonic() - began < 20
    time.sleep(max(0.0, 9 - (time.monotonic() - began)))
    assert not mark.exists()  # what the program started has been ended as well


@pytest.mark.skipif(os.name != "posix", reason="runs a shell script")
def test_the_program_gets_neither_keys_nor_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    monkeypatch.setattr(
        legacy, "office_program", lambda: program(tmp_path, f"env > {seen}; ls /sys/class/net >> {seen}")
    )
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with pytest.raises(DocumentRefusedError):
        converted(DOC, "doc", 5, lambda: False)
    assert "secret-key" not in seen.read_text(encoding="utf-8")


@needs_libreoffice
def test_awkward_files() -> None:
    files = sorted(
        (path for path in shared_data("awkward").rglob("*") if path.suffix.lower() in (".doc", ".xls", ".ppt")),
        key=lambda path: (path.stat().st_size, path.name),
    )
    read = 0
    with ParserProcess() as parser:
        for path in [path for suffix in (".doc", ".xls", ".ppt") for path in files if path.suffix == suffix][::6]:
            try:
                document = read_document(path, parser=parser)
            except DocumentRefusedError as error:
                assert error.message.zh
                assert error.hint.zh
                continue
            assert document.format in ("doc", "xls", "ppt", "rtf", "html", "text", "docx", "xlsx")
            assert any(page.text.strip() for page in document.pages)
            read += 1
    assert read >= 3


def encrypted(password: str) -> bytes:
    office = pytest.importorskip("msoffcrypto.format.ooxml", reason="needs the office extra")
    out = io.BytesIO()
    data = word_file(lambda document: document.add_paragraph("绝密的年假规定。"))
    office.OOXMLFile(io.BytesIO(data)).encrypt(password, out)
    return out.getvalue()


def test_a_password_opens_an_office_file() -> None:
    data = encrypted("钥匙123")
    assert detect_format(data, "a.docx") == "encrypted"
    with ParserProcess() as parser:
        for wrong in (None, "wrong"):
            with pytest.raises(DocumentRefusedError) as caught:
                read_bytes(data, "a.docx", password=wrong, parser=parser)
            assert "--password" in caught.value.hint.en
        document = read_bytes(data, "a.docx", password="钥匙123", parser=parser)
    assert (document.format, document.pages[0].text) == ("docx", "绝密的年假规定。")


def test_a_file_that_is_only_marked_as_read_only() -> None:
    with ParserProcess() as parser:
        assert read_bytes(encrypted("VelvetSweatshop"), "a.docx", parser=parser).pages[0].text == "绝密的年假规定。"


def test_a_damaged_encrypted_file() -> None:
    with ParserProcess() as parser, pytest.raises(DocumentRefusedError):
        read_bytes(OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "a.docx", password="x", parser=parser)
