"""PowerPoint files (.pptx): one page a slide, its title as a heading, its notes at the end.

Shapes are read from the top down and from left to right, as they are seen. After: ECMA-376, part 1, 19 and 20.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.ingest.archive import sized_archive
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.drawing_text import part_lines
from chinese_alpaca_rag.ingest.opc import Package, Part
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.tables import Row, table_lines
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_TITLES = ("title", "ctrTitle")
# Placeholders that repeat on every slide what is said elsewhere.
_FURNITURE = ("dt", "sldNum")
_NOTES = "备注："
_BULLETS = (f"{_A}buChar", f"{_A}buAutoNum")
_SPACES = re.compile(r"[ \t\r\n\v\f\xa0]+")  # not the ideographic one, which is meant
_WIDEST_SPAN = 1000
_MOST_SHAPES = 100_000
_DEEPEST = 200


@dataclass(frozen=True)
class _Shape:
    """A shape with text and where it lies: the places (down and across, in EMU) of its groups and its own."""

    places: tuple[tuple[int, int], ...]
    order: int
    kind: str
    element: Any


def read_slides(data: bytes, name: str) -> ParsedDocument:
    """A PowerPoint file; a page is labelled with its slide's title.

    DocumentRefusedError for a file that is damaged, hostile or without text.
    """
    with sized_archive(data, "PowerPoint") as archive:
        package = Package(archive, "PowerPoint")
        try:
            main = package.main_part() or package.part("ppt/presentation.xml")
            if main is None:
                raise damaged("PowerPoint")
            pages = [_page(number, slide) for number, slide in enumerate(_slides(main), start=1)]
            stated = package.title()
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise damaged("PowerPoint", f"{type(error).__name__}: {error}") from None
    if not any(page.text for page in pages):
        raise without_text()
    first = next((page.label for page in pages if page.label), "")
    return ParsedDocument(format="pptx", title=own_title(stated, first) or name, pages=tuple(pages), page_kind="slide")


def _slides(main: Part) -> Iterator[Part]:
    for reference in main.element.iterfind(f"{_P}sldIdLst/{_P}sldId"):
        part = main.related_parts.get(reference.get(f"{_R}id", ""))
        if part is not None:
            yield part


def _page(number: int, slide: Part) -> Page:
    shapes = sorted(_shapes(slide), key=lambda shape: (shape.places, shape.order))
    title = next((text for shape in shapes if shape.kind in _TITLES and (text := _flat(shape.element))), "")
    lines = [f"# {title}"] if title else []
    titled = False
    for shape in shapes:
        if shape.kind in _TITLES and not titled and _flat(shape.element) == title:
            titled = True
            continue
        lines += _lines(shape.element)
    for kind in ("chart", "diagramData"):
        for part in slide.related(kind):
            lines += part_lines(part)
    notes = _notes(slide)
    if notes:
        lines += ["", _NOTES + notes]
    return Page(number, clean_page("\n".join(lines)), title)


def _shapes(slide: Part) -> Iterator[_Shape]:
    """The shapes of a slide that hold text, those inside groups included."""
    places = _layout_places(slide)
    tree = slide.element.find(f"{_P}cSld/{_P}spTree")
    stack: list[tuple[Any, tuple[tuple[int, int], ...]]] = [
        (child, ()) for child in reversed(tree if tree is not None else [])
    ]
    order = 0
    while stack:
        element, group = stack.pop()
        order += 1
        if order > _MOST_SHAPES:
            raise damaged("PowerPoint", f"more than {_MOST_SHAPES} shapes on a slide")
        if element.tag == f"{_MC}AlternateContent":
            stack += [(child, group) for child in reversed(_alternative(element))]
        elif element.tag == f"{_P}grpSp":
            inside = (*group, _place(element.find(f"{_P}grpSpPr")) or (0, 0))
            if len(inside) > _DEEPEST:
                raise damaged("PowerPoint", f"more than {_DEEPEST} groups inside each other")
            stack += [(child, inside) for child in reversed(element)]
        elif element.tag in (f"{_P}sp", f"{_P}graphicFrame", f"{_P}cxnSp"):
            kind, index = _placeholder(element)
            if kind in _FURNITURE and next(element.iter(f"{_A}fld"), None) is not None:
                continue
            own = _place(element.find(f"{_P}spPr")) or _offset(element.find(f"{_P}xfrm"))
            place = own or places.get(index) or places.get(kind) or (0, 0)
            yield _Shape((*group, place), order, kind, element)


def _alternative(element: Any) -> list[Any]:
    """Of two renderings of the same shapes the first that holds text."""
    options = [child for child in element if child.tag in (f"{_MC}Choice", f"{_MC}Fallback")]
    for option in options:
        if any((text.text or "").strip() for text in option.iter(f"{_A}t")):
            return list(option)
    return list(options[0]) if options else []


def _placeholder(element: Any) -> tuple[str, str]:
    """The kind of a placeholder and its number among those of the layout; both "" for another shape."""
    found = next(element.iterfind(f"{_P}nvSpPr/{_P}nvPr/{_P}ph"), None)
    if found is None:
        found = next(element.iterfind(f"{_P}nvGraphicFramePr/{_P}nvPr/{_P}ph"), None)
    return (found.get("type", "body"), found.get("idx", "0")) if found is not None else ("", "")


def _layout_places(slide: Part) -> dict[str, tuple[int, int]]:
    """Where the slide's layout, or its master, puts placeholders, by their number or kind."""
    places: dict[str, tuple[int, int]] = {}
    layout = next(slide.related("slideLayout"), None)
    master = next(layout.related("slideMaster"), None) if layout is not None else None
    for part in (master, layout):
        for element in part.element.iter(f"{_P}sp") if part is not None else ():
            kind, index = _placeholder(element)
            place = _place(element.find(f"{_P}spPr"))
            if kind and place is not None:
                places[kind] = place
                if part is layout:
                    places[index] = place
    return places


