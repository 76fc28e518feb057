"""From the characters of a PDF page to lines, and from lines to paragraphs.

PDFium gives characters in reading order with generated spaces and line breaks. A line's place and size
decide whether the next line continues its paragraph. All lengths are in PDF points (1/72 inch).
"""

from __future__ import annotations

import ctypes
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chinese_alpaca_rag.ingest.joining import join_lines
from chinese_alpaca_rag.sentences import is_cjk

_HYPHENS = frozenset("\x02\xad\ufffe")
# Presentation forms that PDF fonts put for plain letters: ligatures, and radicals for the characters themselves.
_FORMS = re.compile("[\ufb00-\ufb06\u2f00-\u2fd5\u2e9f\u2ef3]")
_SYMBOL_FONT_BULLETS = str.maketrans("\uf0b7\uf0a7\uf0d8\uf06e\uf06c\uf075\uf0fc\uf0fe", "•▪➢■●◆✓☑")
_SHORTEST_FULL_LINE = 10  # characters
_BEGINS_ITEM = re.compile(
    r"[•▪➢■●◆✓☑○◇□·‧∙※★☆►▶–—-]\s"
    r"|[（(][一二三四五六七八九十\d]{1,3}[）)]|[一二三四五六七八九十]{1,3}、|\d{1,2}[、)）]|\d{1,2}(\.\d{1,2})*\.?\s+\S"
    r"|第[一二三四五六七八九十百零〇\d]{1,5}[编章节条款]|[①-⑳]|[A-Za-z][.)）]\s|#"
)
# The dots that lead to a page number in a table of contents.
_LEADER = re.compile(r"(?:[.·…_]\s?){4,}\s*[\divxIVX]{1,6}$")


@dataclass(frozen=True)
class Line:
    """A line of a page: its text and where it lies. ``size`` is the height of its characters.

    ``hyphenated`` is set where the font marks a word as cut at the end; ``tabular`` where wide gaps lie
    between the parts of the line, as between the cells of a table.
    """

    text: str
    left: float
    right: float
    baseline: float
    size: float
    hyphenated: bool = False
    tabular: bool = False


def read_lines(textpage: Any) -> list[Line]:
    """The lines of a PDFium text page that hold anything, in PDFium's order."""
    from pypdfium2 import raw

    count = raw.FPDFText_CountChars(textpage)
    codes = [raw.FPDFText_GetUnicode(textpage, index) for index in range(max(0, count))]
    lines: list[Line] = []
    start = 0
    for index in range(len(codes) + 1):
        if index == len(codes) or codes[index] in (10, 13):
            line = _read_line(textpage, codes, start, index)
            if line is not None and lines and (row := _one_row(lines[-1], line)):
                lines[-1] = row
            elif line is not None:
                lines.append(line)
            start = index + 1
    return lines


def _one_row(line: Line, following: Line) -> Line | None:
    """The two as one line, where the second goes on at the height of the first, as around a superscript."""
    size = max(line.size, following.size)
    gap = following.left - line.right
    if line.tabular or abs(following.baseline - line.baseline) > 0.6 * size or not -0.3 * size < gap < size:
        return None
    larger = line if line.size >= following.size else following
    between = " " if gap > 0.15 * size and not (is_cjk(line.text[-1]) and is_cjk(following.text[0])) else ""
    return replace(
        larger,
        text=line.text + between + following.text,
        left=line.left,
        right=following.right,
        hyphenated=following.hyphenated,
        tabular=following.tabular,
    )


def page_paragraphs(lines: Sequence[Line]) -> str:
    """The text of a page: lines of one paragraph joined, paragraphs on lines of their own."""
    paragraphs: list[str] = []
    measure = _Measure(lines)
    for index, line in enumerate(lines):
        if index and measure.continues(index - 1):
            paragraphs[-1] = join_lines(paragraphs[-1], line.text, hyphenated=lines[index - 1].hyphenated)
        else:
            if index and measure.is_far(index - 1):
                paragraphs.append("")
            paragraphs.append(line.text.strip())
    return "\n".join(paragraphs)


