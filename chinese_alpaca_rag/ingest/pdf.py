"""PDF: the text layer, page by page, through PDFium.

A PDF knows glyphs at places, not paragraphs: :mod:`~chinese_alpaca_rag.ingest.pdf_lines` puts the lines
together, and :mod:`~chinese_alpaca_rag.ingest.running_heads` leaves out what runs through all pages. Pages that
show something but hold no text (scans) are named in the document's ``missing``.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.cleaning import clean_page, visible
from chinese_alpaca_rag.ingest.pdf_lines import Line, page_paragraphs, read_lines
from chinese_alpaca_rag.ingest.refusals import damaged, encrypted, too_large, without_text
from chinese_alpaca_rag.ingest.running_heads import RunningHead, without_running_heads
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_MOST_PAGES = 20_000
_PICTURE = 0.05  # part of the page's area
_OUTLINES = 100
_LABEL = 256  # bytes
_MEANINGLESS = re.compile("[\ufffd\ue000-\uf8ff]")


def read_pdf(data: bytes, name: str, *, password: str | None = None) -> ParsedDocument:
    """A PDF file, one :class:`Page` for each of its pages, whether they hold text or not.

    Headers, footers and page numbers are left out; :func:`removed_heads` tells them. DocumentRefusedError when a
    password is needed, when the file is damaged beyond reading, and when no page holds text.
    """
    with opened_pdf(data, password) as pdf:
        return _document(pdf, name)


def read_pictured_pdf(data: bytes, name: str, *, password: str | None = None) -> ParsedDocument:
    """The same, with the numbers of the pages whose pictures are still to be read in ``pictures``.

    These pages are not named as missing, and a document may hold nothing else.
    """
    with opened_pdf(data, password) as pdf:
        return _document(pdf, name, with_pictures=True)


def removed_heads(data: bytes, *, password: str | None = None) -> tuple[RunningHead, ...]:
    """The headers, footers and page numbers that :func:`read_pdf` leaves out of a file, page by page.

    DocumentRefusedError as there.
    """
    with opened_pdf(data, password) as pdf:
        return without_running_heads(_read_pages(pdf).lines)[1]


@contextlib.contextmanager
def opened_pdf(data: bytes, password: str | None) -> Iterator[Any]:
    """PDFium's document; DocumentRefusedError where it cannot be opened."""
    import pypdfium2

    if b"%PDF-" not in data[:1024]:
        data = b"%PDF-1.7\n" + data  # other readers do without the first line; PDFium then rebuilds the rest
    try:
        pdf = pypdfium2.PdfDocument(data, password=password)
    except pypdfium2.PdfiumError as error:
        raise _unopened(str(error)) from None
    try:
        if len(pdf) > _MOST_PAGES:
            raise too_large(Words(zh="页数", en="The number of pages"), len(pdf), _MOST_PAGES)
        _show_forms(pdf)
        yield pdf
    finally:
        pdf.close()


class _Pages(NamedTuple):
    """What was read of a PDF's pages: their lines and labels, and the numbers of those that lack something."""

    lines: list[Sequence[Line]]
    labels: list[str]
    scanned: list[int]
    unreadable: list[int]
    broken: list[int]
    fontless: list[int]


def _read_pages(pdf: Any) -> _Pages:
    import pypdfium2

    read = _Pages([], [], [], [], [], [])
    for index in range(len(pdf)):
        number = index + 1
        lines: Sequence[Line] = ()
        try:
            lines, text, is_scan, is_fontless = _read_page(pdf, index)
        except pypdfium2.PdfiumError:
            read.broken.append(number)
            text, is_scan, is_fontless = "", False, False
        if is_fontless:
            read.fontless.append(number)
        if is_scan:
            read.scanned.append(number)
        elif text and _is_garbage(text):
            read.unreadable.append(number)
            text = ""
        label = _label(pdf, index)
        read.lines.append(lines if text else ())
        read.labels.append(label if label != str(number) else "")
    return read


def _document(pdf: Any, name: str, *, with_pictures: bool = False) -> ParsedDocument:
    read = _read_pages(pdf)
    pictures = sorted({*read.scanned, *read.unreadable, *read.fontless}) if with_pictures else []
    if with_pictures:
        read = read._replace(scanned=[], unreadable=[], fontless=[])
    missing = _missing(read.scanned, read.unreadable, read.broken, read.fontless, len(read.lines))
    if not any(read.lines) and not pictures:
        raise _no_text(len(read.lines), missing)
    bodies, _ = without_running_heads(read.lines)
    pages = tuple(
        Page(number, clean_page(page_paragraphs(lines)), label)
        for number, (lines, label) in enumerate(zip(bodies, read.labels, strict=True), 1)
    )
    title = own_title(pdf.get_metadata_value("Title")) or name
    return ParsedDocument(
        format="pdf", title=title, pages=pages, page_kind="page", missing=_left_out(missing), pictures=tuple(pictures)
    )


