"""Word, Excel, PowerPoint and PDF files that the tests write themselves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any


def word_file(write: Callable[[Any], None]) -> bytes:
    """A .docx whose content ``write`` adds to the ``docx.Document`` it is given."""
    import docx

    document = docx.Document()
    write(document)
    return saved(document)


def slides_file(write: Callable[[Any], None]) -> bytes:
    """A .pptx whose slides ``write`` adds to the ``pptx.Presentation`` it is given."""
    import pptx

    presentation = pptx.Presentation()
    write(presentation)
    return saved(presentation)


def sheets_file(write: Callable[[Any], None]) -> bytes:
    """An .xlsx whose sheets ``write`` adds to the ``openpyxl.Workbook`` it is given, which has one sheet."""
    import openpyxl

    workbook = openpyxl.Workbook()
    write(workbook)
    return saved(workbook)


def saved(document: Any) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def replaced(data: bytes, parts: dict[str, str]) -> bytes:
    """The same archive with the content of some parts replaced or added."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if entry.filename not in parts:
                target.writestr(entry.filename, source.read(entry))
        for name, content in parts.items():
            target.writestr(name, content)
    return stream.getvalue()


def pdf_file(pages: Sequence[Callable[[Any], None]], **options: Any) -> bytes:
    """A PDF with a page for each function, which draws on a reportlab canvas with a Chinese font set."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfgen.canvas import Canvas

    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, **options)
    for draw in pages:
        canvas.setFont("STSong-Light", 12)
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def lines(*texts: str, left: float = 72, top: float = 760, leading: float = 20) -> Callable[[Any], None]:
    """Draws each text on a line of its own; a text that starts with full-width spaces keeps its indent."""

    def draw(canvas: Any) -> None:
        for number, text in enumerate(texts):
            canvas.drawString(left, top - number * leading, text)

    return draw


def picture(canvas: Any) -> None:
    """Fills a page with an image, as a scanner does."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    canvas.drawImage(ImageReader(Image.new("RGB", (60, 80), "gray")), 40, 40, width=500, height=700)
