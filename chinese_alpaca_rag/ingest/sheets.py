"""Excel files (.xlsx), through openpyxl: one page a sheet, one line a row, each cell with its column's name.

Unstructured's own reader passes sheets through pandas, which rewrites what they hold: in a column of numbers
alone 1234567.891 becomes 1.234568e+06 and 3 beside an empty cell 3.0, a date gets a time, 15% becomes 0.15,
and merged cells and formulas without a value are empty. openpyxl, which unstructured installs, gives the cells.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from chinese_alpaca_rag.errors import MissingExtraError
from chinese_alpaca_rag.ingest.archive import checked_archive, transitional
from chinese_alpaca_rag.ingest.cell_display import shown
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.refusals import damaged, too_large, without_text
from chinese_alpaca_rag.ingest.tables import find_header, table_lines
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_MOST_CELLS = 5_000_000
_MOST_CHARACTERS = 50_000_000  # of all cells; one long text that many cells share costs a file nothing
_WIDEST_ROW = 2_000  # columns; a stray cell in column XFD would make every row 16,384 wide

Merge = tuple[int, int, int, int]  # first row, first column, last row, last column; from 1


def read_sheets(data: bytes, name: str) -> ParsedDocument:
    """An Excel workbook; a page is labelled with its sheet's name. Errors as for Word files.

    Formulas stand with the value that was last computed; where a file holds none, with their own text.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError.for_package(error.name or "openpyxl", "office") from None

    with checked_archive(data, "Excel") as archive:
        data = transitional(archive, data)
    try:
        values = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        formulas = openpyxl.load_workbook(io.BytesIO(data), read_only=True, keep_links=False)
        pages, uncomputed = _pages(values, formulas)
        title = own_title(values.properties.title) or name
    except (KeyError, ValueError, AttributeError, TypeError, IndexError, SyntaxError) as error:
        raise damaged("Excel", f"{type(error).__name__}: {error}") from None
    if not any(page.text for page in pages):
        raise without_text()
    missing = ""
    if uncomputed:
        zh = f"有 {uncomputed} 个公式没有保存计算结果，以公式原文收入。请用 Excel 打开并保存后重新加入。"
        en = f"{uncomputed} formulas hold no computed value and stand as formulas; open and save the file in Excel."
        missing = str(Words(zh=zh, en=en))
    return ParsedDocument(format="xlsx", title=title, pages=tuple(pages), page_kind="sheet", missing=missing)


def _pages(values: Any, formulas: Any) -> tuple[list[Page], int]:
    pages: list[Page] = []
    cells = uncomputed = 0
    for number, sheet in enumerate(values.worksheets, start=1):
        source = _source(sheet)
        grid, count = _grid(sheet, formulas.worksheets[number - 1] if b"<f" in source else None)
        uncomputed += count
        cells += sum(map(len, grid.values()))
        if cells > _MOST_CELLS:
            raise too_large(Words(zh="单元格数", en="The number of cells"), cells, _MOST_CELLS)
        text = clean_page("\n".join(_sheet_lines(grid, _merges(source))))
        pages.append(Page(number, text, sheet.title))
    return pages, uncomputed


def _source(sheet: Any) -> bytes:
    with sheet._get_source() as stream:
        content: bytes = stream.read()
    return content


def _merges(source: bytes) -> list[Merge]:
    """The merged ranges of a sheet's XML."""
    from openpyxl.utils import range_boundaries

    merges: list[Merge] = []
    for reference in re.findall(rb'<(?:\w+:)?mergeCell [^>]*?ref="([A-Z0-9:]+)"', source):
        left, top, right, bottom = range_boundaries(reference.decode())
        merges.append((top, left, bottom, right))
    return merges


