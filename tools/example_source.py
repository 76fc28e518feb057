"""The little markup in which the texts of the example documents are written.

A line is a block, and blank lines mean nothing: ``# title``, ``## heading``, ``### heading``, ``- bullet``,
``1. numbered``, ``> note``, ``| cell | cell |`` (neighbouring lines make one table, its first row the header),
``@directive arguments``; everything else is a paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["title", "heading", "subheading", "bullet", "numbered", "note", "table", "directive", "paragraph"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("### ", "subheading"),
    ("## ", "heading"),
    ("# ", "title"),
    ("- ", "bullet"),
    ("> ", "note"),
    ("@", "directive"),
)


@dataclass(frozen=True)
class Block:
    """One block: ``text`` without its mark, or the ``rows`` of a table. A numbered item keeps its number."""

    kind: Kind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def parse_blocks(source: str) -> list[Block]:
    """The blocks of ``source`` in order."""
    blocks: list[Block] = []
    rows: list[tuple[str, ...]] = []
    for raw in [*source.splitlines(), ""]:
        line = raw.strip(" ")
        if line.startswith("|"):
            rows.append(tuple(cell.strip(" ") for cell in line.strip("|").split("|")))
            continue
        if rows:
            blocks.append(Block("table", rows=tuple(rows)))
            rows = []
        if line:
            blocks.append(_line_block(line))
    return blocks


def _line_block(line: str) -> Block:
    for mark, kind in _MARKS:
        if line.startswith(mark):
            return Block(kind, line.removeprefix(mark))
    return Block("numbered" if re.match(r"\d+\. ", line) else "paragraph", line)


def parse_sheets(source: str) -> dict[str, list[list[str]]]:
    """Sheets of a tab-separated text by name: ``# name`` opens one, and its first row is the header."""
    sheets: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in source.splitlines():
        if line.startswith("# "):
            rows = sheets.setdefault(line.removeprefix("# "), [])
        elif line:
            rows.append(line.split("\t"))
    return sheets
