"""Text for a terminal: without what a document or a model could do to it, and as wide as it is.

A terminal obeys control characters, and bidirectional marks let text read as something else. Both are
taken out of everything that is shown; nothing else is, so that what is left of an escape sequence
stays to be seen.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

_BIDIRECTIONAL = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROL = (*range(0x20), *range(0x7F, 0xA0), 0xFEFF, *range(0xE0000, 0xE0080))
_OUT: dict[int, str | None] = dict.fromkeys((*_CONTROL, *_BIDIRECTIONAL)) | {
    0x09: "\t",
    0x0A: "\n",
    0x85: "\n",
    0x2028: "\n",
    0x2029: "\n",
}
# Lone surrogates: the bytes of a file name that is not UTF-8. No stream could encode them.
_OUT |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")

#: What may not start a line in Chinese typesetting, and what may not end one.
_NOT_FIRST = frozenset("，。、；：！？）》」』】”’…—·%,.;:!?)]}")
_NOT_LAST = frozenset("（《「『【“‘([{")


def clean(text: str) -> str:
    """``text`` without control characters and bidirectional marks; tabs and newlines stay."""
    return text.translate(_OUT)


def one_line(text: str) -> str:
    """``text`` cleaned and on one line, runs of white space as one space."""
    return " ".join(clean(text).split())


def flat(text: str) -> str:
    """``text`` cleaned and on one line with every space kept, as a path needs it to be copied."""
    return clean(text).replace("\n", " ").replace("\t", " ")


def shortened(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns; where something is left out, it ends in an ellipsis."""
    if text_width(text) <= width:
        return text
    kept, columns = [], 0
    for character in text:
        columns += text_width(character)
        if columns > width - 1:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2 files``: a number with an English noun that takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def text_width(text: str) -> int:
    """The columns that ``text`` takes in a terminal: two for a wide character, none for a combining one."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int) -> str:
    """``text`` with spaces up to ``width`` columns."""
    return text + " " * (width - text_width(text))


def wrap(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` columns, broken at spaces and between Chinese characters.

    A word that is wider than a line stays whole, so that paths and commands can be copied.
    """
    lines: list[str] = []
    line = ""
    for piece in _pieces(text):
        if line and text_width(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    if line.strip():
        lines.append(line.rstrip())
    return lines


def _pieces(text: str) -> list[str]:
    """The parts of ``text`` between which a line may break; joined they are ``text``."""
    pieces: list[str] = []
    for character in text:
        last = pieces[-1][-1] if pieces else ""
        both_narrow = last and not last.isspace() and not _wide(last) and not _wide(character)
        if pieces and (character.isspace() or both_narrow or character in _NOT_FIRST or last in _NOT_LAST):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _wide(character: str) -> bool:
    return east_asian_width(character) in "WF"
