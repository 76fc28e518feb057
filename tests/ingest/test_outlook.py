"""Outlook messages."""

from __future__ import annotations

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.outlook import read_outlook, unfolded_rtf
from chinese_alpaca_rag.ingest.reading import read_document
from tests.shared_data import shared_data

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("packed", "text"),
    [  # the examples of [MS-OXRTFCP] 3
        (
            "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0",
            b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n",
        ),
        ("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0", b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"),
    ],
)
def test_compressed_rtf(packed: str, text: bytes) -> None:
    assert unfolded_rtf(bytes.fromhex(packed)) == text


def test_compressed_rtf_that_is_damaged_or_a_bomb() -> None:
    whole = bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")
    for length in range(16, len(whole)):
        unfolded_rtf(whole[:length])
    for data in (b"", b"x" * 40, whole[:4] + b"\xff\xff\xff\x7f" + whole[8:]):
        with pytest.raises(DocumentRefusedError):
            unfolded_rtf(data)


@pytest.mark.parametrize("data", [OLE, OLE + b"\0" * 4096, b"no message"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentRefusedError):
        read_outlook(data, "x")


def test_awkward_files() -> None:
    with ParserProcess() as parser:
        found = {
            path.name: read_document(path, parser=parser) for path in sorted(shared_data("awkward").rglob("*.msg"))
        }
    assert len(found) == 8
    assert "canvas.png" in found["msg_with_png_attachment.msg"].missing
    copied = found["fake-email-with-cc-and-bcc.msg"].pages[0].text
    assert all(f"{kind}：" in copied for kind in ("发件人", "收件人", "抄送", "密送", "主题"))
    assert found["fake-email.msg"].title == "Test Email"
    assert "ATT00002.bin" in found["fake-encrypted.msg"].missing
