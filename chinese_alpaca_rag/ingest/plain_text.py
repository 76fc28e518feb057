"""Plain text, Markdown and comma-separated values: formats that are read in this process."""

from __future__ import annotations

import csv
import io
import re

from chinese_alpaca_rag.ingest.cleaning import clean_page, invisible_count
from chinese_alpaca_rag.ingest.decoding import Decoded, decode
from chinese_alpaca_rag.ingest.hidden import told_hidden
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.tables import table_lines
from chinese_alpaca_rag.ingest.unwrapping import unwrap
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n(?:---|\.\.\.)\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,2}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_HTML_COMMENT = re.compile(r"<!--.*?-->[ \t]*\n?", re.DOTALL)
_FENCED = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_LONGEST_CELL = 1 << 20


def read_text(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """A text file: one page, the text as it stands but for broken paragraphs; the title is the file's name."""
    decoded = decode(data, encoding=encoding)
    return _whole("text", name, decoded, unwrap(clean_page(decoded.text)))


def read_markdown(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """A Markdown file: its source, without comments and broken paragraphs; the title is its own where it has one."""
    decoded = decode(data, encoding=encoding)
    text = clean_page(decoded.text)
    if "<!--" in text and not _FENCED.search(text):
        text = clean_page(_HTML_COMMENT.sub("", text))
    front = _FRONT_MATTER.match(text + "\n")
    found = (front and _FRONT_TITLE.search(front.group(1))) or _HEADING.search(text)
    title = found.group(1).replace("*", "").replace("`", "").strip() if found else ""
    return _whole("markdown", title or name, decoded, unwrap(text))


def read_csv(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """Separated values (comma, tab, semicolon or bar): one page, a row a line, named by the header if there is one."""
    decoded = decode(data, encoding=encoding)
    text = clean_page(decoded.text)
    csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise damaged("CSV", str(error)) from None
    return _whole("csv", name, decoded, clean_page("\n".join(table_lines(rows))))


def _delimiter(text: str) -> str:
    """The separator that cuts the first lines into the same number of cells, and into the most."""
    lines = [line for line in text.split("\n", 30)[:30] if line]

    def evenness(delimiter: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        commonest = max(set(widths), key=widths.count, default=1)
        return (widths.count(commonest) / max(1, len(widths)) if commonest > 1 else 0.0), commonest

    return max(",\t;|", key=evenness)


def _whole(format_name: str, title: str, decoded: Decoded, text: str) -> ParsedDocument:
    if not text.strip():
        raise without_text()
    missing = ""
    if decoded.cut_bytes:
        missing = str(
            Words(
                zh=f"文件末尾的最后一个字符不完整（{decoded.cut_bytes} 字节），没有收入。",
                en=f"The file ends inside its last character ({decoded.cut_bytes} bytes), which is left out.",
            )
        )
    return ParsedDocument(
        format=format_name,
        title=title,
        pages=(Page(1, text),),
        encoding=decoded.encoding,
        missing=missing,
        confidence=decoded.confidence,
        hidden=told_hidden(invisible_count(decoded.text)),
    )
