"""HTML tables as grids of cell texts, spans filled in where a reader would carry the text on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chinese_alpaca_rag.ingest.tables import table_lines

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_WIDEST_SPAN = 1000


def html_table_lines(markup: str, header_rows: int | None = None) -> list[str]:
    """The lines of a ``<table>`` given as HTML; ``header_rows`` as for :func:`~.tables.table_lines`."""
    from selectolax.lexbor import LexborHTMLParser

    table = LexborHTMLParser(markup).css_first("table")
    if table is None:
        return []
    grid, marked = table_grid(table, lambda cell: " ".join(cell.text(deep=True, separator=" ").split()))
    if header_rows and header_rows < len(grid):
        return table_lines(grid, header_rows=header_rows)
    return table_lines(grid, header_rows=marked)


def table_grid(table: LexborNode, cell_text: Callable[[LexborNode], str]) -> tuple[list[list[str | None]], int | None]:
    """The texts of a table's cells by row, and how many first rows are marked as headers (None where none is).

    A cell that spans rows stands in each of them; one that spans columns stands in the first, or in a header
    row in each.
    """
    grid: list[list[str | None]] = []
    pending: dict[int, tuple[int, str | None]] = {}
    header_rows = 0
    for row in table.css("tr"):
        cells, pending, is_header = _row(row, pending, cell_text)
        if is_header and header_rows == len(grid):
            header_rows += 1
        grid.append(cells)
    return grid, header_rows if 0 < header_rows < len(grid) else None


def _row(
    row: LexborNode, pending: dict[int, tuple[int, str | None]], cell_text: Callable[[LexborNode], str]
) -> tuple[list[str | None], dict[int, tuple[int, str | None]], bool]:
    """One row's cells with those that reach down into it, what reaches further down, and whether it is all header."""
    cells: list[str | None] = []
    below: dict[int, tuple[int, str | None]] = {}

    def take_pending() -> None:
        while len(cells) in pending:
            left, text = pending[len(cells)]
            if left > 1:
                below[len(cells)] = (left - 1, text)
            cells.append(text)

    own = [cell for cell in row.iter() if cell.tag in ("td", "th")]
    is_header = bool(own) and all(cell.tag == "th" for cell in own)
    for cell in own:
        take_pending()
        text = cell_text(cell)
        across, down = _span(cell, "colspan"), _span(cell, "rowspan")
        for offset in range(across):
            shown = text if offset == 0 or is_header else None
            if down > 1:
                below[len(cells)] = (down - 1, shown)
            cells.append(shown)
    take_pending()
    return cells, below, is_header


def _span(cell: LexborNode, name: str) -> int:
    value = (cell.attributes.get(name) or "1").strip()
    return min(int(value), _WIDEST_SPAN) if value.isascii() and value.isdigit() and int(value) > 0 else 1
