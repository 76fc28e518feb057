"""Where sentences lie in Chinese and English text, as offsets.

A sentence ends after ``。！？；…`` (and their ASCII and half-width forms), after an English full stop that
is followed by a space and a new beginning, and at every line break. Closing quotes and brackets, and
citation marks such as ``[1]``, stay with the sentence that they close.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from chinese_alpaca_rag.graphemes import is_boundary

_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
# A run of ends: "？！", "……", "...". A single "." is an end only in the company `_dot_ends` asks for.
_END = re.compile(r"[。！？；｡‼⁇⁈⁉…!?;.．]+")
_CITATION_MARK = re.compile(r"(?:\[\d{1,3}\]|［\d{1,3}］)+")
_FULL_ENDS = frozenset("。！？；｡‼⁇⁈⁉…")
_DOTS = frozenset(".．")
_CLOSERS = frozenset("”’」』）】》〉〕］｝〗〙〛﹂﹄»›)]}")
_OPENERS = frozenset("“‘「『（【《〈〔［｛〖〘〚﹁﹃«‹([{\"'")
# After these the sentence goes on, whatever mark stood before: “好！”，他说。
_CONTINUATIONS = frozenset("，、,：:")
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|st|jr|sr|nos?|vol|figs?|eqs?|sec|ch|pp|eds?|vs|etc|inc|ltd|co|corp|dept|est|approx"
    r"|e\.g|i\.e|cf|al|viz|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|u\.s|u\.k",
    re.IGNORECASE,
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end offsets (code points, end exclusive) of the sentences of ``text``, in order.

    Spans do not overlap and begin and end on characters that are no white space, or on a space that bears
    an accent; every such character of the text lies in one of them. A text without any gives an empty list.
    """
    spans: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        start = line.start()
        for end in _ends(text, line.start(), line.end()):
            _append_trimmed(spans, text, start, end)
            start = end
        _append_trimmed(spans, text, start, line.end())
    return spans


def is_cjk(character: str) -> bool:
    """Whether a character is of Chinese, Japanese or Korean writing, its punctuation and full-width forms included."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0xA4CF
        or 0xAC00 <= code <= 0xD7A3
        or 0xF900 <= code <= 0xFAFF
        or 0xFE30 <= code <= 0xFE4F
        or 0xFF00 <= code <= 0xFFEF
        or 0x20000 <= code <= 0x3FFFF
    )


def behind_white_space(text: str, start: int, end: int) -> int:
    """The first offset from ``start`` on that white space does not hold; a space that bears an accent is none."""
    while (
        start < end
        and text[start].isspace()
        and (start + 1 == end or text[start + 1].isspace() or is_boundary(text, start + 1))
    ):
        start += 1
    return start


def _append_trimmed(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    start = behind_white_space(text, start, end)
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        spans.append((start, end))


def _ends(text: str, start: int, stop: int) -> Iterator[int]:
    """Offsets just behind each sentence end of the line ``text[start:stop]``."""
    sentence_start = start
    quotes = 0  # straight double quotes since the line began: an odd one opens, an even one closes
    counted = start
    position = start
    while match := _END.search(text, position, stop):
        position = match.end()
        if not _is_end(text, match.start(), match.end(), sentence_start, stop):
            continue
        quotes += text.count('"', counted, match.end())
        counted = match.end()
        end = _behind_closers(text, match.end(), stop, quote_open=quotes % 2 == 1)
        if end < stop and text[end] in _CONTINUATIONS:
            continue
        yield end
        sentence_start = end
        position = max(position, end)


def _is_end(text: str, start: int, end: int, sentence_start: int, stop: int) -> bool:
    run = text[start:end]
    if not _FULL_ENDS.isdisjoint(run):
        return True
    if all(mark in _DOTS for mark in run):
        return _dots_end(text, start, end, sentence_start, stop)
    # ASCII "!", "?" and ";" also stand inside addresses and code: there both neighbours are ASCII and close by.
    before = text[start - 1] if start > sentence_start else " "
    after = text[end] if end < stop else " "
    inside_word = before.isascii() and after.isascii() and (after.isalnum() or after in "_=&/%#-+~$@\\<")
    return not inside_word


def _dots_end(text: str, start: int, end: int, sentence_start: int, stop: int) -> bool:
    """Whether the run of full stops ``text[start:end]`` ends a sentence rather than a number or an abbreviation."""
    before = text[start - 1] if start > sentence_start else " "
    after = _character_behind_closers(text, end, stop)
    if not after:
        return True
    if is_cjk(before) and not before.isdigit():
        return is_cjk(after) or after.isspace() or after in _OPENERS
    if end - start > 1:
        return is_cjk(after) or (after.isspace() and _begins_sentence(text, end, stop))
    if not after.isspace() or not _begins_sentence(text, end, stop):
        return False
    word_start = start
    while word_start > sentence_start and not text[word_start - 1].isspace() and start - word_start < 24:
        word_start -= 1
    word = text[word_start:start].strip("".join(_OPENERS))
    is_list_number = word.isdigit() and not text[sentence_start:word_start].strip()
    is_initial = len(word) == 1 and word.isupper()
    return not (is_list_number or is_initial or _ABBREVIATION.fullmatch(word))


def _character_behind_closers(text: str, position: int, stop: int) -> str:
    while position < stop and (text[position] in _CLOSERS or text[position] in "\"'"):
        position += 1
    return text[position] if position < stop else ""


def _begins_sentence(text: str, position: int, stop: int) -> bool:
    """Whether what follows, behind closing marks and spaces, can begin a sentence."""
    while position < stop and (text[position].isspace() or text[position] in _CLOSERS or text[position] in "\"'"):
        position += 1
    if position >= stop:
        return True
    character = text[position]
    return character.isupper() or character.isdigit() or is_cjk(character) or character in _OPENERS


def _behind_closers(text: str, position: int, stop: int, *, quote_open: bool) -> int:
    """The offset behind the closing marks, combining marks and citation numbers at ``position``."""
    while position < stop:
        character = text[position]
        if character in _CLOSERS or unicodedata.category(character) in ("Mn", "Me", "Mc"):
            position += 1
        elif character == '"' and quote_open:
            quote_open = False
            position += 1
        elif character == "'" and not text[position + 1 : position + 2].isalnum():
            position += 1
        elif mark := _CITATION_MARK.match(text, position, stop):
            position = mark.end()
        else:
            break
    return position
