"""Plain text whose paragraphs were broken into lines of one width, put together again.

Only where the evidence is plain: most lines that have another behind them are nearly as long as the longest
and end inside a sentence. Lists, tables, verse and text with one paragraph a line stay as they are.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

from chinese_alpaca_rag.ingest.joining import join_lines
from chinese_alpaca_rag.sentences import is_cjk

_FEWEST = 4  # lines that must show the width
_NARROWEST, _WIDEST = 40, 130  # columns; a Chinese character takes two
_BEGINS_BLOCK = re.compile(
    r"[\s#>|+*•●■◆○·–—=_~`<\[-]|\d{1,3}[.、)）．]|[（(][一二三四五六七八九十\d]{1,3}[）)]|[一二三四五六七八九十]{1,3}、"
    r"|第\s?[一二三四五六七八九十百零〇\d]{1,5}\s?[编章节条回卷]|[①-⑳]"
)
_TABULAR = re.compile(r"\S\s{3,}\S|\t|\|")
_ENDS_SENTENCE = re.compile(r"[。！？；.!?;：:…][”’」』）)\"']*$")


def unwrap(text: str) -> str:
    """``text`` with the lines of broken paragraphs joined, or ``text`` itself where there is no such evidence."""
    lines = text.split("\n")
    if sum(len(line) > _WIDEST for line in lines) > 0.02 * len(lines):
        return text
    width = _broken_width(lines)
    if not width:
        return text
    joined: list[str] = []
    open_paragraph = fenced = False
    for line in lines:
        if line.startswith(("```", "~~~")):
            fenced = not fenced
        goes_on = open_paragraph and not fenced and bool(line.strip()) and not _BEGINS_BLOCK.match(line)
        if goes_on:
            joined[-1] = join_lines(joined[-1], line)
        else:
            joined.append(line)
        open_paragraph = not fenced and _is_full(line, width)
    return "\n".join(joined)


def _broken_width(lines: Sequence[str]) -> int:
    """The width in columns at which paragraphs were broken; 0 where they were not."""
    followed = [
        line
        for line, behind in itertools.pairwise(lines)
        if line.strip() and behind.strip() and not _BEGINS_BLOCK.match(behind) and not _TABULAR.search(line.strip())
    ]
    widths = [columns(line) for line in lines if line.strip() and not _TABULAR.search(line.strip())]
    if len(followed) < _FEWEST:
        return 0
    width = max(map(columns, followed))
    if not _NARROWEST <= width <= _WIDEST or sum(other > width for other in widths) > 0.02 * len(widths):
        return 0
    starts = [line.lstrip()[:2] for line in followed]
    if max(map(starts.count, starts)) > 0.3 * len(starts) or all(
        _is_full(line, width) for line in lines if line.strip()
    ):
        return 0  # entries of one pattern, or lines that are one paragraph each
    full = sum(_is_full(line, width) for line in followed)
    inside = sum(not _ENDS_SENTENCE.search(line) for line in followed)
    return width if full >= 0.8 * len(followed) and inside >= 0.6 * len(followed) else 0


def _is_full(line: str, width: int) -> bool:
    """Whether a line leaves no room for a further word: two characters of Chinese, a long word of English."""
    line = line.rstrip()
    if not line or _TABULAR.search(line.strip()):
        return False
    room = 4 if is_cjk(line[-1]) else 14
    return columns(line) >= width - room


def columns(line: str) -> int:
    """The width of a line on a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line.rstrip())
