"""Sets Chinese text as PDF pages with reportlab.

reportlab's own paragraphs break Latin words and numbers anywhere in a Chinese line and begin lines with closing
punctuation; ``ChineseText`` breaks as Chinese typesetting does and justifies between characters. The font is
embedded as a subset, so that the file shows the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, PageBreak, PageTemplate, Spacer, Table, TableStyle

from tools.example_source import Block

FONT = "WenQuanYi Micro Hei"
INK, GREEN, GREY, PALE = HexColor("#1f2a24"), HexColor("#1d6b45"), HexColor("#6b7a71"), HexColor("#eaf3ed")
MARGIN = 24 * mm
TEXT_WIDTH = A4[0] - 2 * MARGIN
_NEVER_FIRST = set("，。、；：？！）》」』”’…%～·—)")
_NEVER_LAST = set("（《「『“‘(")
_ATOM = re.compile(r"[!-~±×°²³μΩ]+|.")


def register_font(path: Path) -> None:
    """Makes the TrueType collection at ``path`` known as ``FONT``."""
    pdfmetrics.registerFont(TTFont(FONT, str(path), subfontIndex=0))


@dataclass(frozen=True)
class TextStyle:
    """How a text is set; lengths in points, ``first`` and ``left`` are indents in em."""

    size: float = 10.5
    leading: float = 18
    color: Color = INK
    bold: bool = False
    first: float = 0
    left: float = 0
    before: float = 0
    after: float = 4
    justify: bool = True
    centre: bool = False
    keep: bool = False  # on one page with what follows


BODY = TextStyle(first=2)
CELL = TextStyle(size=9.5, leading=14, after=0, justify=False)
STYLES: Mapping[str, TextStyle] = {
    "paragraph": BODY,
    "bullet": TextStyle(left=1.4, after=3),
    "numbered": TextStyle(left=1.4, after=3),
    "heading": TextStyle(16, 24, GREEN, bold=True, before=16, after=8, justify=False, keep=True),
    "subheading": TextStyle(12, 18, GREEN, bold=True, before=9, after=4, justify=False, keep=True),
    "caption": TextStyle(9.5, 14, GREY, before=4, after=4, justify=False, centre=True, keep=True),
    "signature": TextStyle(after=0, left=28, justify=False),
}


class ChineseText(Flowable):  # type: ignore[misc]
    """A paragraph whose lines are broken between Chinese characters, never inside a Latin word or number."""

    def __init__(self, text: str, style: TextStyle, *, mark: str = "", lines: Sequence[str] | None = None) -> None:
        super().__init__()
        self.text, self.style, self.mark = text, style, mark
        self.continued = lines is not None
        self.lines = list(lines or ())
        self.keepWithNext = style.keep
        self.spaceBefore, self.spaceAfter = style.before, style.after
        self.width: float = 0

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        if not self.lines or self.width != available_width:
            self.width = available_width
            self.lines = self.lines if self.continued else break_lines(self.text, self.style, available_width)
        return available_width, len(self.lines) * self.style.leading

    def split(self, available_width: float, available_height: float) -> list[Flowable]:
        self.wrap(available_width, available_height)
        fit = int(available_height // self.style.leading)
        fit = min(fit, len(self.lines) - 2)  # no single line alone at the head of a page
        if fit < 2:
            return []
        rest = replace(self.style, first=0, before=0)
        return [
            _ending(ChineseText(self.text, replace(self.style, after=0), mark=self.mark, lines=self.lines[:fit])),
            ChineseText(self.text, rest, lines=self.lines[fit:]),
        ]

    ends = True  # the last line is a paragraph's last, and so not stretched

    def draw(self) -> None:
        style, y = self.style, (len(self.lines) - 1) * self.style.leading + self.style.leading * 0.28
        left = style.left * style.size
        if self.mark:
            draw_line(self.canv, self.mark, left - 1.1 * style.size, y, style)
        for index, line in enumerate(self.lines):
            indent = style.first * style.size if index == 0 else 0
            room = self.width - left - indent
            slack = (room - natural_width(line, style.size)) / 2 if style.centre else 0
            stretched = style.justify and not (self.ends and index == len(self.lines) - 1)
            draw_line(self.canv, line, left + indent + slack, y, style, room=room if stretched else None)
            y -= style.leading


def _ending(text: ChineseText) -> ChineseText:
    text.ends = False
    return text


def _is_latin(character: str) -> bool:
    return character != " " and bool(re.fullmatch(r"[!-~±×°²³μΩ]", character))


def _extras(line: str, size: float) -> list[float]:
    """Points of white after each character: a little where Chinese and Latin meet."""
    seam = 0.14 * size
    neighbours = zip(line, line[1:] + " ", strict=True)
    return [seam if _seam(a, b) else 0.0 for a, b in neighbours]


def _seam(first: str, second: str) -> bool:
    latin = _is_latin(first), _is_latin(second)
    han = second if latin[0] else first
    return latin[0] != latin[1] and "一" <= han <= "鿿"


def natural_width(line: str, size: float) -> float:
    """The width of ``line`` in points, before justification."""
    return float(pdfmetrics.stringWidth(line, FONT, size)) + sum(_extras(line, size))


def break_lines(text: str, style: TextStyle, width: float) -> list[str]:
    """``text`` in lines of at most ``width`` points, the first one shorter by its indent."""
    clusters: list[str] = []
    for atom in _ATOM.findall(text):
        if clusters and (atom[0] in _NEVER_FIRST or clusters[-1][-1] in _NEVER_LAST):
            clusters[-1] += atom
        else:
            clusters.append(atom)
    lines: list[str] = []
    line = ""
    for cluster in clusters:
        room = width - (style.left + (0 if lines else style.first)) * style.size
        if line and natural_width((line + cluster).rstrip(), style.size) > room:
            lines.append(line.rstrip(" "))
            line = ""
        line += cluster if line else cluster.lstrip(" ")
    return [*lines, line.rstrip(" ")]


def _whites(line: str, size: float, room: float | None) -> list[float]:
    """Points of white after each character so that ``line`` fills ``room``; its natural ones without a room.

    A seam is not widened before the other gaps have reached its width: readers of the file take wider ones for spaces.
    """
    seams = _extras(line, size)
    if room is None or len(line) < 2:
        return seams
    slack = room - float(pdfmetrics.stringWidth(line, FONT, size))
    even = slack / (len(line) - 1)
    if even >= max(seams):
        return [even] * len(line)
    plain = [index for index in range(len(line) - 1) if not seams[index]]
    gap = max(slack - sum(seams), 0) / max(len(plain), 1)
    return [seam or gap for seam in seams]


def draw_line(canvas: Any, line: str, x: float, y: float, style: TextStyle, *, room: float | None = None) -> None:
    """Draws one line at ``x``, ``y``, stretched to ``room`` points where that is given."""
    text = canvas.beginText(x, y)
    text.setFont(FONT, style.size)
    text.setFillColor(style.color)
    if style.bold:  # the font has one weight: a thin outline makes the other
        text.setStrokeColor(style.color)
        canvas.setLineWidth(style.size * 0.024)
        text.setTextRenderMode(2)
    run, white = "", 0.0
    for character, gap in zip(line, _whites(line, style.size, room), strict=True):
        if gap != white:
            _show(text, run, white)
            run = ""
        run, white = run + character, gap
    _show(text, run, white)
    text.setCharSpace(0)
    text.setTextRenderMode(0)
    canvas.drawText(text)


def _show(text: Any, run: str, white: float) -> None:
    if run:
        text.setCharSpace(round(white, 3))
        text.textOut(run)


class Bars(Flowable):  # type: ignore[misc]
    """A bar chart of a few labelled numbers."""

    def __init__(self, values: Mapping[str, int]) -> None:
        super().__init__()
        self.values, self.spaceAfter = values, 10

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        self.width = available_width
        return available_width, 130

    def draw(self) -> None:
        step, tallest = self.width / len(self.values), max(self.values.values())
        for index, (label, value) in enumerate(self.values.items()):
            middle, height = step * (index + 0.5), 92 * value / tallest
            self.canv.setFillColor(GREEN)
            self.canv.rect(middle - 22, 18, 44, height, stroke=0, fill=1)
            for text, y in ((f"{value:,}", 22 + height), (label, 4)):
                draw_line(self.canv, text, middle - natural_width(text, 9) / 2, y, replace(CELL, size=9))
        self.canv.setStrokeColor(GREY)
        self.canv.line(0, 18, self.width, 18)


class Contents(Flowable):  # type: ignore[misc]
    """The list of chapters with their pages."""

    def __init__(self, entries: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.entries = entries

    def wrap(self, available_width: float, available_height: float) -> tuple[float, float]:
        self.width = available_width
        return available_width, 24 * len(self.entries)

    def draw(self) -> None:
        style = TextStyle(size=11)
        for index, (heading, page) in enumerate(self.entries):
            y, number = 24 * (len(self.entries) - index) - 16, str(page)
            end = self.width - natural_width(number, style.size)
            draw_line(self.canv, heading, 0, y, style)
            self.canv.setStrokeColor(GREY)
            self.canv.setDash(1, 3)
            self.canv.line(natural_width(heading, style.size) + 8, y + 3, end - 8, y + 3)
            self.canv.setDash()
            draw_line(self.canv, number, end, y, style)


def make_table(rows: Sequence[Sequence[str]]) -> Table:
    """A ruled table as wide as the text, its columns as wide as their texts ask for."""
    wants = [max(natural_width(row[column], CELL.size) for row in rows) + 16 for column in range(len(rows[0]))]
    spare = TEXT_WIDTH - sum(wants)
    shares = [want / sum(wants) for want in wants]
    widths = [max(want + spare * share, 52) for want, share in zip(wants, shares, strict=True)]
    widths[widths.index(max(widths))] -= sum(widths) - TEXT_WIDTH
    head = replace(CELL, bold=True)
    cells = [[ChineseText(cell, CELL if index else head) for cell in row] for index, row in enumerate(rows)]
    look = [
        ("BACKGROUND", (0, 0), (-1, 0), PALE),
        ("LINEABOVE", (0, 0), (-1, 0), 1, GREEN),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor("#b8c9be")),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
    ]
    return Table(cells, colWidths=widths, repeatRows=1, style=TableStyle(look), spaceAfter=10, spaceBefore=2)


class PdfBook(BaseDocTemplate):  # type: ignore[misc]
    """A4 pages with a cover, running header and footer, bookmarks, and a note of each chapter's page."""

    def __init__(self, path: Path, *, title: str, company: str, pages: int) -> None:
        super().__init__(str(path), pagesize=A4, title=title, author=company, subject=title, lang="zh-CN", invariant=1)
        self.book_title, self.company, self.pages_expected = title, company, pages
        self.chapters: list[tuple[str, int]] = []
        frame = Frame(MARGIN, 26 * mm, TEXT_WIDTH, A4[1] - 54 * mm, leftPadding=0, rightPadding=0)
        self.addPageTemplates(PageTemplate("page", [frame], onPage=self._furnish))

    def _furnish(self, canvas: Any, _document: BaseDocTemplate) -> None:
        number = canvas.getPageNumber()
        if number == 1:
            return
        small = TextStyle(size=8.5, color=GREY)
        right = f"第{number}页　共{self.pages_expected}页"
        draw_line(canvas, self.company, MARGIN, A4[1] - 17 * mm, small)
        end = A4[0] - MARGIN
        draw_line(canvas, self.book_title, end - natural_width(self.book_title, 8.5), A4[1] - 17 * mm, small)
        draw_line(canvas, right, end - natural_width(right, 8.5), 14 * mm, small)
        canvas.setStrokeColor(GREY)
        canvas.setLineWidth(0.4)
        canvas.line(MARGIN, A4[1] - 19 * mm, end, A4[1] - 19 * mm)

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802 - reportlab's name
        if isinstance(flowable, ChineseText) and flowable.style in (STYLES["heading"], STYLES["subheading"]):
            chapter = flowable.style == STYLES["heading"]
            key = f"{self.page}-{flowable.text}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(flowable.text, key, level=0 if chapter else 1, closed=True)
            if chapter and flowable.text != "目录":
                self.chapters.append((flowable.text, self.page))


