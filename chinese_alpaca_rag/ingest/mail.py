"""Mail (.eml): what it says of itself, its words, and the names of what is attached.

The standard library takes the message apart. Bodies and headers that do not say their encoding, or say a wrong one,
go through our own decoding, as mail from Chinese systems often needs.
"""

from __future__ import annotations

import codecs
import email
import email.header
import email.utils
import re
from collections.abc import Iterator, Sequence
from email.message import Message

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.cleaning import clean_page, visible
from chinese_alpaca_rag.ingest.decoding import decode
from chinese_alpaca_rag.ingest.markup import read_html
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_HEADERS = (("From", "发件人"), ("To", "收件人"), ("Cc", "抄送"), ("Date", "日期"), ("Subject", "主题"))
_ADDRESSED = frozenset(("From", "To", "Cc"))
_DEEPEST = 5  # messages inside messages
_MOST_PARTS = 1_000
_NAMES_TOLD = 20
_HEADER_LINE = re.compile(rb"[!-9;-~]+:")


class _Reading:
    """What is found while the parts of one message are gone through."""

    def __init__(self, encoding: str | None) -> None:
        self.encoding = encoding
        self.lines: list[str] = []
        self.attached: list[str] = []
        self.unread: list[str] = []
        self.encodings: dict[str, float] = {}

    def text(self, part: Message) -> str:
        """The words of one text part; "" where it holds none or cannot be decoded, which is then noted."""
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes) or not data.strip():
            return ""
        declared = part.get_content_charset()
        try:
            decoded = decode(data, encoding=self.encoding, declared=declared)
            self.encodings[decoded.encoding] = decoded.confidence
            if part.get_content_type() == "text/html":
                return read_html(decoded.text.encode("utf-8", "replace"), "", encoding="utf-8").pages[0].text
        except DocumentRefusedError as error:
            self.unread.append(f"{part.get_content_type()}: {error.message}")
            return ""
        return decoded.text


def read_mail(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """A message as one page: its headers, its plain text or else its HTML, messages inside it the same way.

    Attachments are not read: ``missing`` names them. DocumentRefusedError for what is no message.
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in data[:64]:
        data = decode(data).text.encode("utf-8", "surrogatepass")  # mail that some program saved as one text
    head = data.lstrip()[:4096]
    if not _HEADER_LINE.match(head) and not head.startswith(b"From "):
        raise damaged("EML")
    message = email.message_from_bytes(data.lstrip())
    reading = _Reading(encoding)
    _write(message, reading)
    text = clean_page("\n".join(reading.lines))
    if not text.strip():
        raise without_text()
    codec = next(iter(reading.encodings), "")
    return ParsedDocument(
        format="eml",
        title=own_title(_header(message, "Subject")) or name,
        pages=(Page(1, text),),
        encoding=codec,
        missing=not_read(reading.attached, reading.unread),
        confidence=min(reading.encodings.values(), default=1.0),
    )


def _write(message: Message, reading: _Reading) -> None:
    """Headers and words of ``message`` and of the messages inside it, in order; over a stack, not by recursion."""
    pending: list[tuple[Message, int]] = [(message, 0)]
    parts = 0
    while pending:
        current, depth = pending.pop()
        for field, label in _HEADERS:
            value = _header(current, field)
            if value:
                reading.lines.append(f"{label}：{value}")
        reading.lines.append("")
        inner: list[tuple[Message, int]] = []
        for part in _leaves(current):
            parts += 1
            if parts > _MOST_PARTS:
                reading.unread.append(f"> {_MOST_PARTS}")
                return
            if part.get_content_type() == "message/rfc822":
                nested = part.get_payload()
                if isinstance(nested, list) and nested and isinstance(nested[0], Message) and depth < _DEEPEST:
                    inner.append((nested[0], depth + 1))
                else:
                    reading.unread.append("message/rfc822")
            elif _is_attachment(part):
                reading.attached.append(_file_name(part))
            else:
                reading.lines += [reading.text(part), ""]
        pending += reversed(inner)


def _leaves(message: Message) -> Iterator[Message]:
    """The parts to read: of alternatives the plain text, or the HTML where that says nothing."""
    stack = [message]
    while stack:
        part = stack.pop()
        if part.get_content_type() == "message/rfc822" or not part.is_multipart():
            yield part
            continue
        children = [child for child in part.get_payload() if isinstance(child, Message)]
        if part.get_content_type() == "multipart/alternative":
            children = _best(children)
        stack += reversed(children)


def _best(alternatives: list[Message]) -> list[Message]:
    for wanted in ("text/plain", "text/html"):
        for part in alternatives:
            data = part.get_payload(decode=True) if part.get_content_type() == wanted else None
            if isinstance(data, bytes) and data.strip():
                return [part]
    composed = [part for part in alternatives if part.is_multipart()]
    return (composed or alternatives)[:1]


def _is_attachment(part: Message) -> bool:
    return part.get_content_maintype() != "text" or part.get_content_disposition() == "attachment"


def _file_name(part: Message) -> str:
    name = _decoded_words(part.get_filename() or "")
    return " ".join(visible(name).split()) or part.get_content_type()


def _header(message: Message, field: str) -> str:
    values = [_decoded_words(value) for value in message.get_all(field, [])]
    return " ".join(visible(", ".join(values)).split())


def _decoded_words(value: object) -> str:
    """A header as it is meant: encoded words decoded, raw bytes by our own decoding."""
    pieces: list[str] = []
    try:
        found = email.header.decode_header(value)  # type: ignore[arg-type]
    except (email.errors.HeaderParseError, ValueError):
        return str(value)
    for word, charset in found:
        piece = word.encode("ascii", "surrogateescape") if isinstance(word, str) and _is_raw(word) else word
        if isinstance(piece, bytes):
            named = None if charset in (None, "unknown-8bit") else charset
            try:
                pieces.append(decode(piece, declared=named).text)
            except DocumentRefusedError:
                pieces.append(piece.decode("ascii", "backslashreplace"))
        else:
            pieces.append(piece)
    return "".join(pieces)


def _is_raw(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def not_read(attached: Sequence[str], unread: Sequence[str]) -> str:
    """What of a message is not in its text, for people: the names of attachments, and parts with their reasons."""
    parts: list[Words] = []
    if attached:
        named = "、".join(attached[:_NAMES_TOLD]) + ("…" if len(attached) > _NAMES_TOLD else "")
        parts.append(
            Words(
                zh=f"{len(attached)} 个附件没有读取：{named}。请另存附件后单独加入。",
                en=f"{len(attached)} attachments are not read ({named}): save them and add them on their own.",
            )
        )
    if unread:
        parts.append(
            Words(
                zh=f"有部分内容无法读取：{'；'.join(unread[:_NAMES_TOLD])}",
                en=f"Parts that could not be read: {'; '.join(unread[:_NAMES_TOLD])}",
            )
        )
    return " ".join(map(str, parts))