def _place(properties: Any) -> tuple[int, int] | None:
    return _offset(properties.find(f"{_A}xfrm")) if properties is not None else None


def _offset(transform: Any) -> tuple[int, int] | None:
    offset = transform.find(f"{_A}off") if transform is not None else None
    if offset is None:
        return None
    try:
        return int(float(offset.get("y", "0"))), int(float(offset.get("x", "0")))
    except (ValueError, OverflowError):
        return None


def _flat(element: Any) -> str:
    return " ".join(" ".join(_paragraphs(element)).split())


def _lines(element: Any) -> Iterator[str]:
    table = next(element.iter(f"{_A}tbl"), None)
    if table is not None:
        yield from ["", *_table(table), ""]
        return
    for paragraph in element.iter(f"{_A}p"):
        text = _text(paragraph)
        if text:
            properties = paragraph.find(f"{_A}pPr")
            item = properties is not None and any(properties.find(bullet) is not None for bullet in _BULLETS)
            yield f"- {text}" if item else text


def _paragraphs(element: Any) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        if text := _text(paragraph):
            yield text


def _text(paragraph: Any) -> str:
    pieces = (piece.text or "" if piece.tag == f"{_A}t" else " " for piece in paragraph.iter(f"{_A}t", f"{_A}br"))
    return _SPACES.sub(" ", "".join(pieces)).strip()


def _table(table: Any) -> list[str]:
    rows: list[Row] = []
    above: list[str | None] = []
    for row in table.findall(f"{_A}tr"):
        cells: list[str | None] = []
        for cell in row.findall(f"{_A}tc"):
            at = len(cells)
            if cell.get("vMerge") in ("1", "true"):
                cells.append(above[at] if at < len(above) else "")
            elif cell.get("hMerge") in ("1", "true"):
                cells.append(None)
            else:
                cells.append(" ".join(_paragraphs(cell)))
        rows.append(cells[:_WIDEST_SPAN])
        above = cells
    return table_lines(rows)  # a first row is marked in every table that PowerPoint makes: that says nothing


def _notes(slide: Part) -> str:
    for part in slide.related("notesSlide"):
        for element in part.element.iter(f"{_P}sp"):
            if _placeholder(element)[0] == "body":
                return "\n".join(_paragraphs(element)).strip()
    return ""