def build_pdf(path: Path, blocks: Sequence[Block]) -> None:
    """Writes ``blocks`` as a PDF: set twice, the second time with the page numbers of the first."""
    _require_glyphs("".join(block.text + "".join(map("".join, block.rows)) for block in blocks))
    chapters = [(block.text, 1) for block in blocks if block.kind == "heading"]
    pages = 1
    for _ in range(2):
        title = next(block.text for block in blocks if block.kind == "title")
        company = next(block.text for block in blocks if block.kind == "paragraph")
        book = PdfBook(path, title=title, company=company, pages=pages)
        book.build(_story(blocks, chapters))
        chapters, pages = book.chapters, book.page


def _require_glyphs(text: str) -> None:
    missing = sorted(set(text) - {" "} - {chr(code) for code in pdfmetrics.getFont(FONT).face.charToGlyph})
    if missing:
        raise ValueError(f"the font has no glyph for {' '.join(missing)}")


def _story(blocks: Sequence[Block], chapters: Sequence[tuple[str, int]]) -> list[Flowable]:
    cover = next(index for index, block in enumerate(blocks) if block == Block("directive", "cover"))
    story: list[Flowable] = [Spacer(1, 190)]
    for block in blocks[:cover]:
        big = block.kind == "title"
        style = TextStyle(26 if big else 12, 40 if big else 24, GREEN if big else INK, bold=big, centre=True, after=14)
        story.append(ChineseText(block.text, replace(style, justify=False)))
    story.append(PageBreak())
    for block in blocks[cover + 1 :]:
        story += _flowables(block, chapters)
    return story


def _flowables(block: Block, chapters: Sequence[tuple[str, int]]) -> list[Flowable]:
    if block.kind == "table":
        return [make_table(block.rows)]
    if block.kind == "bullet":
        return [ChineseText(block.text, STYLES["bullet"], mark="·")]
    if block.kind == "numbered":
        number, _, text = block.text.partition(" ")
        return [ChineseText(text, STYLES["numbered"], mark=number)]
    if block.kind == "directive":
        name, *arguments = block.text.split()
        if name == "bars":
            pairs = (argument.split("=") for argument in arguments)
            return [Bars({label: int(value) for label, value in pairs})]
        return [ChineseText("目录", STYLES["heading"]), Contents(chapters), PageBreak()]
    kind: str = block.kind
    if re.match(r"[表图]\d+-\d+　", block.text):
        kind = "caption"
    elif re.fullmatch(r"总经理　.+|\d{4}年\d+月\d+日", block.text):
        kind = "signature"
    return [ChineseText(block.text, STYLES[kind])]
