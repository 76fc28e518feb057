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
from typing import Any, NamedTuple

from chinese_alpaca_rag.ingest.joining import join_lines
from chinese_alpaca_rag.sentences import is_cjk

_HYPHENS = "\x02\xad\ufffe"
_SPACES = " \t\xa0\u3000\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACE_RUN = re.compile(f"[{_SPACES}]+")
_UNBROKEN = re.compile(r"[^\r\n]+")
_UNNAMED = re.compile("\ufffe")
# Presentation forms that PDF fonts put for plain letters: ligatures, and radicals for the characters themselves.
_FORMS = re.compile("[\ufb00-\ufb06\u2f00-\u2fd5\u2e9f\u2ef3]")
_SYMBOL_FONT_BULLETS = str.maketrans("\uf0b7\uf0a7\uf0d8\uf06e\uf06c\uf075\uf0fc\uf0fe", "•▪➢■●◆✓☑")
# What ``_normal`` changes: most lines hold nothing of it, and one scan tells.
_UNUSUAL = re.compile("[\ufb00-\ufb06\u2f00-\u2fd5\u2e9f\u2ef3\uf0b7\uf0a7\uf0d8\uf06e\uf06c\uf075\uf0fc\uf0fe]")
_SHORTEST_FULL_LINE = 10  # characters
_BEGINS_ITEM = re.compile(
    r"[•▪➢■●◆✓☑○◇□·‧∙※★☆►▶–—-]\s"
    r"|[（(][一二三四五六七八九十\d]{1,3}[）)]|[一二三四五六七八九十]{1,3}、|\d{1,2}[、)）]|\d{1,2}(\.\d{1,2})*\.?\s+\S"
    r"|第[一二三四五六七八九十百零〇\d]{1,5}[编章节条款]|[①-⑳]|[A-Za-z][.)）]\s|#"
)
# What makes reading a line more than taking its characters: those without a meaning, hyphens, spaces but U+0020.
_ODD = re.compile(f"[\\0{_HYPHENS}{_SPACES[1:]}\x0b\x0c\x1c-\x1f\x85\u1680\u2028\u2029\u202f\u205f]|{_UNUSUAL.pattern}")
# The dots that lead to a page number in a table of contents.
_LEADER = re.compile(r"(?:[.·…_]\s?){4,}\s*[\divxIVX]{1,6}$")
_NOWHERE = (0.0, 0.0, 0.0, 0.0)
_MOST_LINES = 400  # of a page that are compared each with each


class Line(NamedTuple):
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


