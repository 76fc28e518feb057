"""Whether a claim's words stand in a source, and where exactly.

A claim is looked for as a whole in the folded source. Found is not enough: a stretch that begins inside
a number (``5天`` in ``15天``), inside a word, or right behind a negation (``享有`` in ``不享有``) says
something else than the source, and is passed over. So is a claim too short to say anything.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import cached_property

from chinese_alpaca_rag.chains.folding import fold, is_ideographic
from chinese_alpaca_rag.chains.sources import Source
from chinese_alpaca_rag.sentences import sentence_spans

# Marks that may stand at the ends of a claim, or be missing there, without changing what it says. They
# are compared folded. A minus, a percent sign and the like are part of what is said and are not here.
EDGE_MARKS = frozenset("\"'()[]{}<>。,;:!?.·…*_#|~ \t\r\n\f\v\u3000")

# What a claim must weigh to be looked for anywhere: an ideograph weighs 1, a letter or digit of an
# alphabet 0.4 (about the ratio of the two scripts' word lengths). Lighter claims must be a sentence of
# their own in the source, and never have fewer than MINIMUM_CHARACTERS.
MINIMUM_WEIGHT = 3.0
MINIMUM_CHARACTERS = 3
_MOST_OCCURRENCES = 64

_SENTENCE_END = re.compile(r"[。.！!？?；;]")
_NUMERALS = frozenset("零〇一二三四五六七八九十百千万亿两兆壹贰叁肆伍陆柒捌玖拾佰仟")
_UNITS_BEHIND = frozenset("十百千万亿兆%‰℃°")
_CLAUSE_BREAK = re.compile(r"[^\w\s'’]|[^\S \u3000]")
_NEUTRAL = re.compile("非常|无论|不但|不仅|不论|不管|不过|不断|不同|未来")
_NEGATIONS = frozenset("不没未无非勿莫")
_ENGLISH_NEGATION = re.compile(r"(?:\b(?:not|no|never|without|cannot|neither|nor|non)|n['’]t)[\s-]+\w*\s*$")


class SearchedSource:
    """A source, folded once and searched many times."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._text = source.excerpt.text
        self._folded = fold(self._text)

    @property
    def folded_text(self) -> str:
        """The source's text as claims are compared with it."""
        return self._folded.text

    def find(self, claim: str) -> tuple[int, int] | None:
        """Where the folded ``claim`` stands: start and end in the text of the source's page, or None."""
        first, last = _core(claim)
        core, before, behind = claim[first:last], claim[:first], claim[last:]
        if sum(character.isalnum() for character in core) < MINIMUM_CHARACTERS:
            return None
        light = weight(core) < MINIMUM_WEIGHT
        full_stop = _SENTENCE_END.search(behind) is not None
        fallback: tuple[int, int] | None = None
        position = self._folded.text.find(core)
        for _ in range(_MOST_OCCURRENCES):
            if position < 0:
                break
            end = position + len(core)
            if self._says_the_same(position, end, full_stop) and (not light or self._is_sentence(position, end)):
                stretch, complete = self._with_edges(position, end, before, behind)
                if complete:
                    return self._page_stretch(*stretch)
                fallback = fallback or stretch
            position = self._folded.text.find(core, position + 1)
        return fallback and self._page_stretch(*fallback)

    def _with_edges(self, start: int, end: int, before: str, behind: str) -> tuple[tuple[int, int], bool]:
        """The stretch, widened by the claim's outer marks as far as the source has the same, and if it has all."""
        text = self._folded.text
        if text.startswith(behind, end) and text.endswith(before, 0, start):
            return (start - len(before), end + len(behind)), True
        if '"' in before and '"' in behind:  # the answer's own quotation marks
            before, behind = before.partition('"')[2], behind.rpartition('"')[0]
        wanted = start - len(before), end + len(behind)
        for mark in reversed(before):
            if not start or text[start - 1] != mark:
                break
            start -= 1
        for mark in behind:
            if text[end : end + 1] != mark:
                break
            end += 1
        return (start, end), (start, end) == wanted

    def _page_stretch(self, start: int, end: int) -> tuple[int, int]:
        offset = self.source.excerpt.start
        return offset + self._folded.starts[start], offset + self._folded.ends[end - 1]

    def _says_the_same(self, start: int, end: int, full_stop: bool) -> bool:
        """Whether the folded stretch is cut out of its surroundings without changing its meaning.

        A claim with a full stop is a sentence of its own: then no clause may go on around it.
        """
        first, last = self._folded.starts[start], self._folded.ends[end - 1]
        before = unicodedata.normalize("NFKC", self._text[max(0, first - 24) : first])
        behind = unicodedata.normalize("NFKC", self._text[last : last + 2])
        core = self._folded.text[start:end]
        goes_on = full_stop and (behind[:1].isalnum() or before[-1:].isalnum())
        return not (goes_on or _cuts_before(before, core[0]) or _cuts_behind(core[-1], behind) or _negated(before))

    def _is_sentence(self, start: int, end: int) -> bool:
        """Whether the folded stretch is, but for the marks at its ends, one sentence of the source."""
        first, last = self._folded.starts[start], self._folded.ends[end - 1]
        index = bisect_right(self._sentences, (first, len(self._text))) - 1
        if index < 0 or self._sentences[index][1] < last:
            return False
        sentence = fold(self._text[slice(*self._sentences[index])]).text
        return sentence[slice(*_core(sentence))] == self._folded.text[start:end]

    @cached_property
    def _sentences(self) -> list[tuple[int, int]]:
        return sentence_spans(self._text)