def _show_forms(pdf: Any) -> None:
    """Load the form, if there is one, so that what was filled in can be read."""
    import pypdfium2

    try:
        if pdf.get_formtype() != pypdfium2.raw.FORMTYPE_NONE:
            pdf.init_forms()
    except (pypdfium2.PdfiumError, RuntimeError):
        return


def _read_page(pdf: Any, index: int) -> tuple[Sequence[Line], str, bool, bool]:
    """The lines of one page; their text, as far as it is visible; whether the page shows something that may be text
    without holding any; whether text is lost for want of a font.
    """
    from pypdfium2 import raw

    page = pdf[index]
    try:
        if raw.FPDFPage_GetAnnotCount(page) > 0:
            # Comments and filled-in form fields become part of the page, where they show.
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
            page.close()
            page = pdf[index]
        textpage = page.get_textpage()
        try:
            lines = read_lines(textpage)
        finally:
            textpage.close()
        text = visible("\n".join([line.text for line in lines])).strip("\n")
        is_fontless = _lacks_font(page, text)
        return lines, text, not text and not is_fontless and _may_picture_text(page), is_fontless
    finally:
        page.close()


def _label(pdf: Any, index: int) -> str:
    """What the document itself calls the page: "iv", "A-3"."""
    from pypdfium2 import raw

    label = ctypes.create_string_buffer(_LABEL)
    length = raw.FPDF_GetPageLabel(pdf, index, label, _LABEL)
    if length > _LABEL:
        return str(pdf.get_page_label(index))
    return label.raw[: max(0, length - 2)].decode("utf-16-le", "ignore")


def _lacks_font(page: Any, text: str) -> bool:
    """Whether text of the page is lost because its font is neither in the file nor on this machine.

    PDFium passes over a piece of text that has no width, and a single character has none where no font draws it.
    So have spaces that are pieces of their own, but of those there are never more than of other characters.
    """
    from pypdfium2 import raw

    kept = len("".join(text.split()))
    if raw.FPDFPage_CountObjects(page) <= kept:
        return False
    lost = 0
    for shape in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], max_depth=4):
        left, bottom, right, top = shape.get_bounds()
        empty = left == right and bottom == top
        lost += empty and not raw.FPDFFont_GetIsEmbedded(raw.FPDFTextObj_GetFont(shape))
    return lost > max(kept, 2)  # a page may hold a stray space and nothing else


def _may_picture_text(page: Any) -> bool:
    """Whether images cover a part of the page, or so many outlines that they may be letters."""
    from pypdfium2 import raw

    width, height = page.get_size()
    area, outlines = 0.0, 0
    for shape in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_PATH], max_depth=4):
        if shape.type == raw.FPDF_PAGEOBJ_PATH:
            outlines += 1
        else:
            left, bottom, right, top = shape.get_bounds()
            area += max(0.0, right - left) * max(0.0, top - bottom)
    return area > _PICTURE * width * height or outlines > _OUTLINES


def _is_garbage(text: str) -> bool:
    """Whether the fonts do not say what their glyphs mean, so that the text is not the one that is seen."""
    wrong = len(_MEANINGLESS.findall(text))
    return wrong > 0 and wrong > 0.5 * len("".join(text.split()))


def _unopened(detail: str) -> DocumentRefusedError:
    return encrypted("PDF") if "password" in detail.lower() else damaged("PDF", detail)


def _missing(
    scanned: Sequence[int], unreadable: Sequence[int], broken: Sequence[int], fontless: Sequence[int], total: int
) -> Words | None:
    """What of the document's ``total`` pages could not be read, in words."""
    parts: list[Words] = []
    for numbers, zh, en in (
        (scanned, "是图片，没有文字层，需要 OCR", "pictures without a text layer, which need OCR"),
        (unreadable, "的字体没有编码信息，读不出文字", "fonts that do not say what their glyphs mean"),
        (broken, "已损坏", "damaged"),
        (
            fontless,
            "有文字因文件和本机都没有所用的字体而读不出；请安装中文字体（如 fonts-noto-cjk）后再读",
            "text in a font that is neither in the file nor on this machine: install Chinese fonts such as "
            "fonts-noto-cjk and read it again",
        ),
    ):
        if numbers:
            listed = number_ranges(numbers)
            parts.append(Words(zh=f"第 {listed} 页{zh}", en=f"page {listed} ({en})"))
    if not parts:
        return None
    zh = "；".join(part.zh for part in parts)
    en = "; ".join(part.en for part in parts)
    return Words(zh=f"{zh}（共 {total} 页）", en=f"{en} of {total}")


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: "1-3, 7"."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _left_out(missing: Words | None) -> str:
    return str(Words(zh=f"没有收入：{missing.zh}。", en=f"Left out: {missing.en}.")) if missing else ""


def _no_text(total: int, missing: Words | None) -> DocumentRefusedError:
    if missing is None:
        zh = f"{total} 页都是空白" if total else "一页也没有"
        return without_text(Words(zh=zh, en=f"all {total} pages are blank" if total else "it has no page"))
    return without_text(missing)
