"""Word files (.docx), through unstructured: one page of text, headings as ``#`` lines, tables as rows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

from chinese_alpaca_rag.ingest.archive import checked_archive, transitional
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.html_tables import html_table_lines
from chinese_alpaca_rag.ingest.joining import collapse_spaces
from chinese_alpaca_rag.ingest.offline_unstructured import partition_function
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.ingest.word_markup import HEADER_ROW_MARK, HEADING_MARK, make_plain
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_HEADING = re.compile(f"^(.*?){HEADING_MARK}([1-6])(.*)$", re.DOTALL)
_MARKS = re.compile(f"{HEADING_MARK}[1-6]|{HEADER_ROW_MARK}")
_LONGEST_HEADING = 120
_NUMBERED = re.compile(r"[（(]?[\d一二三四五六七八九十百a-zA-Z.]{1,8}[.、)）．:：]|[①-⑳•●■◆▪➢✓-]|第.{1,6}[章节条款]")
_PAGE_NUMBER = re.compile(
    r"[\s\d/|·—–-]*|第?\s*\d*\s*页\s*[,，/]?\s*(共\s*\d*\s*页)?|page\s*\d*(\s*of\s*\d*)?", re.IGNORECASE
)


def read_word(data: bytes, name: str) -> ParsedDocument:
    """A Word file; its title is the file's own, else its first title paragraph, else ``name``.

    DocumentRefusedError for a file that is damaged, hostile or without text; MissingExtraError without the
    ``office`` extra.
    """
    partition = partition_function("docx")
    import docx

    with checked_archive(data, "Word") as archive:
        data = transitional(archive, data)
    try:
        document = docx.Document(io.BytesIO(data))
        stated = document.core_properties.title
        make_plain(document)
        plain = io.BytesIO()
        document.save(plain)
    except (KeyError, ValueError, AttributeError, TypeError, SyntaxError) as error:
        raise damaged("Word", f"{type(error).__name__}: {error}") from None
    elements = partition(file=plain, languages=[""], include_page_breaks=False)
    blocks = _blocks(elements)
    text = clean_page("\n".join(blocks))
    if not text.strip():
        raise without_text()
    heading = next((block.removeprefix("# ") for block in blocks if block.startswith("# ")), "")
    return ParsedDocument(format="docx", title=own_title(stated, heading) or name, pages=(Page(1, text),))


def _blocks(elements: Iterable[Any]) -> list[str]:
    """The lines of the page. Headers and footers come where they begin to apply, each text once."""
    blocks: list[str] = []
    margins: set[str] = set()
    for element in elements:
        if element.category in ("Header", "Footer"):
            text = _MARKS.sub("", element.text).strip()
            if text not in margins and not _PAGE_NUMBER.fullmatch(text):
                margins.add(text)
                blocks.append(text)
        elif element.category == "Table":
            blocks += ["", *_table(element), ""]
        else:
            blocks += _paragraph(element)
    return blocks


def _paragraph(element: Any) -> list[str]:
    heading = _HEADING.match(element.text)
    if heading:
        text = collapse_spaces(_MARKS.sub("", heading.group(1) + heading.group(3)))
        if len(text) <= _LONGEST_HEADING:
            return ["", f"{'#' * int(heading.group(2))} {text}"] if text else []
        return [text]
    text = _MARKS.sub("", element.text).strip()
    if element.category == "ListItem" and text and not _NUMBERED.match(text):
        return [f"- {text}"]
    return [text] if text else []


def _table(element: Any) -> list[str]:
    markup = element.metadata.text_as_html
    if not markup:
        return [_MARKS.sub("", element.text)]
    header_rows = 0
    for row in markup.split("</tr>"):
        if HEADER_ROW_MARK not in row:
            break
        header_rows += 1
    return html_table_lines(_MARKS.sub("", markup), header_rows or None)
