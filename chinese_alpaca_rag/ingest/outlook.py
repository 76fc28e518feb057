"""Outlook messages (.msg), through python-oxmsg: headers, words, names of attachments.

The body is in up to three forms. Plain text is preferred, then HTML, then RTF, which is stored compressed. After:
[MS-OXMSG] and [MS-OXRTFCP], Microsoft.
"""

from __future__ import annotations

from typing import Any

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.cleaning import clean_page, visible
from chinese_alpaca_rag.ingest.decoding import decode
from chinese_alpaca_rag.ingest.mail import not_read
from chinese_alpaca_rag.ingest.markup import read_html
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.rtf import read_rtf
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_SUBJECT, _BODY, _HTML, _RTF = 0x0037, 0x1000, 0x1013, 0x1009
_STRING8 = 0x001E
_KINDS = {1: "收件人", 2: "抄送", 3: "密送"}
_RECIPIENT_KIND = 0x0C15
_MOST_RECIPIENTS = 500
_FIRST_YEAR = 1900  # messages never sent are dated 1601
# What the dictionary of compressed RTF holds before the first byte, and the largest text that one unfolds to.
_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans Serif"
    rb"SymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0" + b"\r\n" + rb"\par \pard\plain\f0\fs20\b\i\u"
    rb"\tab\tx"
)
_LARGEST_RTF = 64 << 20  # bytes


def read_outlook(data: bytes, name: str) -> ParsedDocument:
    """An Outlook message as one page. Attachments, messages among them, are not read: ``missing`` names them.

    DocumentRefusedError for a file that is damaged or holds no text.
    """
    from oxmsg import Message

    unread: list[str] = []
    try:
        message = Message.load(data)
        subject = _string(message, _SUBJECT)
        lines = _headers(message, subject)
        body = _body(message, unread)
        attached = [_name(one) for one in message.attachments]
    except DocumentRefusedError:
        raise
    except Exception as error:
        raise damaged("Outlook", f"{type(error).__name__}: {str(error)[:200]}") from None
    text = clean_page("\n".join([*lines, "", body]))
    if not text.strip():
        raise without_text()
    return ParsedDocument(
        format="msg", title=own_title(subject) or name, pages=(Page(1, text),), missing=not_read(attached, unread)
    )


def _headers(message: Any, subject: str) -> list[str]:
    lines = [f"发件人：{visible(message.sender)}"] if message.sender else []
    by_kind: dict[str, list[str]] = {}
    for recipient in message.recipients[:_MOST_RECIPIENTS]:
        kind = _KINDS.get(recipient.properties.int_prop_value(_RECIPIENT_KIND) or 1, _KINDS[1])
        shown = " ".join(dict.fromkeys(filter(None, (recipient.name, recipient.email_address))))
        by_kind.setdefault(kind, []).append(shown)
    lines += [f"{kind}：{', '.join(by_kind[kind])}" for kind in _KINDS.values() if kind in by_kind]
    if message.sent_date and message.sent_date.year >= _FIRST_YEAR:
        lines.append(f"日期：{message.sent_date.isoformat(sep=' ', timespec='minutes')}")
    return [*lines, f"主题：{subject}"] if subject else lines


def _body(message: Any, unread: list[str]) -> str:
    plain = _string(message, _BODY)
    if plain.strip():
        return plain
    try:
        markup = message.properties.binary_prop_value(_HTML) or _string(message, _HTML).encode()
        if markup:
            return read_html(markup, "").pages[0].text
    except DocumentRefusedError as error:
        if "<" in str(markup[:200]) and len(markup) > 200:
            unread.append(f"HTML: {error.message}")
    packed = message.properties.binary_prop_value(_RTF)
    if packed:
        try:
            return read_rtf(unfolded_rtf(packed), "").pages[0].text
        except DocumentRefusedError as error:
            unread.append(f"RTF: {error.message}")
    return ""


def _string(message: Any, identifier: int) -> str:
    """A text of the message; bytes that are not in the code page it states go through our own decoding."""
    properties = message.properties
    try:
        return properties.str_prop_value(identifier) or ""
    except (UnicodeDecodeError, LookupError):
        return decode(properties._storage.property_stream_bytes(identifier, _STRING8)).text


def _name(attachment: Any) -> str:
    try:
        return " ".join(visible(attachment.file_name or "").split()) or attachment.mime_type or "?"
    except (UnicodeDecodeError, LookupError, KeyError):
        return "?"


def unfolded_rtf(packed: bytes) -> bytes:
    """The RTF in a PidTagRtfCompressed value ([MS-OXRTFCP] 2.1.3); DocumentRefusedError where it is damaged."""
    if len(packed) < 16:
        raise damaged("RTF")
    size, kind = int.from_bytes(packed[4:8], "little"), packed[8:12]
    content = packed[16:]
    if kind == b"MELA":
        return content[:size]
    if kind != b"LZFu" or size > _LARGEST_RTF:
        raise damaged("RTF", f"{size} bytes of kind {kind!r}")
    window = bytearray(_DICTIONARY + bytes(4096 - len(_DICTIONARY)))
    place = len(_DICTIONARY)
    out = bytearray()
    position = 0
    while position < len(content) and len(out) < size:
        control = content[position]
        position += 1
        for bit in range(8):
            if control >> bit & 1:
                if position + 2 > len(content):
                    return bytes(out)
                reference = int.from_bytes(content[position : position + 2], "big")
                position += 2
                start, length = reference >> 4, (reference & 15) + 2
                if start == place:
                    return bytes(out)
                run = (window[(start + offset) % 4096] for offset in range(length))
            elif position < len(content):
                run = (byte for byte in content[position : position + 1])
                position += 1
            else:
                return bytes(out)
            for byte in run:  # one by one: a run may repeat what it is just writing
                out.append(byte)
                window[place] = byte
                place = (place + 1) % 4096
    return bytes(out[:size])
