"""Text in pictures: how boxes become lines and paragraphs, and a picture read for real."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest import pipeline, reading
from chinese_alpaca_rag.ingest.isolation import ParserLimits, ParserProcess
from chinese_alpaca_rag.ingest.ocr import Box, boxes_text, can_recognise, recognised_page
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.ingest.reading import read_bytes
from chinese_alpaca_rag.library.records import ParsedDocument
from chinese_alpaca_rag.library.store import Library
from tests.ingest.office_files import lines, pdf_file

needs_ocr = pytest.mark.skipif(not can_recognise(), reason="needs the ocr extra")


def row(text: str, y: float, *, left: float = 72.0, size: float = 12.0) -> Box:
    wide = sum(size if character > "\u2e80" else size / 2 for character in text)
    return Box(text, left, y - size, left + wide, y)


def test_lines_of_a_paragraph_are_joined_without_spaces_in_chinese() -> None:
    boxes = [
        row("员工每年享有十五天年假，应当提前两周向部门", 700),
        row("经理提出申请，并在系统中登记，经批准后方可", 684),
        row("休假。", 668),
        row("第二章 病假", 620, size=16),
    ]
    text = boxes_text(boxes)
    assert "部门经理提出申请" in text
    assert "方可休假。" in text
    assert text.endswith("第二章 病假")


def test_boxes_side_by_side_are_one_row() -> None:
    boxes = [row("年假", 700, left=200), row("姓名", 701), row("张三", 680), row("十五天", 680.5, left=200)]
    assert boxes_text(boxes) == "姓名\t年假\n张三\t十五天"


def test_two_columns_are_read_one_after_the_other() -> None:
    line = "这一栏的文字占满了整栏的宽度"
    boxes = [row("横贯两栏的标题", 760, left=200, size=18)]
    for number in range(8):
        boxes += [row(f"左{number}{line}", 700 - 16 * number), row(f"右{number}{line}", 700 - 16 * number, left=320)]
    text = boxes_text(boxes)
    assert text.index("标题") < text.index("左0") < text.index("左7") < text.index("右0")
    assert "\t" not in text


def test_a_table_of_two_columns_stays_a_table() -> None:
    boxes: list[Box] = []
    for number in range(10):
        boxes += [row(f"项目{number}", 700 - 20 * number), row("一千二百元整", 700 - 20 * number, left=330)]
    boxes.append(row("表格下面的一行说明文字比两栏加在一起还要宽一些才能看出版心的宽度有多少", 480))
    assert "项目3\t一千二百元整" in boxes_text(boxes)


def test_nothing_is_nothing() -> None:
    assert boxes_text([]) == ""


def scan(*draws: Any) -> bytes:
    """A PDF whose pages are pictures."""
    from PIL import Image, ImageDraw

    images = []
    for draw in draws:
        images.append(Image.new("RGB", (1240, 1754), "white"))
        draw(ImageDraw.Draw(images[-1]))
    stream = io.BytesIO()
    images[0].save(stream, "PDF", resolution=150, save_all=True, append_images=images[1:])
    return stream.getvalue()


def words(text: str) -> Any:
    from PIL import ImageFont

    font = ImageFont.load_default(40)
    return lambda draw: draw.text((120, 200), text, fill="black", font=font)


def photograph(draw: Any) -> None:
    draw.ellipse((100, 100, 1100, 1500), fill="gray")


def picture_page(draw: Any) -> Any:
    import pypdfium2
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (1240, 1754), "white")
    draw(ImageDraw.Draw(image))
    stream = io.BytesIO()
    image.save(stream, "PDF", resolution=150)
    return pypdfium2.PdfDocument(stream.getvalue())[0]


@needs_ocr
def test_a_picture_is_read() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(40)
    page = picture_page(lambda draw: draw.text((120, 200), "Annual leave is 15 days.", fill="black", font=font))
    text, sure = recognised_page(page)
    assert text == "Annual leave is 15 days."
    assert 0.9 < sure <= 1
    assert recognised_page(picture_page(lambda _draw: None)) == ("", 1.0)


@needs_ocr
def test_a_picture_of_chinese_is_read() -> None:
    path = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
    if not path.exists():
        pytest.skip("needs a Chinese font to draw with")
    from PIL import ImageFont

    font = ImageFont.truetype(str(path), 44)
    page = picture_page(lambda draw: draw.text((120, 200), "员工每年享有十五天年假。", fill="black", font=font))
    assert recognised_page(page)[0].rstrip("。.") == "员工每年享有十五天年假"


@needs_ocr
def test_a_scanned_file_is_read_page_by_page() -> None:
    numbers = range(1, 7)
    data = scan(*(words(f"This is the page with the number {number}.") for number in numbers), photograph)
    with ParserProcess() as parser:
        document = read_bytes(data, "scan.pdf", parser=parser)
    assert (document.format, document.page_kind, document.missing, document.encoding) == ("pdf", "page", "", "ocr")
    assert 0.8 < document.confidence <= 1
    assert document.pictures == ()
    for number in numbers:
        assert f"number {number}" in document.pages[number - 1].text
    assert document.pages[6].text == ""


@needs_ocr
def test_pages_that_cannot_be_read_in_time_are_named() -> None:
    data = scan(*(words(f"This is page {number}.") for number in range(1, 7)))
    limits = ParserLimits(seconds_per_picture=30.0)

    class Impatient(ParserProcess):
        def parse(self, data: bytes, format_name: str, name: str, **options: Any) -> ParsedDocument:
            if format_name == "scans" and 5 in options["pages"]:
                self.limits = ParserLimits(seconds=0.0, seconds_per_picture=0.0)
            return super().parse(data, format_name, name, **options)

    with Impatient(limits) as parser:
        document = read_bytes(data, "scan.pdf", parser=parser)
    assert "page 1" in document.pages[0].text.lower()
    assert document.pages[5].text == ""
    assert "5-6" in document.missing


@needs_ocr
def test_pictures_without_text_are_refused() -> None:
    with ParserProcess() as parser, pytest.raises(DocumentRefusedError, match=r"no text|没有"):
        read_bytes(scan(photograph), "photo.pdf", parser=parser)


@needs_ocr
def test_what_was_missing_is_read_once_pictures_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    both = pypdfium2.PdfDocument.new()
    both.import_pages(pypdfium2.PdfDocument(pdf_file([lines("This page holds its text.")])))
    both.import_pages(pypdfium2.PdfDocument(scan(words("This page is a picture."))))
    both.save(tmp_path / "both.pdf")
    (tmp_path / "text.pdf").write_bytes(pdf_file([lines("Only text.")]))
    with Library.open(tmp_path / "library", create=True) as library:

        def statuses() -> list[str]:
            return [one.status for one in ingest_paths([tmp_path], library)]

        with monkeypatch.context() as without:
            for module in (reading, pipeline):
                without.setattr(module, "can_recognise", lambda: False)
            assert statuses() == ["partial", "added"]
            assert statuses() == ["unchanged", "unchanged"]
        assert statuses() == ["updated", "unchanged"]
        assert statuses() == ["unchanged", "unchanged"]
        assert "picture" in library.page_text(str(tmp_path / "both.pdf"), 2)
        with monkeypatch.context() as without:
            for module in (reading, pipeline):
                without.setattr(module, "can_recognise", lambda: False)
            assert statuses() == ["unchanged", "unchanged"]  # what was read is not thrown away
