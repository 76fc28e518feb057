"""Headers, footers and page numbers that run through a PDF, found by what recurs at the edges of its pages.

They interrupt sentences that go on over a page break, and they make every page answer to a search for the
document's title. Taken out is only what recurs: the same line at the same height of most pages, or of most odd or
even ones, or one that differs by a page number alone. In doubt a line stays. Lengths are in PDF points.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from chinese_alpaca_rag.ingest.pdf_lines import Line

_FEWEST_PAGES = 3
_EDGE_ROWS = 2  # at the top and at the bottom of a page
_LONGEST = 200  # characters
_LONGEST_FOLIO = 16  # characters
_MOST_IN_ROW = 6  # lines
_TABLE_LEADING = 2.2  # times the size of its characters: how far apart the rows of a table are, at most
_MOST_NUMBERS = 8  # of a line; one with more is a table's
_LARGE = 1.3  # times the size of the page's text: a title
_DIGITS = re.compile(r"\d{1,9}")
_ROMAN = re.compile(r"(?<![A-Za-z])[ivxlc]{1,8}(?![A-Za-z])|(?<![A-Za-z])[IVXLC]{1,8}(?![A-Za-z])")
_CHINESE = re.compile(r"(?<=第)[一二三四五六七八九十百]{1,6}(?=页)")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_CHINESE_DIGITS = {character: value for value, character in enumerate("一二三四五六七八九", 1)}
# What may stand around the number of a page and says nothing else.
_FOLIO = re.compile(r"(?:#|第|共|总|页|頁|页码|pages?|p|of|[\s\-–—―－~·.•|/／:：,，()（）\[\]【】])+", re.IGNORECASE)
# Numbered headings: their numbers rise from page to page where each page has one.
_HEADING = re.compile(
    r"第\s*#\s*[编章节条款部回讲课题期卷集步天周季组例张幕]"
    r"|[(（]?#[)）、.．]\s*\D"
    r"|(?:问题|问|题|步骤|案例|例|图|表|附件|附录|附表|项目|任务|单元|实验|练习|阶段|方案|序号|编号)\s*#"
    r"|(?:chapter|section|part|step|question|problem|exercise|figure|fig\.|table|appendix|annex|slide|case|item|unit"
    r"|lesson|task|example|q)\s*#",
    re.IGNORECASE,
)


class RunningHead(NamedTuple):
    """A line that was taken out: the number of its page, from 1, and its text."""

    page: int
    text: str


class _Candidate(NamedTuple):
    """A line near the top or the bottom of a page, its numbers folded to "#".

    ``page`` counts from 1, ``line`` from 0.
    """

    page: int
    line: int
    text: str
    folded: str
    numbers: tuple[int, ...]
    baseline: float
    size: float


def without_running_heads(pages: Sequence[Sequence[Line]]) -> tuple[list[Sequence[Line]], tuple[RunningHead, ...]]:
    """The lines of a document's pages without its headers, footers and page numbers; what was taken out, in order.

    Documents of one or two pages stay as they are, and so do pages that hold nothing else.
    """
    if len(pages) < _FEWEST_PAGES:
        return list(pages), ()
    edges = [_edges(lines) for lines in pages]
    recurring = _recurring(pages, edges)
    kept: list[Sequence[Line]] = list(pages)
    removed: list[RunningHead] = []
    for page, indices in sorted(recurring.items()):
        lines = pages[page - 1]
        taken = _peeled(lines, edges[page - 1], indices)
        if taken and len(taken) < len(lines):
            kept[page - 1] = [line for index, line in enumerate(lines) if index not in taken]
            removed += [RunningHead(page, lines[index].text.strip()) for index in sorted(taken)]
    return kept, tuple(removed)


def _edges(lines: Sequence[Line]) -> tuple[list[list[int]], list[list[int]]]:
    """The first rows of a page from the top, and from the bottom: which lines lie in each.

    One row more than is ever taken, to know what comes next. PDFium's order is that of the drawing, so height decides.
    """
    order = sorted(range(len(lines)), key=lambda index: -lines[index].baseline)
    return _rows(lines, order), _rows(lines, order[::-1])


def _rows(lines: Sequence[Line], order: Iterable[int]) -> list[list[int]]:
    rows: list[list[int]] = []
    for index in order:
        line = lines[index]
        if rows and abs(lines[rows[-1][0]].baseline - line.baseline) <= 0.5 * line.size:
            rows[-1].append(index)
        elif len(rows) <= _EDGE_ROWS:
            rows.append([index])
        else:
            break
    return rows


def _recurring(
    pages: Sequence[Sequence[Line]], edges: Sequence[tuple[list[list[int]], list[list[int]]]]
) -> Mapping[int, set[int]]:
    """Page numbers, and the indices of the lines there that recur on other pages."""
    groups: dict[tuple[int, str], list[_Candidate]] = defaultdict(list)
    for page, (lines, sides) in enumerate(zip(pages, edges, strict=True), 1):
        for side, rows in enumerate(sides):
            for row in rows[:_EDGE_ROWS]:
                for index in row if len(row) <= _MOST_IN_ROW else ():
                    candidate = _candidate(page, index, lines[index])
                    if candidate is not None:
                        groups[side, candidate.folded].append(candidate)
    even, odd = (sum(bool(lines) for lines in pages[first::2]) for first in (1, 0))
    recurring: dict[int, set[int]] = defaultdict(set)
    for (_, folded), group in groups.items():
        if len(group) < _FEWEST_PAGES:
            continue
        for candidate in _alike(folded, _level(group), (even, odd)):
            if not _is_title(candidate, pages[candidate.page - 1]):
                recurring[candidate.page].add(candidate.line)
    return recurring


def _candidate(page: int, index: int, line: Line) -> _Candidate | None:
    if len(line.text) > _LONGEST:
        return None
    text = " ".join(line.text.split())
    numbers = tuple(int(digits) for digits in _DIGITS.findall(text))
    folded = _DIGITS.sub("#", text)
    if not numbers and len(text) <= _LONGEST_FOLIO:
        for spelling, value in ((_ROMAN, _roman), (_CHINESE, _chinese)):
            spelt = spelling.findall(text)
            if len(spelt) == 1 and _FOLIO.fullmatch(spelling.sub("#", text)):
                folded, numbers = spelling.sub("#", text), (value(spelt[0]),)
    return None if len(numbers) > _MOST_NUMBERS else _Candidate(page, index, text, folded, numbers, *line[3:5])


def _roman(spelt: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in spelt.lower()]
    return sum(-value if value < following else value for value, following in itertools.pairwise((*values, 0)))


def _chinese(spelt: str) -> int:
    total = digit = 0
    for character in spelt:
        unit = {"十": 10, "百": 100}.get(character)
        if unit is None:
            digit = _CHINESE_DIGITS[character]
        else:
            total, digit = total + max(digit, 1) * unit, 0
    return total + digit


def _level(group: Sequence[_Candidate]) -> list[_Candidate]:
    """Those at the height where most of the group lie: a running head keeps its place."""
    usual = statistics.median_low(candidate.baseline for candidate in group)
    return [candidate for candidate in group if abs(candidate.baseline - usual) <= candidate.size]


def _alike(folded: str, group: Sequence[_Candidate], texted: tuple[int, int]) -> list[_Candidate]:
    """Those of a group, alike but for their numbers, that recur: word for word, or with a number that counts pages."""
    is_folio = "#" in folded and _FOLIO.fullmatch(folded) is not None
    found: list[_Candidate] = []
    if folded.strip("-–— ") != "#":
        for same in _split(group, lambda candidate: candidate.text):
            found += _on_most_pages(same, texted)
    if is_folio or not _HEADING.match(folded):
        for slot in range(len(group[0].numbers) if group else 0):
            for counting in _split(group, _distance_from_page(slot)):
                if is_folio and len({candidate.page for candidate in counting}) >= _FEWEST_PAGES:
                    found += counting
                else:
                    found += _on_most_pages(counting, texted)
    return found


def _distance_from_page(slot: int) -> Callable[[_Candidate], int]:
    return lambda candidate: candidate.numbers[slot] - candidate.page


def _split(group: Iterable[_Candidate], key: Callable[[_Candidate], Hashable]) -> Iterable[list[_Candidate]]:
    parts: dict[Hashable, list[_Candidate]] = defaultdict(list)
    for candidate in group:
        parts[key(candidate)].append(candidate)
    return parts.values()


def _on_most_pages(group: Sequence[_Candidate], texted: tuple[int, int]) -> Sequence[_Candidate]:
    """The group, if it is on more than half of the pages with text, or its part on so many odd or even ones.

    ``texted`` says how many even and odd pages hold text.
    """
    pages = {candidate.page for candidate in group}
    if len(pages) < _FEWEST_PAGES:
        return ()
    if 2 * len(pages) > sum(texted):
        return group
    for parity in (0, 1):
        here = sum(page % 2 == parity for page in pages)
        if here >= _FEWEST_PAGES and 2 * here > texted[parity]:
            return [candidate for candidate in group if candidate.page % 2 == parity]
    return ()


def _is_title(candidate: _Candidate, lines: Sequence[Line]) -> bool:
    """Whether it is clearly larger than the text of its page."""
    return candidate.size > _LARGE * statistics.median_low(line.size for line in lines)


def _peeled(lines: Sequence[Line], sides: Iterable[list[list[int]]], recurring: set[int]) -> set[int]:
    """What of the recurring lines is taken: rows from the edge inwards, as far as nothing of the page is between."""
    taken: set[int] = set()
    for rows in sides:
        for number, row in enumerate(rows[:_EDGE_ROWS]):
            if number + 1 < len(rows) and _heads_table(lines, row, rows[number + 1]):
                break
            here = recurring.intersection(row)
            taken |= here
            if len(here) < len(row):
                break
    return taken


def _heads_table(lines: Sequence[Line], row: Sequence[int], inner: Sequence[int]) -> bool:
    """Whether the row belongs to the table that begins next to it: its header, repeated on every page."""
    if not any(lines[index].tabular for index in row) or not any(lines[index].tabular for index in inner):
        return False
    first, second = lines[row[0]], lines[inner[0]]
    return abs(first.baseline - second.baseline) <= _TABLE_LEADING * max(first.size, second.size)