# Called by address: pypdfium2's own converters take as long again as the calls, of which every line needs a few.
_PLACE_CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_ORIGIN_CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Glyphs:
    """The characters of a PDFium text page: ``text`` has one for each, U+0000 where PDFium knows none.

    The text comes in one call. Places cost a call each, so they are asked for only where they decide something.
    """

    def __init__(self, textpage: Any) -> None:
        from pypdfium2 import raw

        self._handle = _address(textpage.raw)
        self._loose_box = _PLACE_CALL(_address(raw.FPDFText_GetLooseCharBox))
        self._origin = _ORIGIN_CALL(_address(raw.FPDFText_GetCharOrigin))
        self._sides = (ctypes.c_float * 4)()  # left, top, right, bottom: an FS_RECTF
        self._point = (ctypes.c_double * 2)()
        self._to_sides, self._to_x = ctypes.addressof(self._sides), ctypes.addressof(self._point)
        self._to_y = self._to_x + ctypes.sizeof(ctypes.c_double)
        self.text = _page_text(textpage.raw)

    def box(self, index: int) -> Sequence[float]:
        """Left, top, right, bottom of a character, from its font's size; zeros where PDFium knows none."""
        return self._sides[:] if self._loose_box(self._handle, index, self._to_sides) else _NOWHERE

    def baseline(self, index: int) -> float:
        """The height of the character's baseline; zero where PDFium knows none."""
        return self._point[1] if self._origin(self._handle, index, self._to_x, self._to_y) else 0.0

    def place(self, indices: Sequence[int]) -> tuple[float, float, float, float]:
        """Left, right, baseline and size of a line."""
        first, last = indices[0], indices[-1]
        left, top, right, bottom = self.box(first)
        size = abs(top - bottom)
        if last != first:
            _, last_top, right, last_bottom = self.box(last)
            if last_bottom != bottom or last_top != top:
                # A line may begin or end with a character of another font: its size and baseline are those of most.
                middle = indices[len(indices) // 2]
                _, middle_top, _, middle_bottom = self.box(middle)
                size = sorted((size, abs(last_top - last_bottom), abs(middle_top - middle_bottom)))[1]
                baseline = sorted(self.baseline(index) for index in (first, middle, last))[1]
                return left, right, baseline, max(size, 1.0)
        return left, right, self.baseline(first), max(size, 1.0)


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _page_text(handle: Any) -> str:
    from pypdfium2 import raw

    count = max(0, raw.FPDFText_CountChars(handle))
    units = (ctypes.c_ushort * (2 * count + 1))()  # UTF-16, with room for the zero behind it
    filled = raw.FPDFText_GetText(handle, 0, count, units) - 1 if count else 0
    text = ctypes.string_at(units, 2 * max(0, filled)).decode("utf-16-le", "surrogatepass")
    if len(text) != count:  # PDFium left characters out, or put some in: their indices are not the text's
        return "".join(chr(raw.FPDFText_GetUnicode(handle, index)) for index in range(count))
    if "\ufffe" in text:  # a hyphen at the end of a line, or a character that the font does not name
        return _UNNAMED.sub(lambda match: chr(raw.FPDFText_GetUnicode(handle, match.start())), text)
    return text


def read_lines(textpage: Any) -> list[Line]:
    """The lines of a PDFium text page that hold anything, in PDFium's order."""
    glyphs = _Glyphs(textpage)
    read = _read_line if _ODD.search(glyphs.text) else _read_plain_line
    lines: list[Line] = []
    last: Line | None = None
    for match in _UNBROKEN.finditer(glyphs.text):
        line = read(glyphs, match.group(), match.start())
        if line is None:
            continue
        # Most lines begin at another height: that is seen at once.
        if last and abs(line.baseline - last.baseline) <= 0.6 * line.size + 0.6 * last.size:
            row = _one_row(last, line)
            if row is not None:
                lines[-1] = last = row
                continue
        lines.append(line)
        last = line
    return lines


def _one_row(line: Line, following: Line) -> Line | None:
    """The two as one line, where the second goes on at the height of the first, as around a superscript."""
    size = max(line.size, following.size)
    if line.tabular or abs(following.baseline - line.baseline) > 0.6 * size:
        return None
    gap = following.left - line.right
    if not -0.3 * size < gap < size:
        return None
    larger = line if line.size >= following.size else following
    between = " " if gap > 0.15 * size and not (is_cjk(line.text[-1]) and is_cjk(following.text[0])) else ""
    return larger._replace(
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


def _read_plain_line(glyphs: _Glyphs, text: str, start: int) -> Line | None:
    """As :func:`_read_line`, for text that holds nothing of ``_ODD``: the usual case, in as few steps as it takes."""
    line = text.strip(" ")
    if not line:
        return None
    first = start + (text.index(line[0]) if text[0] == " " else 0)
    left, right, baseline, size = glyphs.place(range(first, first + len(line)))
    tabular = False
    if " " in line:
        line, tabular = _spaced(glyphs, line, range(first, first + len(line)), size)
    return Line(line, left, right, baseline, size, False, tabular or _ends_in_leader(line))


def _read_line(glyphs: _Glyphs, text: str, start: int) -> Line | None:
    """The line whose characters are ``text``, the first of them the page's character ``start``."""
    indices: Sequence[int] = range(start, start + len(text))
    if "\0" in text:
        indices = [start + offset for offset, character in enumerate(text) if character != "\0"]
        text = text.replace("\0", "")
    begin = len(text) - len(text.lstrip(_SPACES))
    text = text.strip(_SPACES)
    if not text:
        return None
    indices = indices[begin : begin + len(text)]
    left, right, baseline, size = glyphs.place(indices)
    text, tabular = _spaced(glyphs, text, indices, size)
    hyphenated = text[-1] in _HYPHENS
    if hyphenated:
        text = text.rstrip(_HYPHENS)
    if _UNUSUAL.search(text):
        text = _normal(text)
    if not text or text.isspace():
        return None
    return Line(text, left, right, baseline, size, hyphenated, tabular or _ends_in_leader(text))


def _spaced(glyphs: _Glyphs, text: str, indices: Sequence[int], size: float) -> tuple[str, bool]:
    """The characters of a line, its spaces judged by the gaps that they stand for; whether one is as wide as a tab."""
    pieces: list[str] = []
    tabular = False
    end = 0
    for match in _SPACE_RUN.finditer(text):
        start, following = match.span()
        gap = glyphs.box(indices[following])[0] - glyphs.box(indices[start - 1])[2]
        pieces.append(text[end:start])
        end = following
        if gap > 1.5 * size:
            pieces.append("\t")
            tabular = True
        elif gap > 0.6 * size or not (is_cjk(text[start - 1]) and is_cjk(text[following])):
            pieces.append(" ")
    pieces.append(text[end:])
    return "".join(pieces), tabular


def _ends_in_leader(text: str) -> bool:
    return (text[-1].isdigit() or text[-1] in "ivxIVX") and _LEADER.search(text) is not None


def _normal(text: str) -> str:
    """Plain characters for the presentation forms and symbol-font bullets of PDF fonts."""
    return _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text).translate(_SYMBOL_FONT_BULLETS)


class _Measure:
    """What the lines of a page have in common, and what follows from it for two neighbours."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._columns: dict[tuple[float, float], tuple[float, int, int] | None] = {}
        # Of each line and the next one: how far apart they are, in sizes of the first; whether they are aligned.
        self._gaps: list[float] = []
        self._aligned: list[bool] = []
        for line, following in itertools.pairwise(lines):
            self._gaps.append((line.baseline - following.baseline) / line.size)
            self._aligned.append(_aligned(line, following))
        gaps = sorted([gap for gap, aligned in zip(self._gaps, self._aligned, strict=True) if aligned and 0 < gap < 3])
        self._usual_gap = gaps[len(gaps) // 2] if gaps else 1.5
        self._widest_gap = min(3.0, self._usual_gap * 1.25 + 0.1)
        self._begins_item = [_BEGINS_ITEM.match(line.text.lstrip()) is not None for line in lines]

    def continues(self, index: int) -> bool:
        """Whether line ``index + 1`` goes on with the paragraph of line ``index``."""
        line = self._lines[index]
        if line.hyphenated:
            return True
        if not self._aligned[index] or self._begins_item[index + 1] or line.tabular:
            return False
        following = self._lines[index + 1]
        if following.tabular or not 0.3 < self._gaps[index] < self._widest_gap:
            return False
        # The lines of a list item hang behind its bullet; elsewhere an indent begins a paragraph.
        if self._begins_item[index]:
            if line.size > 1.06 * following.size:
                return False  # a numbered heading over its text
        elif following.left > line.left + 0.8 * line.size:
            return False
        return self._is_full(index)

    def is_far(self, index: int) -> bool:
        """Whether clearly more space than usual lies between line ``index`` and the next one."""
        gap = self._gaps[index]
        return gap < 0 or gap > self._usual_gap * 1.5 + 0.2

    def _is_full(self, index: int) -> bool:
        """Whether line ``index`` has no room left for what follows: it was broken by the margin, not by the author."""
        line, following = self._lines[index], self._lines[index + 1]
        margin, at_margin, count = self._column(index)
        room = margin - line.right
        if is_cjk(line.text.rstrip()[-1]) or is_cjk(following.text.lstrip()[0]):
            # Chinese lines are filled up; a sign that may not begin a line leaves room for two characters. Short
            # lines of equal length are entries of a list or a cover page.
            long_enough = line.right - line.left > _SHORTEST_FULL_LINE * line.size
            return room < 2.2 * line.size and long_enough and (at_margin >= 2 or count == 2)
        return room < _first_word_width(following) + 0.5 * line.size

    def _column(self, index: int) -> tuple[float, int, int]:
        """Where the column of line ``index`` ends on the right, how many lines reach that far, and how many it has."""
        line = self._lines[index]
        key = line.left, line.size
        if key not in self._columns:
            self._columns[key] = self._sole_column(line) if len(self._lines) <= _MOST_LINES else None
        shared = self._columns[key]
        if shared is not None:
            return shared
        near = self._lines[max(0, index - _MOST_LINES // 2) : index + _MOST_LINES // 2]
        return _extent([other.right for other in near if _same_column(line, other)], line.size)

    def _sole_column(self, line: Line) -> tuple[float, int, int] | None:
        """The column of every line with the left margin and size of ``line``, where the page has no other column."""
        size = line.size
        others = [other for other in self._lines if abs(size - other.size) < 0.06 * size and not other.tabular]
        lefts, rights = [other.left for other in others], [other.right for other in others]
        if max(lefts) - line.left < 3 * size and line.left - min(lefts) < 3 * size and min(rights) > max(lefts):
            return _extent(rights, size)
        return None


def _extent(rights: Sequence[float], size: float) -> tuple[float, int, int]:
    margin = max(rights)
    return margin, sum(right > margin - 1.6 * size for right in rights), len(rights)


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
    _, left, right, _, size, _, _ = first
    _, other_left, other_right, _, other_size, _, _ = second
    if size >= 1.25 * other_size or other_size >= 1.25 * size:
        return False
    return (right if right < other_right else other_right) > (left if left > other_left else other_left)