def _read_line(textpage: Any, codes: Sequence[int], start: int, end: int) -> Line | None:
    indices = [index for index in range(start, end) if codes[index] != 0]
    while indices and _is_space(codes[indices[0]]):
        indices.pop(0)
    while indices and _is_space(codes[indices[-1]]):
        indices.pop()
    if not indices:
        return None
    # A line may begin or end with a character of another font: its size and baseline are those of most.
    sample = (indices[0], indices[len(indices) // 2], indices[-1])
    boxes = [_box(textpage, index) for index in sample]
    size = max(sorted(top - bottom for _, bottom, _, top in boxes)[1], 1.0)
    baseline = sorted(_baseline(textpage, index) for index in sample)[1]
    pieces, tabular = _pieces(textpage, codes, indices, size)
    text = "".join(pieces)
    hyphenated = text[-1] in _HYPHENS
    text = _normal(text.rstrip("".join(_HYPHENS)) if hyphenated else text)
    if not text.strip():
        return None
    tabular = tabular or bool(_LEADER.search(text))
    return Line(text, boxes[0][0], boxes[2][2], baseline, size, hyphenated=hyphenated, tabular=tabular)


def _pieces(textpage: Any, codes: Sequence[int], indices: Sequence[int], size: float) -> tuple[list[str], bool]:
    """The characters of a line, its spaces judged by the gaps that they stand for; whether one is as wide as a tab."""
    pieces: list[str] = []
    tabular = False
    for position, index in enumerate(indices):
        character = chr(codes[index])
        if not _is_space(codes[index]):
            pieces.append(character)
            continue
        if pieces and pieces[-1] in " \t":
            continue
        following = next(i for i in indices[position:] if not _is_space(codes[i]))
        previous = next(i for i in reversed(indices[:position]) if not _is_space(codes[i]))
        gap = _box(textpage, following)[0] - _box(textpage, previous)[2]
        between_cjk = is_cjk(chr(codes[previous])) and is_cjk(chr(codes[following]))
        if gap > 1.5 * size:
            pieces.append("\t")
            tabular = True
        elif not between_cjk or gap > 0.6 * size:
            pieces.append(" ")
    return pieces, tabular


def _is_space(code: int) -> bool:
    return code in (0x20, 0x09, 0xA0, 0x3000) or 0x2000 <= code <= 0x200A


def _box(textpage: Any, index: int) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a character, from its font's size; zeros where PDFium knows none."""
    from pypdfium2 import raw

    box = raw.FS_RECTF()
    if not raw.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(box)):
        return 0.0, 0.0, 0.0, 0.0
    return box.left, min(box.bottom, box.top), box.right, max(box.bottom, box.top)


def _baseline(textpage: Any, index: int) -> float:
    from pypdfium2 import raw

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(textpage, index, ctypes.byref(x), ctypes.byref(y))
    return y.value


def _normal(text: str) -> str:
    """Plain characters for the presentation forms and symbol-font bullets of PDF fonts."""
    return _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text).translate(_SYMBOL_FONT_BULLETS)


class _Measure:
    """What the lines of a page have in common, and what follows from it for two neighbours."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        gaps = sorted(
            (first.baseline - second.baseline) / first.size
            for first, second in itertools.pairwise(lines)
            if _aligned(first, second) and 0 < first.baseline - second.baseline < 3 * first.size
        )
        self._usual_gap = gaps[len(gaps) // 2] if gaps else 1.5

    def continues(self, index: int) -> bool:
        """Whether line ``index + 1`` goes on with the paragraph of line ``index``."""
        line, following = self._lines[index], self._lines[index + 1]
        if line.hyphenated:
            return True
        if not _aligned(line, following) or line.tabular or following.tabular:
            return False
        gap = (line.baseline - following.baseline) / line.size
        if not 0.3 < gap < min(3.0, self._usual_gap * 1.25 + 0.1):
            return False
        # The lines of a list item hang behind its bullet; elsewhere an indent begins a paragraph.
        hangs = _BEGINS_ITEM.match(line.text.lstrip()) is not None
        if hangs and line.size > 1.06 * following.size:
            return False  # a numbered heading over its text
        indented = following.left > line.left + 0.8 * line.size and not hangs
        if indented or _BEGINS_ITEM.match(following.text.lstrip()):
            return False
        return self._is_full(index)

    def is_far(self, index: int) -> bool:
        """Whether clearly more space than usual lies between line ``index`` and the next one."""
        line, following = self._lines[index], self._lines[index + 1]
        gap = (line.baseline - following.baseline) / line.size
        return gap < 0 or gap > self._usual_gap * 1.5 + 0.2

    def _is_full(self, index: int) -> bool:
        """Whether line ``index`` has no room left for what follows: it was broken by the margin, not by the author."""
        line, following = self._lines[index], self._lines[index + 1]
        column = [other for other in self._lines if _same_column(line, other)]
        margin = max(other.right for other in column)
        room = margin - line.right
        if is_cjk(line.text.rstrip()[-1]) or is_cjk(following.text.lstrip()[0]):
            # Chinese lines are filled up; a sign that may not begin a line leaves room for two characters. Short
            # lines of equal length are entries of a list or a cover page.
            at_margin = sum(other.right > margin - 1.6 * line.size for other in column)
            long_enough = line.right - line.left > _SHORTEST_FULL_LINE * line.size
            return room < 2.2 * line.size and long_enough and (at_margin >= 2 or len(column) == 2)
        return room < _first_word_width(following) + 0.5 * line.size


def _first_word_width(line: Line) -> float:
    text = line.text.strip()
    word = re.split(r"\s", text, maxsplit=1)[0]
    return (line.right - line.left) * len(word) / max(1, len(text))


def _same_column(line: Line, other: Line) -> bool:
    """Whether ``other`` is set like ``line``: in one size and, but for an indent, with the same margin on one side."""
    same_margin = abs(line.left - other.left) < 3 * line.size or abs(line.right - other.right) < 0.5 * line.size
    return (
        same_margin and abs(line.size - other.size) < 0.06 * line.size and _aligned(line, other) and not other.tabular
    )


def _aligned(first: Line, second: Line) -> bool:
    """Whether two lines are of one size and share a column."""
    larger, smaller = max(first.size, second.size), min(first.size, second.size)
    return larger < 1.25 * smaller and min(first.right, second.right) > max(first.left, second.left)
