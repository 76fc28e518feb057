"""Headings in plain text: ``#`` lines, and the numbering of Chinese documents.

第二章 考勤, 第五条, 一、, （一）, 1., 1.2: which of them stands above which follows official documents. Marked
headings (``#``) stand above numbered ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMERAL = r"[一二三四五六七八九十百千零〇两\d]"
_MARKDOWN = re.compile(r"(#{1,6})[ \t]+(\S.*?)(?:[ \t]+#+)?")
_NUMBERINGS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("编", re.compile(rf"第\s?{_NUMERAL}{{1,5}}\s?[编篇卷](?!\w)")),
    (
        "章",
        re.compile(rf"第\s?{_NUMERAL}{{1,5}}\s?章|Chapter\s+(?:\d+|[IVXL]+)\b|附件\s?{_NUMERAL}{{0,2}}(?=[\s：:]|$)"),
    ),
    ("节", re.compile(rf"第\s?{_NUMERAL}{{1,5}}\s?节")),
    ("条", re.compile(rf"第\s?{_NUMERAL}{{1,6}}\s?条(?:之{_NUMERAL}{{1,2}})?")),
    ("一、", re.compile(r"[一二三四五六七八九十百]{1,4}、")),
    ("（一）", re.compile(r"[（(][一二三四五六七八九十百]{1,4}[）)]")),
    ("1.1", re.compile(r"\d{1,2}(?:[.．]\d{1,2}){1,4}[.．]?(?=\s|[^\d\s%.．，,年月日元万亿、～~–-])")),
    ("1.", re.compile(r"\d{1,2}(?:[.．](?!\d)|、|\s{1,4}(?=[\u4e00-\u9fff]{2}))|(?:Section|Part)\s+\d{1,2}\b")),
)
# The parts of a document that carry no number, stand beside its chapters and have no parts of their own.
_PLAIN = "·"
_UNNUMBERED = re.compile(
    r"摘\s*要|目\s*录|前\s*言|引\s*言|绪\s*论|总\s*则|附\s*则|结\s*论|结\s*语|后\s*记|致\s*谢|参\s*考\s*文\s*献|附\s*录"
    r"|Abstract|Introduction|Conclusions?|References|Appendix|Acknowledge?ments?",
    re.IGNORECASE,
)
_RANKS = tuple(kind for kind, _ in _NUMBERINGS if kind != "1.1")
_LONGEST = 40  # characters; a longer numbered line is a paragraph
_LONGEST_TITLE = 60
_SENTENCE_END = re.compile(r"[。；！？;!?：:，,、…]$|[.．·…]{3,}\s*\d*$|\t\s*\S{1,6}$")


@dataclass(frozen=True)
class Heading:
    """A heading: its kind of numbering (``#`` to ``######`` for marked ones) and its words.

    ``inline`` when its line goes on with the text that it stands above, as articles of regulations do.
    """

    kind: str
    title: str
    inline: bool = False


_NO_HEADING = Heading("", "")


class HeadingPath:
    """The headings that are open at a place of a document, from the highest down."""

    def __init__(self, opened: Iterable[Heading] = ()) -> None:
        self._open: list[Heading] = list(opened)

    def copy(self) -> HeadingPath:
        """Another path with the same headings open."""
        return HeadingPath(self._open)

    def enter(self, heading: Heading) -> None:
        """Open ``heading``, closing those that do not stand above it."""
        for position, other in enumerate(self._open):
            if _closes(heading.kind, other.kind):
                del self._open[position:]
                break
        self._open.append(heading)

    def depth(self, heading: Heading) -> int:
        """How many headings would stay open above ``heading``."""
        for position, other in enumerate(self._open):
            if _closes(heading.kind, other.kind):
                return position
        return len(self._open)

    def clear(self) -> None:
        """Close all."""
        self._open.clear()

    def __str__(self) -> str:
        return " › ".join(heading.title for heading in self._open)


def find_headings(text: str, *, marked: bool, numbered: bool = True) -> dict[int, Heading]:
    """The headings of ``text`` by the offset at which their line's words begin.

    ``marked`` says that lines with ``#`` are headings (as in Markdown, or as parsers write them), ``numbered``
    that numbering makes headings as well. Items of a list and lines of a table of contents are none: numbered
    lines of one kind that follow each other directly.
    """
    found: dict[int, Heading] = {}
    candidates: list[tuple[int, Heading]] = []
    fenced = False
    for match in re.finditer(r"[^\n]+", text):
        line = match.group()
        words = line.lstrip()
        start = match.start() + len(line) - len(words)
        if marked and words.startswith(("```", "~~~")):
            fenced = not fenced
        if fenced or not words:
            continue
        heading = _marked(words) if marked else None
        if heading is not None:
            found[start] = heading
            candidates.append((start, _NO_HEADING))
        elif numbered:
            candidates.append((start, _numbered(words.rstrip()) or _NO_HEADING))
    found.update(_without_lists(candidates))
    return dict(sorted(found.items()))


def _marked(words: str) -> Heading | None:
    match = _MARKDOWN.fullmatch(words.rstrip())
    return Heading(match.group(1), _title(match.group(2).strip("*_ "))) if match else None


def _numbered(words: str) -> Heading | None:
    if _UNNUMBERED.fullmatch(words):
        return Heading(_PLAIN, _title(words))
    for kind, pattern in _NUMBERINGS:
        match = pattern.match(words)
        if match is None:
            continue
        if len(words) <= _LONGEST and not _SENTENCE_END.search(words):
            return Heading(_with_depth(kind, match.group()), _title(words))
        # An article of a regulation goes on in its own line: its number alone is the heading.
        return (
            Heading("条", match.group(), inline=True) if kind == "条" and not _SENTENCE_END.search(words[:12]) else None
        )
    return None


def _with_depth(kind: str, number: str) -> str:
    """The kind with the number's depth in it, as "1.1.1" and "1.1" are different kinds: 1.2 closes 1.1.3."""
    return kind if kind != "1.1" else "1" + ".1" * len(re.findall(r"[.．]\d", number))


def _without_lists(lines: list[tuple[int, Heading]]) -> dict[int, Heading]:
    """The numbered lines among ``lines`` that have something between them and the next of their kind."""
    kept: dict[int, Heading] = {}
    for index, (start, heading) in enumerate(lines):
        if not heading.kind:
            continue
        # An article is its own text; two of them may follow each other.
        neighbours = [lines[other][1].kind for other in (index - 1, index + 1) if 0 <= other < len(lines)]
        if heading.kind == "条" or heading.kind not in neighbours:
            kept[start] = heading
    return kept


def _closes(kind: str, other: str) -> bool:
    """Whether a heading of ``kind`` ends the part that one of kind ``other`` opened."""
    if other.startswith("#"):
        return kind.startswith("#") and len(kind) <= len(other)
    if _PLAIN in (kind, other):
        return True
    return kind.startswith("#") or _rank(kind) <= _rank(other)


def _rank(kind: str) -> int:
    """The place of a numbering in the order of official Chinese documents; each further ".1" is one lower."""
    return _RANKS.index(kind) if kind in _RANKS else len(_RANKS) + kind.count(".")


def _title(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= _LONGEST_TITLE else words[: _LONGEST_TITLE - 1] + "…"
