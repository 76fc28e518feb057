"""Word files (.docx): one page of text, headings as ``#`` lines, numbers as Word counts them, tables as rows.

:mod:`~chinese_alpaca_rag.ingest.word_markup` first puts all visible text where it is looked for here: in the runs of
the paragraphs of the body and of its tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from chinese_alpaca_rag.ingest.archive import sized_archive
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.hidden import hidden_words, told_hidden
from chinese_alpaca_rag.ingest.joining import collapse_spaces
from chinese_alpaca_rag.ingest.opc import Package, Part
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.tables import Row, table_lines
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.ingest.word_markup import StyleLevels, heading_level, make_plain
from chinese_alpaca_rag.ingest.word_numbering import BULLET, Numbering
from chinese_alpaca_rag.ingest.word_styles import StyleSheet
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_P, _TBL, _TR, _TC, _SECTION = f"{_W}p", f"{_W}tbl", f"{_W}tr", f"{_W}tc", f"{_W}sectPr"
_LONGEST_HEADING = 120
_WIDEST_SPAN = 1000
_NUMBERED = re.compile(r"[（(]?[\d一二三四五六七八九十百a-zA-Z.]{1,8}[.、)）．:：]|[①-⑳•●■◆▪➢✓-]|第.{1,6}[章节条款]")
_PAGE_NUMBER = re.compile(
    r"[\s\d/|·—–-]*|第?\s*\d*\s*页\s*[,，/]?\s*(共\s*\d*\s*页)?|page\s*\d*(\s*of\s*\d*)?", re.IGNORECASE
)
_BREAKS = {f"{_W}tab": "\t", f"{_W}ptab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_TEXT = f"{_W}t"
# A label that stands close to its text; others have a space behind them.
_CLOSE = re.compile("[、．。）】》]$")


def read_word(data: bytes, name: str) -> ParsedDocument:
    """A Word file; its title is the file's own, else its first heading, else ``name``.

    DocumentRefusedError for a file that is damaged, hostile or without text.
    """
    with sized_archive(data, "Word") as archive:
        package = Package(archive, "Word")
        try:
            main = package.main_part() or package.part("word/document.xml")
            if main is None or main.element.find(f"{_W}body") is None:
                raise damaged("Word")
            reader = _Reader(main)
            stated = package.title()
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise damaged("Word", f"{type(error).__name__}: {error}") from None
    text = clean_page("\n".join(reader.lines))
    if not text.strip():
        raise without_text(hidden_words(reader.hidden) if reader.hidden else None)
    heading = next((line.removeprefix("# ") for line in reader.lines if line.startswith("# ")), "")
    return ParsedDocument(
        format="docx", title=own_title(stated, heading) or name, pages=(Page(1, text),),
        hidden=told_hidden(reader.hidden),
    )  # fmt: skip


class _Reader:
    """The lines of a document. Headers and footers come where they begin to apply, each text once."""

    def __init__(self, main: Part) -> None:
        self.lines: list[str] = []
        self._part = main
        styles = next(main.related("styles"), None)
        self._styles = StyleSheet(b"" if styles is None else styles.blob)
        self._levels = StyleLevels(self._styles)
        self._style_lists: dict[str, Any] = {}
        self._margins: set[str] = set()
        body = main.element.find(f"{_W}body")
        self.hidden = make_plain(body, main, self._styles)
        self._read(body)

    @cached_property
    def _numbering(self) -> Numbering:
        part = next(self._part.related("numbering"), None)
        return Numbering(None if part is None else part.element)

    def _read(self, body: Any) -> None:
        sections = list(body.iter(_SECTION))
        self._margin(sections[:1], "header")
        for block in body:
            if block.tag == _P:
                self.lines += self._paragraph(block)
                ended = block.find(f"{_W}pPr/{_SECTION}")
                if ended is not None:
                    self._margin([ended], "footer")
                    at = sections.index(ended)
                    self._margin(sections[at + 1 : at + 2], "header")
            elif block.tag == _TBL:
                self.lines += ["", *self._table(block), ""]
        self._margin(sections[-1:], "footer")

    def _margin(self, sections: list[Any], kind: str) -> None:
        for section in sections:
            for reference in section.findall(f"{_W}{kind}Reference"):
                part = self._part.related_parts.get(reference.get(f"{_R}id", ""))
                if part is None:
                    continue
                for line in self._blocks(part.element):
                    text = line.strip()
                    if text and text not in self._margins and not _PAGE_NUMBER.fullmatch(text):
                        self._margins.add(text)
                        self.lines.append(text)

    def _blocks(self, holder: Any) -> Iterator[str]:
        for block in holder:
            if block.tag == _P:
                yield self._text(block).strip()
            elif block.tag == _TBL:
                yield from self._table(block)

    def _paragraph(self, paragraph: Any) -> list[str]:
        properties = paragraph.find(f"{_W}pPr")
        label = self._label(properties)
        text = self._text(paragraph).strip()
        level = heading_level(properties, self._levels)
        if level is not None and text:
            heading = collapse_spaces(_labelled(label, text))
            return ["", f"{'#' * (level + 1)} {heading}"] if len(heading) <= _LONGEST_HEADING else [heading]
        if not text:
            return []
        return [_labelled(label, text)]

    def _label(self, properties: Any) -> str:
        """The number that Word counts for a paragraph, BULLET for an item of a list without one."""
        own = properties.find(f"{_W}numPr") if properties is not None else None
        named = properties.find(f"{_W}pStyle") if properties is not None else None
        style = named.get(f"{_W}val", "") if named is not None else ""
        if style not in self._style_lists:
            self._style_lists[style] = self._inherited(style)
        inherited = self._style_lists[style]
        return "" if own is None and inherited is None else self._numbering.label(own, inherited)

    def _inherited(self, style: str) -> Any:
        """The numbering of a style or of one that it is based on."""
        seen: set[str] = set()
        while style in self._styles and style not in seen:
            seen.add(style)
            found = self._styles[style].find(f"{_W}pPr/{_W}numPr")
            if found is not None:
                return found
            based = self._styles[style].find(f"{_W}basedOn")
            style = based.get(f"{_W}val", "") if based is not None else ""
        return None

    def _text(self, paragraph: Any) -> str:
        pieces: list[str] = []
        for element in paragraph.iter(_TEXT, *_BREAKS):
            if element.tag == _TEXT:
                pieces.append(element.text or "")
            elif element.getparent().tag != f"{_W}tabs" and element.get(f"{_W}type") not in ("page", "column"):
                pieces.append(_BREAKS[element.tag])
        return "".join(pieces)

    def _table(self, table: Any) -> list[str]:
        rows: list[Row] = []
        header_rows = 0
        above: dict[int, str | None] = {}
        for row in table.findall(_TR):
            properties = row.find(f"{_W}trPr")
            marked = properties is not None and _is_on(properties.find(f"{_W}tblHeader"))
            if marked and header_rows == len(rows):
                header_rows += 1
            cells: list[str | None] = [""] * _count(properties, "gridBefore")
            for cell in row.findall(_TC):
                self._add_cell(cell, cells, above, repeats=marked)
            rows.append(cells)
        return table_lines(rows, header_rows=header_rows if 0 < header_rows < len(rows) else None)

    def _add_cell(self, cell: Any, cells: list[str | None], above: dict[int, str | None], *, repeats: bool) -> None:
        """A cell that goes on from the row above has its text; one over several columns has it in the first."""
        properties = cell.find(f"{_W}tcPr")
        merge = properties.find(f"{_W}vMerge") if properties is not None else None
        goes_on = merge is not None and merge.get(f"{_W}val", "continue") != "restart"
        own = " ".join(filter(None, (line.strip() for line in self._cell_lines(cell))))
        for offset in range(max(1, _count(properties, "gridSpan"))):
            at = len(cells)
            text: str | None = own if offset == 0 or repeats else None
            if goes_on:  # what such a cell holds itself, Word does not show
                text = above.get(at, text)
            above[at] = text
            cells.append(text)

    def _cell_lines(self, cell: Any) -> Iterator[str]:
        for block in cell:
            if block.tag == _P:
                text = collapse_spaces(self._text(block))
                label = self._label(block.find(f"{_W}pPr"))
                yield _labelled(label, text) if text and label != BULLET else text
            elif block.tag == _TBL:
                yield from self._table(block)


def _labelled(label: str, text: str) -> str:
    if label == BULLET:
        return text if _NUMBERED.match(text) else f"- {text}"
    if not label or text.startswith(label):
        return text
    return label + text if _CLOSE.search(label) else f"{label} {text}"


def _is_on(flag: Any) -> bool:
    return flag is not None and flag.get(f"{_W}val") not in ("0", "false", "off")


def _count(properties: Any, name: str) -> int:
    found = properties.find(f"{_W}{name}") if properties is not None else None
    value = found.get(f"{_W}val", "") if found is not None else ""
    return min(int(value), _WIDEST_SPAN) if value.isascii() and value.isdigit() else 0
