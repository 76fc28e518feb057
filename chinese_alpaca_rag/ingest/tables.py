"""Tables as lines of text, one line a row, so that each row can be found and read on its own.

Where the first rows are surely column names, each cell is written with its name::

    部门：销售部 | 姓名：张三 | 年假：15

Otherwise the cells stand bare between the same bars: a wrong name would be worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The cells of a row; None where a cell to the left reaches over the place.
Row = Sequence[str | None]

_VALUE = re.compile(r"\d|^[是否有无√×✓✗✔✘○●YyNn]$|^(yes|no|true|false|n/a|无|暂无)$", re.IGNORECASE)
_COLUMN_WORDS = re.compile(
    r"(姓名|名称|名字|序号|编号|代码|日期|时间|年份|月份|部门|单位|金额|数量|单价|价格|总价|费用|合计|备注|说明|描述|类别|类型"
    r"|种类|项目|标准|地点|地区|城市|国家|省份|职位|职务|职级|岗位|规格|型号|品牌|产品|商品|颜色|电话|手机|邮箱|地址|状态|结果"
    r"|内容|要求|负责人|联系人|级别|等级|比例|占比|排名|天数|次数|人数|学历|专业|年龄|性别|參數|參考|參数|参数|功能|指标|版本|步骤"
    r"|名稱|編號|日期|時間|部門|單位|金額|數量|單價|價格|備註|說明|類別|類型|項目|標準|地點|職位|規格|型號|產品|電話|狀態|內容)$"
    r"|^(name|id|no\.?|date|time|year|month|type|category|price|amount|quantity|qty|total|unit|department|title|position"
    r"|status|description|notes?|remarks?|item|product|model|version|city|country|email|phone|address|value|key|day|hour|age|rate|score)s?$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+¥￥$€]?[\d.,]+%?")
_LONGEST_NAME = 40


def table_lines(rows: Sequence[Row], *, header_rows: int | None = None) -> list[str]:
    """The lines of a table whose rows are lists of cell texts.

    ``header_rows`` says how many first rows are column names where that is known; None looks for evidence.
    Rows without text are left out, and so is nothing else: the names themselves are the first line.
    """
    grid = _rectangle([[_one_line(cell or "") for cell in row] for row in rows])
    if not grid:
        return []
    count = find_header(grid) if header_rows is None else min(header_rows, len(grid) - 1)
    if count <= 0:
        return [_bare([_one_line(cell) for cell in row if cell is not None]) for row in rows if any(row)]
    names = _column_names(grid[:count])
    return [*map(_bare, grid[:count]), *(_named(names, row) for row in grid[count:])]


def find_header(grid: Sequence[Sequence[str]], *, marked: bool = False) -> int:
    """How many first rows are column names: 1 when there is evidence for it, else 0.

    Evidence is a first row that is ``marked`` (set off by its make-up), that has columns of values under
    names without digits, or that is made of words which name columns. A form of labels and entries side by side
    has none of these.
    """
    if len(grid) < 2 or not _could_be_names(grid[0]):
        return 0
    filled = [re.sub(r"[（(].*?[）)]$", "", cell).strip() for cell in grid[0] if cell]
    words = sum(bool(_COLUMN_WORDS.search(cell)) for cell in filled) / len(filled)
    return int(marked or words > 0.6 or _value_column(grid[0], grid[1:]))


def _could_be_names(first: Sequence[str]) -> bool:
    """Whether a row can hold column names: most cells filled, all different, short, no numbers and no sentences."""
    filled = [cell for cell in first if cell]
    if len(filled) < max(2, len(first) * 0.6) or len(set(filled)) < len(filled):
        return False
    return not any(
        len(cell) > _LONGEST_NAME or cell[-1] in "：:。；;！!？?" or _NUMBER.fullmatch(cell) for cell in filled
    )


def _value_column(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether some column holds values (numbers, dates, yes and no) under a name that is none."""
    for column, name in enumerate(first):
        cells = [row[column] for row in rest if row[column]]
        if name and not _VALUE.search(name) and len(cells) >= 2:
            values = sum(bool(_VALUE.search(cell)) and len(cell) <= _LONGEST_NAME for cell in cells)
            if values >= 0.8 * len(cells):
                return True
    return False


def _rectangle(rows: list[list[str]]) -> list[list[str]]:
    """Rows that hold text, filled up to one width, without columns that are empty throughout."""
    rows = [row for row in rows if any(row)]
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    used = [column for column in range(width) if any(row[column] for row in rows)]
    return [[row[column] for column in used] for row in rows]


def _column_names(header: Sequence[Sequence[str]]) -> list[str]:
    """One name a column; names in several rows are joined from the top: 一季度/收入."""
    return ["/".join(dict.fromkeys(filter(None, parts))) for parts in zip(*header, strict=True)]


def _bare(row: Sequence[str]) -> str:
    cells = list(row)
    while cells and not cells[-1]:
        cells.pop()
    return " | ".join(cells)


def _named(names: Sequence[str], row: Sequence[str]) -> str:
    pairs = []
    for name, cell in zip(names, row, strict=True):
        if cell:
            colon = ": " if name.isascii() else "："
            pairs.append(f"{name}{colon}{cell}" if name else cell)
    return " | ".join(pairs)


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
