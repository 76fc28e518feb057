"""From LangChain Documents to the numbered sources that a prompt shows and a citation points to.

An *excerpt* is a stretch of one page with its place. A *source* is an excerpt with its number in the
prompt; neighbouring excerpts are shown as one source. For both, ``text`` is exactly the page's text
from ``start`` to ``end`` (code points), so that any stretch found in it is a stretch of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.documents import Document

from chinese_alpaca_rag.chains.results import Place
from chinese_alpaca_rag.language import Language

# Neighbours are joined into one source up to this many characters: longer ones make vague citations.
LONGEST_JOINED = 1500
# Titles and headings in a source's first line are shortened to this many characters.
LONGEST_LABEL = 60
_SOURCE_KEYS = ("source", "file_path", "path", "url")


@dataclass(frozen=True)
class Excerpt:
    """A stretch of one page. ``placed`` says that start and end are known to count in the page's text.

    ``document`` is the label of what the text is from, where one is known (see ``chinese_alpaca_rag.labels``).
    """

    source: str
    page: int
    start: int
    end: int
    text: str
    title: str = ""
    heading: str = ""
    page_kind: str = "whole"
    page_label: str = ""
    placed: bool = True
    document: str = ""

    @property
    def place(self) -> Place:
        """Where it stands, for receipts."""
        return Place(self.source, self.page, self.start, self.end)

    @property
    def reading_order(self) -> tuple[str, int, int, int, str]:
        """The canonical order of sources: by document, page and place."""
        return (self.source, self.page, self.start, self.end, self.text)

    def part(self, start: int, end: int) -> Excerpt:
        """The stretch between two offsets into this excerpt's own text."""
        return replace(self, start=self.start + start, end=self.start + end, text=self.text[start:end])


@dataclass(frozen=True)
class Source:
    """An excerpt as it stands in a prompt under ``number``, which counts from 1."""

    number: int
    excerpt: Excerpt

    def label(self, language: Language) -> str:
        """The first line of the source in a prompt: number, title, page and heading."""
        excerpt = self.excerpt
        parts = [_short(excerpt.title), _page_name(excerpt, language), _short(excerpt.heading)]
        return f"[{self.number}] " + " · ".join(part for part in parts if part)


def excerpts_of(documents: Iterable[Document]) -> list[Excerpt]:
    """The documents' texts with their places, in the order given; the same place is kept once.

    Documents without this kit's metadata are taken as well: a missing source becomes the document's id
    or its position, a missing page 1, a missing start 0. Documents without any text are left out.
    """
    found: dict[tuple[str, int, int, int, str], Excerpt] = {}
    for position, document in enumerate(documents, start=1):
        if document.page_content.strip():
            excerpt = _excerpt(document, position)
            found.setdefault(excerpt.reading_order, excerpt)
    return list(found.values())


def lay_out(excerpts: Sequence[Excerpt], *, first: int = 1, canonical: bool = True) -> tuple[Source, ...]:
    """Numbered sources from ``excerpts``: in canonical order (or as given), neighbours joined."""
    ordered = sorted(excerpts, key=lambda excerpt: excerpt.reading_order) if canonical else excerpts
    joined: list[Excerpt] = []
    for excerpt in ordered:
        both = _join(joined[-1], excerpt) if joined else None
        if both is None:
            joined.append(excerpt)
        else:
            joined[-1] = both
    return tuple(Source(number, excerpt) for number, excerpt in enumerate(joined, start=first))


def size_of(excerpt: Excerpt) -> int:
    """The bytes of an excerpt's text: of tokens, a proxy that hardly depends on the language."""
    return len(excerpt.text.encode("utf-8", "surrogatepass"))


def documents_of(excerpts: Iterable[Excerpt]) -> list[str]:
    """The labels of what the excerpts are from, each once; the name of one that has no label."""
    return list(dict.fromkeys(excerpt.document or excerpt.source for excerpt in excerpts))


def _join(left: Excerpt, right: Excerpt) -> Excerpt | None:
    """Both as one where ``right`` continues or overlaps ``left`` on the page, else None."""
    same_page = (left.source, left.page, left.heading) == (right.source, right.page, right.heading)
    touching = left.placed and right.placed and left.start <= right.start <= left.end
    if not (same_page and touching) or max(left.end, right.end) - left.start > LONGEST_JOINED:
        return None
    shared = min(left.end, right.end) - right.start
    if left.text[right.start - left.start :][:shared] != right.text[:shared]:
        return None
    return replace(left, end=max(left.end, right.end), text=left.text + right.text[shared:])


def _excerpt(document: Document, position: int) -> Excerpt:
    known = document.metadata
    text = document.page_content
    named = next((known[key] for key in _SOURCE_KEYS if known.get(key) is not None and str(known[key])), None)
    source = str(named if named is not None else document.id or f"document-{position}")
    start = _whole_number(known.get("start", known.get("start_index")))
    end = _whole_number(known.get("end"))
    begins = start if start is not None and start >= 0 else 0
    page = _whole_number(known.get("page"))
    return Excerpt(
        source=source,
        page=1 if page is None else page,
        start=begins,
        end=begins + len(text),
        text=text,
        title=_text(known.get("title")) or _name_of(source),
        heading=_text(known.get("heading")),
        page_kind=_text(known.get("page_kind")) or ("whole" if page is None else "page"),
        page_label=_text(known.get("page_label")),
        placed=start == begins and end in (None, begins + len(text)),
        document=_text(known.get("document")),
    )


def _whole_number(value: Any) -> int | None:
    """``value`` as an integer where it is one (or its decimal text), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, int):
        return value
    digits = value.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _name_of(source: str) -> str:
    """A file's name without folders and suffix; other text as it is."""
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and len(suffix) <= 8 else name or source


def _page_name(excerpt: Excerpt, language: Language) -> str:
    label = _short(excerpt.page_label)
    if excerpt.page_kind == "whole":
        return label
    kinds = {"page": ("第 {} 页", "page {}"), "slide": ("幻灯片 {}", "slide {}"), "sheet": ("工作表 {}", "sheet {}")}
    pattern = kinds.get(excerpt.page_kind, kinds["page"])[language == "en"]
    return pattern.format(label or excerpt.page)


def _short(text: str) -> str:
    """``text`` on one line, at most ``LONGEST_LABEL`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"
