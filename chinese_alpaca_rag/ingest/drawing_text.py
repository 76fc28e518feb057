"""The text inside charts and diagrams (SmartArt), which Word and PowerPoint keep in parts of their own."""

from __future__ import annotations

from typing import Any

from chinese_alpaca_rag.ingest.opc import parse_xml
from chinese_alpaca_rag.ingest.tables import table_lines

_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_CHART_PART = "application/vnd.openxmlformats-officedocument.drawingml.chart+xml"
_DIAGRAM_PART = "application/vnd.openxmlformats-officedocument.drawingml.diagramData+xml"
_MOST_POINTS = 10_000


def part_lines(part: Any) -> list[str]:
    """The lines of a chart's or a diagram's part; none for a part of another kind."""
    if part.content_type not in (_CHART_PART, _DIAGRAM_PART):
        return []
    root = parse_xml(part.blob)
    return chart_lines(root) if part.content_type == _CHART_PART else diagram_lines(root)


def chart_lines(root: Any) -> list[str]:
    """A chart's titles, then its data as a table: a row for each category, a column for each series."""
    titles = [_text(title) for title in root.iter(f"{_CHART}title")]
    series = list(root.iter(f"{_CHART}ser"))
    categories: dict[int, str] = {}
    columns: list[tuple[str, dict[int, str]]] = []
    for number, one in enumerate(series, start=1):
        categories.update(_points(one, "cat") or _points(one, "xVal"))
        name = "".join(_points(one, "tx").values()) or str(number)
        columns.append((name, _points(one, "val") or _points(one, "yVal")))
    indices = sorted(set(categories).union(*(values for _, values in columns)))[:_MOST_POINTS]
    rows = [["", *(name for name, _ in columns)]]
    rows += [[categories.get(index, ""), *(values.get(index, "") for _, values in columns)] for index in indices]
    lines = table_lines(rows, header_rows=1) if indices else []
    return [title for title in titles if title] + lines


def diagram_lines(root: Any) -> list[str]:
    """The texts of a diagram's points, in the order of the part."""
    return [text for point in root.iter(f"{_DIAGRAM}pt") if (text := _text(point))]


def _points(series: Any, kind: str) -> dict[int, str]:
    """The cached values of a series by index, as the program showed them last."""
    found: dict[int, str] = {}
    for holder in series.findall(f"{_CHART}{kind}"):
        for point in holder.iter(f"{_CHART}pt"):
            value = point.find(f"{_CHART}v")
            index = point.get("idx", "")
            if value is not None and index.isdigit():
                found[int(index)] = _short_number(value.text or "")
    return found


def _short_number(text: str) -> str:
    """A number as a person would write it: cached values carry binary tails, 0.30000000000000004."""
    try:
        return f"{float(text):.15g}" if len(text) > 16 else text
    except ValueError:
        return text


def _text(element: Any) -> str:
    return " ".join("".join(run.text or "" for run in element.iter(f"{_DRAWING}t")).split())