def _grid(sheet: Any, formulas: Any | None) -> tuple[dict[int, dict[int, str]], int]:
    """The texts of a sheet's filled cells by row and column, and how many formulas had no value."""
    grid: dict[int, dict[int, str]] = {}
    uncomputed = characters = 0
    sheet.reset_dimensions()
    if formulas is not None:
        formulas.reset_dimensions()
    for row, written in _rows(sheet, formulas):
        for cell in row[:_WIDEST_ROW]:
            if cell.value is not None and (text := shown(cell.value, cell.number_format).strip()):
                grid.setdefault(cell.row, {})[cell.column] = text
                characters += len(text)
        if characters > _MOST_CHARACTERS:
            raise too_large(Words(zh="字符数", en="The number of characters"), characters, _MOST_CHARACTERS)
        for cell in written[:_WIDEST_ROW]:
            if isinstance(cell.value, str) and cell.value.startswith("=") and cell.column not in grid.get(cell.row, {}):
                grid.setdefault(cell.row, {})[cell.column] = cell.value
                uncomputed += 1
    return grid, uncomputed


def _rows(sheet: Any, formulas: Any | None) -> Iterator[tuple[Any, Any]]:
    """The rows of a sheet, each with the same row as formulas."""
    if formulas is None:
        yield from ((row, ()) for row in sheet.iter_rows())
    else:
        yield from zip(sheet.iter_rows(), formulas.iter_rows(), strict=False)


def _sheet_lines(grid: dict[int, dict[int, str]], merges: Iterable[Merge]) -> list[str]:
    """The sheet's blocks of neighbouring rows, one behind the other with a blank line between."""
    _fill_downwards(grid, merges)
    across = {(top, left): right for top, left, _, right in merges if right > left}
    lines: list[str] = []
    for block in _blocks(grid):
        if lines:
            lines.append("")
        lines += _block_lines(block, grid, across)
    return lines


def _fill_downwards(grid: dict[int, dict[int, str]], merges: Iterable[Merge]) -> None:
    """Write the text of a cell that reaches over several rows into each of those that hold something."""
    for top, left, bottom, _ in merges:
        text = grid.get(top, {}).get(left)
        if text is not None and bottom > top:
            for row in range(top + 1, min(bottom, max(grid)) + 1):
                if row in grid:
                    grid[row].setdefault(left, text)


def _blocks(grid: dict[int, dict[int, str]]) -> Iterator[list[int]]:
    """Runs of row numbers without an empty row between them."""
    block: list[int] = []
    for row in sorted(grid):
        if block and row > block[-1] + 1:
            yield block
            block = []
        block.append(row)
    if block:
        yield block


def _block_lines(block: list[int], grid: dict[int, dict[int, str]], across: dict[tuple[int, int], int]) -> list[str]:
    """A block's lines: titles and remarks of one cell as they stand, the rows between them as a table."""
    first, last = 0, len(block)
    while first < last and len(grid[block[first]]) == 1:
        first += 1
    while last > first and len(grid[block[last - 1]]) == 1:
        last -= 1
    lines = [text for row in block[:first] for text in grid[row].values()]
    lines += _table(block[first:last], grid, across)
    lines += [text for row in block[last:] for text in grid[row].values()]
    return [" ".join(line.split()) for line in lines]


def _table(rows: list[int], grid: dict[int, dict[int, str]], across: dict[tuple[int, int], int]) -> list[str]:
    if not rows:
        return []
    columns = sorted({column for row in rows for column in grid[row]})
    plain = [[grid[row].get(column, "") for column in columns] for row in rows]
    spread = [_spread(row, grid[row], columns, across) for row in rows[:2]]
    # A first row of groups over a second row of names: 一季度 over 收入 and 成本.
    grouped = len(rows) > 2 and any((rows[0], column) in across for column in columns)
    if grouped:
        joined = ["/".join(dict.fromkeys(filter(None, names))) for names in zip(*spread, strict=True)]
        shared = any(above and above == below for above, below in zip(*spread, strict=True))
        if find_header([joined, *plain[2:]], marked=shared):
            return table_lines([*spread, *plain[2:]], header_rows=2)
    return table_lines(plain)


def _spread(row: int, cells: dict[int, str], columns: list[int], across: dict[tuple[int, int], int]) -> list[str]:
    """A row with the text of a cell that reaches over several columns in each of them."""
    spread: list[str] = []
    for column in columns:
        over = next((left for left in cells if left < column <= across.get((row, left), 0)), column)
        spread.append(cells.get(column) or cells.get(over, ""))
    return spread
