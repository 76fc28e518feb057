"""Pages to passages: stretches of whole sentences, of about one length, each below its headings.

A passage never crosses a page, never cuts a sentence that fits it, and never parts a character. The passages
of a page hold every character of it that is no white space, each exactly once unless an overlap is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.graphemes import boundary_at_or_before
from chinese_alpaca_rag.ingest.headings import Heading, HeadingPath, find_headings
from chinese_alpaca_rag.ingest.lengths import LengthFunction, Ruler
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.sentences import behind_white_space, sentence_spans

if TYPE_CHECKING:
    from chinese_alpaca_rag.ingest.text_splitter import ChineseTextSplitter

__all__ = ["DEFAULT_SIZE", "SPLITTER_VERSION", "ChineseTextSplitter", "check_size", "split_document", "split_page"]

DEFAULT_SIZE = 400
#: Raised whenever the same text is split otherwise, so that libraries split it again.
SPLITTER_VERSION = 1

# Formats whose parsers write headings as "#" lines, and those in which numbered lines are rows or list items.
_MARKED = frozenset(("markdown", "html", "docx", "pptx", "rtf", "odt", "odp", "epub"))
_UNNUMBERED = frozenset(("markdown", "xlsx", "ods", "csv", "json", "jsonl", "xml", "subtitles"))
_LONGEST_RUNNING_HEAD = 80  # characters
_SENTENCE_END = re.compile("[。！？；]")
_SOFT_ENDS = re.compile(r"[，、,：:|)）」』”’\]】]\s?|\s+")


@dataclass(frozen=True)
class _Piece:
    """A sentence, or a part of one that is longer than a passage; ``opens`` is set where a paragraph begins."""

    start: int
    end: int
    opens: bool
    heading: Heading | None


def __getattr__(name: str) -> object:
    """The splitter for LangChain, which is imported with LangChain when it is asked for."""
    if name == "ChineseTextSplitter":
        from chinese_alpaca_rag.ingest.text_splitter import ChineseTextSplitter

        return ChineseTextSplitter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def split_document(
    document: ParsedDocument, *, size: int = DEFAULT_SIZE, overlap: int = 0, length: LengthFunction | None = None
) -> list[PassageSpan]:
    """The passages of a document, in reading order.

    ``size`` is the most characters (code points) of a passage; a short rest may make one a fifth longer.
    ``overlap`` repeats up to so many characters of whole sentences from the passage before, on the same page
    and below the same headings. WrongUsageError for sizes that make no sense.

    With ``length``, such as a model's ``get_num_tokens``, both count what it counts, and no passage is longer than
    ``size``, its overlap included, unless a single character (grapheme cluster) is.
    """
    check_size(size, overlap)
    marked, numbered = document.format in _MARKED, document.format not in _UNNUMBERED
    path = HeadingPath()
    spans: list[PassageSpan] = []
    for page in document.pages:
        if document.page_kind in ("slide", "sheet"):
            path.clear()
        headings = find_headings(page.text, marked=marked, numbered=numbered)
        spans += split_page(page, headings, path, Ruler(page.text, size, length), overlap)
    return spans


def check_size(size: int, overlap: int) -> None:
    """WrongUsageError for a passage size and overlap (characters) that cannot be meant."""
    if size < 1 or not 0 <= overlap < size:
        raise WrongUsageError(
            Words(
                zh=f"段落长度 {size}、重叠 {overlap} 无法使用。",
                en=f"A passage size of {size} with an overlap of {overlap} cannot be used.",
            ),
            hint=Words(zh="长度须为正数，重叠须小于长度。", en="The size must be positive and the overlap smaller."),
        )


def split_page(
    page: Page, headings: dict[int, Heading], path: HeadingPath, ruler: Ruler, overlap: int
) -> Iterator[PassageSpan]:
    """The passages of one page; ``path`` holds the headings open at its beginning, and at its end those then open."""
    pieces = list(_pieces(page.text, headings, ruler))
    head = _running_head(page.text, pieces)
    for first, last in _merged_rests(_groups(pieces, _depths(pieces, path), ruler), pieces, ruler):
        above = ""
        content = head if first == 0 else first
        for index in range(first, last):
            heading = pieces[index].heading
            if heading is not None:
                path.enter(heading)
            if index <= content or _all_headings(pieces, content, index):
                above = str(path)
        start = _overlapped(pieces, first, last, overlap, ruler)
        yield PassageSpan(page.number, pieces[start].start, pieces[last - 1].end, above)


def _pieces(text: str, headings: dict[int, Heading], ruler: Ruler) -> Iterator[_Piece]:
    behind = 0
    for start, end in sentence_spans(text):
        opens = "\n" in text[behind:start] or behind == 0
        heading = headings.get(start)
        for part_start, part_end in _parts(text, start, end, ruler):
            yield _Piece(part_start, part_end, opens, heading)
            opens, heading = False, None
        behind = end


def _parts(text: str, start: int, end: int, ruler: Ruler) -> Iterator[tuple[int, int]]:
    """A sentence in parts that fit: cut behind a comma or space in a part's second half, else between characters."""
    while not ruler.fits(start, end):
        reach = ruler.reach(start, end)
        soft = [match.end() for match in _SOFT_ENDS.finditer(text, start + max(1, (reach - start) // 2), reach)]
        cut = boundary_at_or_before(text, soft[-1] if soft else reach, start)
        part_end = cut
        while part_end > start and text[part_end - 1].isspace():
            part_end -= 1
        if part_end > start:
            yield start, part_end
        start = behind_white_space(text, cut, end)
    if start < end:
        yield start, end


def _groups(pieces: Sequence[_Piece], depths: Sequence[int], ruler: Ruler) -> Iterator[tuple[int, int]]:
    """Ranges of pieces that make a passage each."""
    first = 0
    for index in range(1, len(pieces)):
        if index > first and _breaks(pieces, depths, first, index, ruler):
            last = index
            # A heading goes with what it stands above, if both fit.
            most = ruler.size if ruler.is_strict else 1.2 * ruler.size
            while (
                last - 1 > first
                and _stands_alone(pieces, last - 1)
                and ruler.fits(pieces[last - 1].start, pieces[index].end, most)
            ):
                last -= 1
            yield first, last
            first = last
    if first < len(pieces):
        yield first, len(pieces)


def _depths(pieces: Sequence[_Piece], path: HeadingPath) -> list[int]:
    """How deep each heading lies, counted from the highest; 0 for what is none."""
    trial = path.copy()
    depths: list[int] = []
    for piece in pieces:
        depths.append(trial.depth(piece.heading) if piece.heading is not None else 0)
        if piece.heading is not None:
            trial.enter(piece.heading)
    return depths


def _breaks(pieces: Sequence[_Piece], depths: Sequence[int], first: int, index: int, ruler: Ruler) -> bool:
    """Whether a passage that began with piece ``first`` ends before piece ``index``."""
    piece = pieces[index]
    start = pieces[first].start
    if not ruler.fits(start, piece.end):
        return True
    if piece.heading is None and not piece.opens:
        return False
    length = ruler.of(start, pieces[index - 1].end)
    if piece.heading is not None:
        higher = pieces[first].heading is not None and depths[index] < depths[first]
        return not _all_headings(pieces, first, index - 1) and (length >= 0.4 * ruler.size or higher)
    if piece.opens and length >= 0.6 * ruler.size:
        return not ruler.fits(start, _paragraph_end(pieces, index))
    return False


def _all_headings(pieces: Sequence[_Piece], first: int, last: int) -> bool:
    """Whether the pieces from ``first`` to ``last``, both included, are headings that stand alone."""
    return all(_stands_alone(pieces, index) for index in range(first, last + 1))


def _running_head(text: str, pieces: Sequence[_Piece]) -> int:
    """How many pieces of a page are its running head: short lines without a sentence before the first heading.

    They belong to no part of the text, so the part that ends on the page before is not continued by them.
    """
    for index, piece in enumerate(pieces):
        before = text[pieces[0].start : piece.start]
        if len(before) > _LONGEST_RUNNING_HEAD or _SENTENCE_END.search(before):
            return 0
        if piece.heading is not None:
            return index
    return 0


def _stands_alone(pieces: Sequence[_Piece], index: int) -> bool:
    """Whether a piece is a heading and nothing else."""
    heading = pieces[index].heading
    return heading is not None and not heading.inline and (index + 1 == len(pieces) or pieces[index + 1].opens)


def _paragraph_end(pieces: Sequence[_Piece], index: int) -> int:
    last = index
    while last + 1 < len(pieces) and not pieces[last + 1].opens:
        last += 1
    return pieces[last].end


def _merged_rests(groups: Iterable[tuple[int, int]], pieces: Sequence[_Piece], ruler: Ruler) -> list[tuple[int, int]]:
    """The groups, with a short rest put to the group before it where no heading lies between."""
    merged: list[tuple[int, int]] = []
    longest = ruler.size if ruler.is_strict else 1.2 * ruler.size
    for first, last in groups:
        length = ruler.of(pieces[first].start, pieces[last - 1].end)
        if merged and length < 0.2 * ruler.size and pieces[first].heading is None:
            before = merged[-1][0]
            if ruler.fits(pieces[before].start, pieces[last - 1].end, longest):
                merged[-1] = (before, last)
                continue
        merged.append((first, last))
    return merged


def _overlapped(pieces: Sequence[_Piece], first: int, last: int, overlap: int, ruler: Ruler) -> int:
    """The piece from which a passage begins that repeats up to ``overlap`` of what stands before it."""
    start = first
    while start > 0 and pieces[start].heading is None:
        place = pieces[start - 1].start
        if not ruler.fits(place, pieces[first].start, overlap):
            break
        if ruler.is_strict and not ruler.fits(place, pieces[last - 1].end):
            break
        start -= 1
    return start
