"""Which words of an answer a marker vouches for.

Mostly what stands before it: 年假为五天[1]。 Where nothing does (``[1] 年假…`` at the beginning of a line,
``根据[1]，年假…``), what follows. How far back a claim reaches is not written anywhere, so it is given as
readings, longest first: everything since the last marker, the line, the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.chains.framing import LONGEST_FRAME, is_framing
from chinese_alpaca_rag.chains.markers import Marker
from chinese_alpaca_rag.sentences import sentence_spans

_JOINED = re.compile(r"[\s、，,和及与&]{0,4}|\s{0,2}and\s{0,2}")
_QUOTE = re.compile(r"“[^“”]{1,2000}”|「[^「」]{1,2000}」|『[^『』]{1,2000}』|\"[^\"\n]{1,2000}\"")
_ITEM_NUMBER = re.compile(
    r"\s*(?:[-*+•·▪●○◦>#]{1,6}|[(（]?[0-9０-９]{1,3}[.、)）．:：]|[①-⑳]|[(（]?[一二三四五六七八九十]{1,3}[、.．)）])\s*"
)
# "(来源：" and the like right before a marker belongs to the marker.
_MARKER_WORD = re.compile(
    r"(?:[(（]\s{0,3}(?:来源|资料来源|出处|资料|参见|详见|见|sources?|see)?|(?:来源|资料来源|出处|sources?)\s{0,3}[:：])"
    r"\s{0,3}[:：]?\s{0,3}\Z",
    re.IGNORECASE,
)
# A claim that has its marker first begins so.
_LEAD = re.compile(
    r"(?:根据|依据|按照|依照|参照|参见|正如|据|according to|based on|as stated in)[^“”「」\"。！？]*\Z", re.IGNORECASE
)
_CLAUSE_END = re.compile(r"[；;]")
_WEAK_LEAD = re.compile(r"(?:在|从|由|见|如|in|from)[^“”「」\"。！？]*\Z", re.IGNORECASE)
_FRAME_END = re.compile(r"[，,：:]")
# What is left in front of a claim when the one before it ended, and marks that open nothing of it.
_OPENING_MARKS = " \t\r\n\u3000，。；：、！？,.;:!?)）]】”’」』*"


@dataclass(frozen=True)
class Claim:
    """What a marker vouches for. ``readings`` come longest first, each paired with the frame before it.

    ``sentence`` is the claim as it is shown when it is not found; ``quotes`` are the quoted stretches of
    it, marks included, and ``frame`` is the rest of it.
    """

    sentence: str
    readings: tuple[tuple[str, str], ...]
    quotes: tuple[str, ...]
    frame: str


def same_group(answer: str, left: Marker, right: Marker) -> bool:
    """Whether two markers in a row stand for one claim: ``[1][2]``, ``[1]、[2]``."""
    between = answer[left.end : right.start]
    return len(between) <= 8 and _JOINED.fullmatch(between) is not None


def find_claim(answer: str, since: int, markers: Sequence[Marker], limit: int) -> Claim | None:
    """The claim of a group of ``markers``; None where nothing is claimed.

    ``since`` is where the text begins that no marker before vouches for, ``limit`` where the next marker
    begins (or the answer's length).
    """
    start, end = markers[0].start, markers[-1].end
    marker_word = _MARKER_WORD.search(answer, max(since, start - 24), start)
    start = marker_word.start() if marker_word else start
    line_start = max(since, answer.rfind("\n", since, start) + 1)
    line_end = answer.find("\n", end, limit)
    behind = answer[end : limit if line_end < 0 else line_end]
    sentence_start = _last_sentence(answer, line_start, start)
    opening = answer[sentence_start:start]
    opens_sentence = not _says_something(opening) or _leads_in(_CLAUSE_END.split(opening)[-1], behind)
    if opens_sentence and _says_something(_first_sentence(behind)):
        return _following(behind)
    if not _says_something(answer[since:start]):
        return None
    if not _says_something(answer[line_start:start]):
        return _preceding(answer[since:start].rstrip())
    return _preceding(answer[since:start], line_start - since, sentence_start - since)


def _leads_in(opening: str, behind: str) -> bool:
    """Whether ``opening`` only leads to a marker whose claim is still to come: 根据[1]，年假…"""
    lead = opening.strip()
    if len(lead) > LONGEST_FRAME or not is_framing(lead):
        return False
    return bool(_LEAD.match(lead) or (_WEAK_LEAD.match(lead) and behind.lstrip()[:1] in tuple("，,：:中里的")))


def _preceding(text: str, line_start: int = -1, sentence_start: int = -1) -> Claim:
    if line_start < 0:
        line_start = text.rfind("\n") + 1
        sentence_start = _last_sentence(text, line_start, len(text))
    line, sentence = text[line_start:], text[sentence_start:]
    return _claim(sentence, [text, line, without_number(line)])


def _following(text: str) -> Claim:
    return _claim(_first_sentence(text), [text])


def _claim(sentence: str, longer: list[str]) -> Claim:
    plain = without_number(sentence)
    readings = [(reading, "") for reading in dict.fromkeys([*longer, sentence, plain])]
    core = plain.lstrip(_OPENING_MARKS)
    framed = _FRAME_END.search(core)
    if framed:
        readings.append((core[framed.end() :], core[: framed.start()]))
    return Claim(
        sentence=plain.lstrip(_OPENING_MARKS).rstrip(),
        readings=tuple(readings),
        quotes=tuple(_QUOTE.findall(plain)),
        frame=_QUOTE.sub(" ", plain),
    )


def _last_sentence(text: str, start: int, end: int) -> int:
    """Where the last sentence of ``text[start:end]`` begins; neither a semicolon nor a quotation parts it."""
    stretch = text[start:end]
    quotes = [match.span() for match in _QUOTE.finditer(stretch)]
    passed = 0  # quotations that end before the sentence at hand
    begins: list[int] = []
    complete = False  # whether the last of `begins` says something and has ended
    for first, last in sentence_spans(stretch):
        while passed < len(quotes) and quotes[passed][1] <= first:
            passed += 1
        quoted = passed < len(quotes) and quotes[passed][0] < first
        sentence = stretch[first:last]
        speaks = _says_something(sentence)
        if not begins or (complete and speaks and not quoted):
            begins.append(first)
            complete = False
        complete = (complete or speaks) and not sentence.endswith(("；", ";"))
    # “年假为五天。”这是规定 is the quotation with its frame behind it.
    if len(begins) > 1 and quotes and is_framing(stretch[begins[-1] :]):
        begins.pop()
    return start + (begins[-1] if begins else 0)


def _first_sentence(text: str) -> str:
    """The first sentence of ``text`` that says something; empty if none does."""
    for start, end in sentence_spans(text):
        if _says_something(text[start:end]):
            return text[start:end]
    return ""


def _says_something(text: str) -> bool:
    plain = without_number(text)
    return any(character.isalnum() for character in plain)


def without_number(text: str) -> str:
    """``text`` without a list's number or bullet in front."""
    match = _ITEM_NUMBER.match(text)
    return text[match.end() :] if match else text
