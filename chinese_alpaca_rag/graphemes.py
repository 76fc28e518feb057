"""Where a text may be cut without parting what a reader sees as one character.

After the extended grapheme clusters of Unicode Standard Annex 29; sequences of Hangul jamo are kept whole.
"""

from __future__ import annotations

import unicodedata

_ZERO_WIDTH_JOINER = "\u200d"
_PREPENDED = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3"
    "\U0001193f\U00011941\U00011a3a\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46\U00011f02"
)
# Characters that extend the one before although they are no marks.
_EXTENDING = frozenset("\u0e33\u0eb3\uff9e\uff9f\u200c")


def is_boundary(text: str, index: int) -> bool:
    """Whether ``text`` may be cut before ``index`` without parting a grapheme cluster."""
    if index <= 0 or index >= len(text):
        return True
    before, after = text[index - 1], text[index]
    if before in "\r\n" or after in "\r\n":
        return not (before == "\r" and after == "\n")
    if after < "\u0300" and before < "\u0300":
        return True
    joined = (
        _extends(after)
        or before in _PREPENDED
        or (before == _ZERO_WIDTH_JOINER and _is_pictographic(after))
        or (_is_regional(before) and _is_regional(after) and _regional_run(text, index) % 2 == 1)
        or _is_conjunct(text, index)
        or (_is_jamo(before) and _is_jamo(after))
    )
    return not joined


def boundary_at_or_before(text: str, index: int, least: int) -> int:
    """The last boundary at or before ``index`` that lies behind ``least``, else the first one behind ``index``."""
    position = index
    while position > least and not is_boundary(text, position):
        position -= 1
    if position > least:
        return position
    position = index
    while not is_boundary(text, position):
        position += 1
    return position


def _extends(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character in _EXTENDING
        or character == _ZERO_WIDTH_JOINER
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_pictographic(character: str) -> bool:
    return character >= "\u00a9" and (
        "\U0001f000" <= character <= "\U0001faff"
        or unicodedata.category(character) == "So"
        or character in "‼⁉〰〽↔↕▪▫"
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regional_run(text: str, index: int) -> int:
    start = index
    while start > 0 and _is_regional(text[start - 1]):
        start -= 1
    return index - start


def _is_conjunct(text: str, index: int) -> bool:
    """Indic consonants joined by a virama."""
    if unicodedata.category(text[index]) != "Lo":
        return False
    position = index - 1
    virama = False
    while position >= 0 and _extends(text[position]):
        virama = virama or unicodedata.combining(text[position]) == 9
        position -= 1
    return virama


def _is_jamo(character: str) -> bool:
    return "\u1100" <= character <= "\u11ff" or "\ua960" <= character <= "\ua97c" or "\uac00" <= character <= "\ud7fb"