def _core(folded: str) -> tuple[int, int]:
    """Start and end of what is left of a folded claim without the marks at its ends."""
    first, last = 0, len(folded)
    while first < last and folded[first] in EDGE_MARKS:
        first += 1
    while last > first and folded[last - 1] in EDGE_MARKS:
        last -= 1
    return first, last


def weight(folded: str) -> float:
    """How much a folded text says: 1 an ideograph, 0.4 a letter or digit of an alphabet."""
    return sum(1.0 if is_ideographic(character) else 0.4 for character in folded if character.isalnum())


def _cuts_before(before: str, first: str) -> bool:
    """Whether ``first`` continues a number or a word that began in ``before``."""
    last = before[-1:]
    if not last:
        return False
    if first.isdigit():
        joined = last in ".,:/" and before[-2:-1].isdigit()
        return last.isdigit() or joined or last in "-−±+第" or (last.isascii() and last.isalpha())
    if first in _NUMERALS:
        return last in _NUMERALS or last.isdigit() or last == "第"
    if first.isalnum() and not is_ideographic(first):
        return last.isalnum() and not is_ideographic(last)
    return last == "副"


def _cuts_behind(last: str, behind: str) -> bool:
    """Whether the number or word that ends in ``last`` goes on in ``behind``."""
    following = behind[:1]
    if not following:
        return False
    if last.isdigit():
        joined = following in ".,:/" and behind[1:2].isdigit()
        return following.isdigit() or joined or following in _UNITS_BEHIND or _is_latin(following)
    if last in _NUMERALS:
        return following in _NUMERALS or following.isdigit()
    if last.isalnum() and not is_ideographic(last):
        return following.isalnum() and not is_ideographic(following)
    return False


def _is_latin(character: str) -> bool:
    return character.isalpha() and not is_ideographic(character)


def _negated(before: str) -> bool:
    """Whether what stands before ends, within its clause, in a negation of what follows."""
    clause = _CLAUSE_BREAK.split(before)[-1]
    if not clause:
        return False
    tail = _NEUTRAL.sub("", clause).rstrip()[-3:]
    return not _NEGATIONS.isdisjoint(tail) or bool(_ENGLISH_NEGATION.search(clause.lower() + " "))
