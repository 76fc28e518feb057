"""Checking an answer's citations against the sources that were put before the model.

A citation is verified only when the words that it vouches for stand in the cited source: the whole
claim, or its quotations where the rest merely frames them. Width, case, white space and the shape of
punctuation may differ; a digit, a name or a negation may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chinese_alpaca_rag.chains.claims import Claim, find_claim, same_group, without_number
from chinese_alpaca_rag.chains.folding import fold
from chinese_alpaca_rag.chains.framing import is_framing
from chinese_alpaca_rag.chains.markers import Marker, find_markers
from chinese_alpaca_rag.chains.matching import SearchedSource
from chinese_alpaca_rag.chains.results import Citation
from chinese_alpaca_rag.chains.sources import Source

# So many markers ahead are looked at to tell a source's own "[12]" from a citation.
_LOOK_AHEAD = 8
# Titles and headings of so many of a claim's sources may stand in its frame.
_MOST_NAMED = 16


def check_citations(answer: str, sources: Sequence[Source]) -> tuple[Citation, ...]:
    """The citations of ``answer`` in order. Any text is taken; the time is linear in its length."""
    return tuple(_Checker(answer, sources).citations())


class _Checker:
    def __init__(self, answer: str, sources: Sequence[Source]) -> None:
        self._answer = answer
        self._sources = {source.number: source for source in sources}
        self._searched: dict[int, SearchedSource] = {}
        self._markers = find_markers(answer)

    def citations(self) -> Iterator[Citation]:
        since = 0
        claim: Claim | None = None
        index = 0
        while index < len(self._markers):
            index = self._skip_quoted_markers(index, since)
            behind = index + 1
            while behind < len(self._markers) and self._same_group(behind):
                behind += 1
            group = self._markers[index:behind]
            limit = self._markers[behind].start if behind < len(self._markers) else len(self._answer)
            # A marker with nothing of its own, as in 年假为五天[1]。[2], repeats the claim before it.
            claim = find_claim(self._answer, since, group, limit) or claim
            numbers = dict.fromkeys(number for marker in group for number in marker.numbers)
            yield from self._check_group(claim, list(numbers))
            since = group[-1].end
            index = behind

    def _same_group(self, index: int) -> bool:
        return same_group(self._answer, self._markers[index - 1], self._markers[index])

    def _skip_quoted_markers(self, index: int, since: int) -> int:
        """The index of the first marker from ``index`` on that is the answer's own, not a source's words.

        A source can hold "[12]" itself. Where the text through such a marker up to a later one stands
        word for word in a source that the later one names, it is a quotation and not a citation.
        """
        own = self._with_letter_before(self._markers[index])
        for later in range(index + 1, min(index + 1 + _LOOK_AHEAD, len(self._markers))):
            holding = [
                searched
                for searched in map(self._search, self._markers[later].numbers[:_LOOK_AHEAD])
                if searched is not None and own in searched.folded_text
            ]
            if holding:
                line = self._answer[since : self._markers[later].start].rpartition("\n")[2]
                readings = dict.fromkeys((fold(line).text, fold(without_number(line)).text))
                if any(own in reading and searched.find(reading) for reading in readings for searched in holding):
                    return later
        return index

    def _with_letter_before(self, marker: Marker) -> str:
        """A marker, folded, with the letter that it follows: enough to rule most sources out."""
        before = self._answer[max(0, marker.start - 1) : marker.start]
        return fold((before if before.isalnum() else "") + self._answer[marker.start : marker.end]).text

    def _check_group(self, claim: Claim | None, numbers: Sequence[int]) -> Iterator[Citation]:
        known = [number for number in numbers if number in self._sources]
        folded = _FoldedClaim(claim, self._names(known)) if claim and known else None
        sentence = claim.sentence if claim else ""
        for position, number in enumerate(numbers):
            searched = self._search(number)
            if searched is None or folded is None:
                yield self._unverified(number, sentence)
                continue
            found = folded.find_whole(searched)
            if found is not None:
                yield _verified(searched, found)
                continue
            # A quotation that no source of the group holds is told once, with the group's first number.
            yield from self._check_quotes(folded, searched, known if position == 0 else None)

    def _check_quotes(
        self, claim: _FoldedClaim, searched: SearchedSource, tell_missing_from: Sequence[int] | None
    ) -> Iterator[Citation]:
        """One citation for each quotation, or one for the claim as a whole where no quotation speaks for it."""
        number = searched.source.number
        told = False
        for quote, folded in claim.telling_quotes:
            found = searched.find(folded)
            if found is not None:
                told = True
                yield _verified(searched, found)
            elif tell_missing_from is not None and not self._holds_any(tell_missing_from, folded):
                told = True
                yield self._unverified(number, quote[1:-1])
        if not told:
            yield self._unverified(number, claim.sentence)

    def _holds_any(self, numbers: Sequence[int], folded: str) -> bool:
        """Whether one of the sources holds the folded text."""
        return any(searched.find(folded) for searched in map(self._search, numbers) if searched is not None)

    def _names(self, numbers: Sequence[int]) -> list[str]:
        """Titles and headings of some sources, folded."""
        excerpts = [self._sources[number].excerpt for number in numbers[:_MOST_NAMED]]
        return [fold(name).text for excerpt in excerpts for name in (excerpt.title, excerpt.heading)]

    def _search(self, number: int) -> SearchedSource | None:
        if number not in self._searched:
            if number not in self._sources:
                return None
            self._searched[number] = SearchedSource(self._sources[number])
        return self._searched[number]

    def _unverified(self, number: int, claim: str) -> Citation:
        source = self._sources.get(number)
        if source is None:
            return Citation(number, "", 0, 0, 0, claim, verified=False)
        place = source.excerpt.place
        return Citation(number, place.source, place.page, place.start, place.end, claim, verified=False)


class _FoldedClaim:
    """A claim made ready for searching: folded once, however many sources it names."""

    def __init__(self, claim: Claim, names: Sequence[str]) -> None:
        self.sentence = claim.sentence
        self._readings = [
            fold(reading).text for reading, frame in claim.readings if not frame or is_framing(frame, names)
        ]
        # Quotations speak for a sentence in which nothing else is said.
        framed = bool(claim.quotes) and is_framing(claim.frame, names)
        self.telling_quotes = [(quote, fold(quote).text) for quote in claim.quotes] if framed else []

    def find_whole(self, searched: SearchedSource) -> tuple[int, int] | None:
        """The place of the longest reading that stands in the source."""
        for reading in self._readings:
            found = searched.find(reading)
            if found is not None:
                return found
        return None


def _verified(searched: SearchedSource, found: tuple[int, int]) -> Citation:
    excerpt = searched.source.excerpt
    start, end = found
    quote = excerpt.text[start - excerpt.start : end - excerpt.start]
    return Citation(searched.source.number, excerpt.source, excerpt.page, start, end, quote, verified=True)
