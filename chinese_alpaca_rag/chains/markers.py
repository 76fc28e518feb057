"""The numbers by which an answer points at its sources, found in any text.

Read are ``[1]``, its full-width and Chinese forms (``［１］``, ``【1】``), lists and ranges (``[1, 2]``,
``[1-3]``), numbers with a word before them (``[来源 1]``, ``[source 1]``) and, without brackets, ``来源1``.
Every pattern is bounded, so that reading takes linear time whatever a model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A range names at most this many sources; a wider one stands for its two ends.
WIDEST_RANGE = 20

_NUMBER = r"\^?[0-9０-９]{1,9}"
_WORD = r"(?:(?:资料来源|来源|资料|文献|sources?|[Ss]ource)\s{0,2}[:：]?\s{0,2})?"
_ITEM = rf"{_WORD}{_NUMBER}"
_BETWEEN = r"\s{0,3}[,，、;；和及与&~～至\-–—‐−]\s{0,3}"
_MARKER = re.compile(
    rf"[\[［【〔]\s{{0,3}}(?P<list>{_ITEM}(?:{_BETWEEN}{_ITEM})*)\s{{0,3}}[\]］】〕]"
    r"|(?<![A-Za-z])(?:来源|[Ss]ource)\s?(?P<bare>[0-9０-９]{1,3})(?![0-9０-９A-Za-z.．%％年月日号个条项份种])"
)
_ENTRY = re.compile(rf"(?P<join>[~～至\-–—‐−]?)\s{{0,3}}{_WORD}\^?(?P<number>[0-9０-９]{{1,9}})")


@dataclass(frozen=True)
class Marker:
    """One marker: the answer's stretch ``start`` to ``end``, and the numbers that it names, each once."""

    start: int
    end: int
    numbers: tuple[int, ...]


def find_markers(answer: str) -> list[Marker]:
    """The markers of ``answer``, in order; they do not overlap."""
    return [Marker(match.start(), match.end(), tuple(_numbers(match))) for match in _MARKER.finditer(answer)]


def _numbers(match: re.Match[str]) -> Iterator[int]:
    if match["bare"] is not None:
        yield int(match["bare"])
        return
    seen: set[int] = set()
    previous: int | None = None
    for entry in _ENTRY.finditer(match["list"]):
        number = int(entry["number"])
        between: range | tuple[int, ...] = ()
        if entry["join"] and previous is not None and previous < number <= previous + WIDEST_RANGE:
            between = range(previous + 1, number)
        for named in (*between, number):
            if named not in seen:
                seen.add(named)
                yield named
        previous = number
