"""PowerPoint files (.pptx), through unstructured: one page a slide, its title as a heading, its notes at the end.

What unstructured passes over (charts, diagrams, shapes that lie off the slide) is added from the file itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from chinese_alpaca_rag.ingest.archive import checked_archive, transitional
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.drawing_text import part_lines
from chinese_alpaca_rag.ingest.html_tables import html_table_lines
from chinese_alpaca_rag.ingest.offline_unstructured import partition_function
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_MARKUP = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_NOTES = "备注："


def read_slides(data: bytes, name: str) -> ParsedDocument:
    """A PowerPoint file; a page is labelled with its slide's title. Errors as for Word files."""
    partition = partition_function("pptx")
    import pptx

    with checked_archive(data, "PowerPoint") as archive:
        data = transitional(archive, data)
    try:
        presentation = pptx.Presentation(io.BytesIO(data))
        elements = partition(file=io.BytesIO(data), languages=[""], include_page_breaks=False)
        slides = list(presentation.slides)
        stated = presentation.core_properties.title
    except (KeyError, ValueError, AttributeError, TypeError, SyntaxError) as error:
        raise damaged("PowerPoint", f"{type(error).__name__}: {error}") from None
    by_slide: dict[int, list[Any]] = {}
    for element in elements:
        by_slide.setdefault(element.metadata.page_number, []).append(element)
    pages = [_page(number, slide, by_slide.get(number, [])) for number, slide in enumerate(slides, start=1)]
    if not any(page.text for page in pages):
        raise without_text()
    first = next((page.label for page in pages if page.label), "")
    return ParsedDocument(format="pptx", title=own_title(stated, first) or name, pages=tuple(pages), page_kind="slide")


def _page(number: int, slide: Any, elements: list[Any]) -> Page:
    title = _title(slide)
    lines: list[str] = []
    for element in elements:
        lines += _lines(element, title)
    seen = "".join("".join(lines).split())
    lines += [text for text in _passed_over(slide) if "".join(text.split()) not in seen]
    for part in {id(part): part for part in _related(slide)}.values():
        lines += part_lines(part)
    notes = _notes(slide)
    if notes:
        lines += ["", _NOTES + notes]
    return Page(number, clean_page("\n".join(lines)), title)


def _lines(element: Any, title: str) -> list[str]:
    if element.category == "Table":
        return ["", *html_table_lines(element.metadata.text_as_html or ""), ""]
    text = " ".join(element.text.split("\v")).strip()
    if text and text == title:
        return [f"# {text}"]
    return [f"- {text}" if element.category == "ListItem" else text]


def _title(slide: Any) -> str:
    shape = slide.shapes.title
    return " ".join(shape.text_frame.text.split()) if shape is not None and shape.has_text_frame else ""


def _notes(slide: Any) -> str:
    frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    return frame.text.strip() if frame is not None else ""


def _passed_over(slide: Any) -> Iterator[str]:
    """Every paragraph of the slide's own XML, of whatever shape; empty ones left out."""
    for paragraph in slide.element.iter(f"{_MARKUP}p"):
        pieces = (element.text or " " for element in paragraph.iter(f"{_MARKUP}t", f"{_MARKUP}br"))
        text = " ".join("".join(pieces).split())
        if text:
            yield text


def _related(slide: Any) -> Iterator[Any]:
    for relationship in slide.part.rels.values():
        if not relationship.is_external:
            yield relationship.target_part
