"""PDF pages that hold no text of their own: read from their pictures, a few pages at a time.

Each few pages are a task of their own for the parser process, with time of their own: a long scan is not lost to the
limit that a hostile file is stopped by, and what cannot be read of it is named.
"""

from __future__ import annotations

from dataclasses import replace

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.ocr import recognised_page
from chinese_alpaca_rag.ingest.parser_pool import Parsing
from chinese_alpaca_rag.ingest.pdf import number_ranges, opened_pdf
from chinese_alpaca_rag.ingest.refusals import without_text
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

#: What stands in a document's ``encoding`` when text of it was recognised in pictures.
RECOGNISED = "ocr"
_PAGES_AT_ONCE = 4


def read_scans(data: bytes, name: str, *, password: str | None = None, pages: tuple[int, ...] = ()) -> ParsedDocument:
    """The pages with the numbers ``pages`` of a PDF, as their pictures are read; in the parser process."""
    read: list[Page] = []
    weights: list[tuple[int, float]] = []
    with opened_pdf(data, password) as pdf:
        for number in pages:
            page = pdf[number - 1]
            try:
                text, sure = recognised_page(page)
            finally:
                page.close()
            read.append(Page(number, text))
            weights.append((len(text), sure))
    total = sum(length for length, _ in weights)
    sure = sum(length * sure for length, sure in weights) / total if total else 1.0
    return ParsedDocument(format="pdf", title=name, pages=tuple(read), page_kind="page", confidence=sure)


def read_with_scans(parsing: Parsing, data: bytes, name: str, *, password: str | None) -> ParsedDocument:
    """A PDF with the text of its pictured pages; DocumentRefusedError as for ``read_pdf``."""
    document = parsing.parse(data, "pdf-with-pictures", name, password=password)
    if not document.pictures:
        return replace(document, format="pdf")
    texts: dict[int, str] = {}
    weights: list[tuple[int, float]] = []
    failed: list[int] = []
    for start in range(0, len(document.pictures), _PAGES_AT_ONCE):
        some = document.pictures[start : start + _PAGES_AT_ONCE]
        try:
            read = parsing.parse(data, "scans", name, password=password, pages=some)
        except DocumentRefusedError:
            if parsing.is_abandoned:
                raise
            failed += some
            continue
        found = {page.number: page.text for page in read.pages if page.text.strip()}
        texts.update(found)
        weights.append((sum(map(len, found.values())), read.confidence))
    return _finished(document, texts, failed, weights)


def _finished(
    document: ParsedDocument, texts: dict[int, str], failed: list[int], weights: list[tuple[int, float]]
) -> ParsedDocument:
    pages = tuple(replace(page, text=texts.get(page.number, page.text)) for page in document.pages)
    if not any(page.text.strip() for page in pages):
        listed = number_ranges(document.pictures)
        raise without_text(
            Words(zh=f"第 {listed} 页是图片，没有认出文字", en=f"page {listed} are pictures, and no text was made out")
        )
    missing = document.missing
    if failed:
        listed = number_ranges(failed)
        told = Words(zh=f"没有收入：第 {listed} 页的图片没能识别。", en=f"Left out: page {listed} (pictures not read).")
        missing = f"{missing} {told}".strip()
    total = sum(length for length, _ in weights)
    sure = sum(length * sure for length, sure in weights) / total if total else 1.0
    return replace(
        document, format="pdf", pages=pages, pictures=(), missing=missing,
        encoding=RECOGNISED if texts else "", confidence=sure,
    )  # fmt: skip
