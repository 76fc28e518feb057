"""How a place in a document is named to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.cli.text import flat
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import PageKind
from chinese_alpaca_rag.library.store import Library


@dataclass(frozen=True)
class PageName:
    """What is known of a page beside its number: its document's title, what kind of page it is, its own name."""

    title: str
    kind: PageKind
    label: str = ""


#: Gives the name of page ``page`` of the document ``source``.
NamePage = Callable[[str, int], PageName]


def pages_of_library(library: Library) -> NamePage:
    """Page names looked up in an open library."""

    @cache
    def name(source: str, page: int) -> PageName:
        file = library.file(source)
        if file is None:
            return _by_path(source)
        label = ""
        if file.page_kind in ("sheet", "slide"):
            label = next((each.page_label for each in library.passages(source) if each.page == page), "")
        return PageName(file.title, file.page_kind, label)

    return name


def pages_of_documents(documents: Iterable[Any]) -> NamePage:
    """Page names from the metadata of passages (LangChain documents)."""
    known = {
        (each.metadata["source"], each.metadata["page"]): PageName(
            each.metadata["title"], each.metadata["page_kind"], each.metadata["page_label"]
        )
        for each in documents
    }

    def name(source: str, page: int) -> PageName:
        return known.get((source, page)) or _by_path(source)

    return name


def named(page: PageName, number: int) -> str:
    """``员工手册 · 第3页``: the document's title and, where it has more than one, its page."""
    match page.kind:
        case "page":
            place = Words(zh=f"第{number}页", en=f"page {number}")
        case "slide":
            place = Words(zh=f"第{number}张幻灯片", en=f"slide {number}")
        case "sheet":
            place = Words(zh=f"工作表“{page.label or number}”", en=f"sheet “{page.label or number}”")
        case _:
            return page.title
    return f"{page.title} · {place}"


def shown_path(path: str | Path) -> str:
    """``path`` as it is typed from here: relative where it lies below the working folder, and fit for a terminal."""
    place = Path(path)
    try:
        return flat(str(place.relative_to(Path.cwd())))
    except (ValueError, OSError):
        return flat(str(place))


def _by_path(source: str) -> PageName:
    return PageName(Path(source).stem, "whole")
