"""Text in pictures of pages, through RapidOCR: its models come with its package, and nothing is downloaded.

Used for PDF pages that hold no text of their own. What comes out is put into lines and paragraphs as the text layer
of a page is; a page in columns is read column by column.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.pdf_lines import Line, page_paragraphs
from chinese_alpaca_rag.offline import stay_offline
from chinese_alpaca_rag.sentences import is_cjk

#: Raised when recognised text comes out otherwise, so that libraries read scans again.
OCR_VERSION = 1

_DOTS_AN_INCH = 200
_MOST_PIXELS = 20_000_000
_LEAST_SCORE = 0.5
_PACKAGES = ("rapidocr", "onnxruntime")
# A gutter between columns is so many line heights wide, with so many boxes on either side, which fill their side.
_GUTTER_HEIGHTS = 1.0
_COLUMN_BOXES = 6
_COLUMN_FILL = 0.6


@dataclass(frozen=True)
class Box:
    """A stretch of text on a page; places in PDF points (1/72 inch) from the page's lower left corner."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        """The height of the stretch, about that of its characters."""
        return self.top - self.bottom

    @property
    def middle(self) -> float:
        """The height above the page's edge at which its middle lies."""
        return (self.top + self.bottom) / 2


def can_recognise() -> bool:
    """Whether the ``ocr`` extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES)


def recognised_page(page: Any) -> tuple[str, float]:
    """The text that a PDFium page shows as a picture, and how sure its characters are, between 0 and 1.

    "" and 1.0 where it shows none that can be read.
    """
    width, height = page.get_size()
    scale = _DOTS_AN_INCH / 72
    scale = min(scale, (_MOST_PIXELS / max(1.0, width * height)) ** 0.5)
    picture = page.render(scale=scale, may_draw_forms=True).to_numpy()
    result = _engine()(picture)
    if result is None or result.txts is None or result.boxes is None:
        return "", 1.0
    found = [
        (Box(text.strip(), *_edges(corners, scale, height)), float(score))
        for text, corners, score in zip(result.txts, result.boxes, result.scores or (), strict=True)
        if score >= _LEAST_SCORE and text.strip()
    ]
    length = sum(len(box.text) for box, _ in found)
    sure = sum(len(box.text) * score for box, score in found) / length if length else 1.0
    return boxes_text([box for box, _ in found]), sure


def boxes_text(boxes: Sequence[Box]) -> str:
    """The text of the boxes of a page: rows from the top down, paragraphs joined, column by column."""
    if not boxes:
        return ""
    height = statistics.median(box.height for box in boxes)
    parts = [page_paragraphs([_line(row, height) for row in _rows(part)]) for part in _parts(boxes, height)]
    return clean_page("\n".join(parts))


def _edges(corners: Any, scale: float, height: float) -> tuple[float, float, float, float]:
    across = [float(corner[0]) / scale for corner in corners]
    down = [float(corner[1]) / scale for corner in corners]
    return min(across), height - max(down), max(across), height - min(down)


@functools.cache
def _engine() -> Any:
    """The models, loaded once a process."""
    stay_offline(keep_tracing=True)  # onnxruntime would report its use
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(params={"Global.log_level": "error"})


def _rows(boxes: Sequence[Box]) -> list[list[Box]]:
    """Boxes that stand side by side, from left to right; rows from the top down."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: -box.middle):
        last = rows[-1] if rows else None
        if last and abs(last[0].middle - box.middle) < 0.5 * min(last[0].height, box.height):
            last.append(box)
        else:
            rows.append([box])
    return [sorted(row, key=lambda box: box.left) for row in rows]


def _line(row: Sequence[Box], height: float) -> Line:
    text = row[0].text
    tabular = False
    for before, box in itertools.pairwise(row):
        wide = box.left - before.right > 1.5 * height
        tabular = tabular or wide
        close = is_cjk(text[-1]) and is_cjk(box.text[0])
        text += ("\t" if wide else "" if close else " ") + box.text
    # A line's box is higher or lower by its letters; one height for all keeps its paragraph together.
    size = height if 0.75 * height < row[0].height < 1.35 * height else row[0].height
    return Line(text, row[0].left, max(box.right for box in row), row[0].middle - height / 2, size, tabular=tabular)


def _parts(boxes: Sequence[Box], height: float) -> list[list[Box]]:
    """The boxes in the order of reading: as they are, or column by column between what reaches over both columns."""
    gutter = _gutter(boxes, height)
    if gutter is None:
        return [list(boxes)]
    parts: list[list[Box]] = []
    left: list[Box] = []
    right: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.middle):
        if box.right <= gutter:
            left.append(box)
        elif box.left >= gutter:
            right.append(box)
        else:
            parts += [left, right, [box]]
            left, right = [], []
    return [part for part in (*parts, left, right) if part]


def _gutter(boxes: Sequence[Box], height: float) -> float | None:
    """Where a page in two columns of text is parted, in points from its left edge; None for any other page."""
    edges = min(box.left for box in boxes), max(box.right for box in boxes)
    width = edges[1] - edges[0]
    for place in sorted({box.left - 0.3 * height for box in boxes}):
        if not edges[0] + 0.3 * width < place < edges[0] + 0.7 * width:
            continue
        left = [box for box in boxes if box.right <= place]
        right = [box for box in boxes if box.left >= place]
        if min(len(left), len(right)) < _COLUMN_BOXES or len(boxes) - len(left) - len(right) > 0.3 * len(boxes):
            continue
        inner, outer = max(box.right for box in left), min(box.left for box in right)
        filled = all(
            statistics.median(box.right - box.left for box in side) > _COLUMN_FILL * reach
            for side, reach in ((left, inner - edges[0]), (right, edges[1] - outer))
        )
        if filled and outer - inner > _GUTTER_HEIGHTS * height:
            return place
    return None
