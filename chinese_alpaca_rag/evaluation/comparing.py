"""Whether one text stands in another, with what does not matter folded away: width, case, script, white space."""

from __future__ import annotations

import re
from functools import lru_cache

from chinese_alpaca_rag.script import comparable

#: Shorter stretches, in characters, are shared by texts that have nothing to do with each other.
LEAST_SHARED = 20
# A space parts numbers; anywhere else in Chinese text it is a matter of layout.
_LAYOUT = re.compile(r"(?<!\d) | (?!\d)")
_SPACES = re.compile(r"\s+")


@lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """``text`` without differences of width, case and script, and without white space but between two digits."""
    return _LAYOUT.sub("", _SPACES.sub(" ", comparable(text)))


def holds(text: str, wanted: str) -> bool:
    """Whether ``wanted`` stands in ``text``, both folded; a number is not held by a longer one, as 15 by 2015."""
    start = text.find(wanted) if wanted else -1
    while start >= 0:
        end = start + len(wanted)
        before, behind = text[start - 1 : start], text[end : end + 1]
        if not (before.isdigit() and wanted[0].isdigit()) and not (behind.isdigit() and wanted[-1].isdigit()):
            return True
        start = text.find(wanted, start + 1)
    return False


def is_mostly_in(text: str, other: str) -> bool:
    """Whether half of ``text`` and at least LEAST_SHARED characters stand in ``other`` as one stretch, both folded.

    A text that stands in ``other`` whole may be as short as it likes.
    """
    if text in other:
        return bool(text)
    length = max((len(text) + 1) // 2, LEAST_SHARED)
    if len(text) < length:
        return False
    # Every stretch of that length holds one of these pieces whole, and most texts have none of them in common.
    piece = (length + 1) // 2
    pieces = (text[start : start + piece] for start in range(0, len(text) - piece + 1, piece))
    if not any(each in other for each in pieces):
        return False
    return any(text[start : start + length] in other for start in range(len(text) - length + 1))
