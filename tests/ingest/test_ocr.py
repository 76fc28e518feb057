"""Text in pictures: how boxes become lines and paragraphs, and a picture read for real."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.ingest.ocr import Box, boxes_text, can_recognise, recognised_page

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
    assert recognised_page(page) == "Annual leave is 15 days."
    assert recognised_page(picture_page(lambda _draw: None)) == ""


@needs_ocr
def test_a_picture_of_chinese_is_read() -> None:
    path = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
    if not path.exists():
        pytest.skip("needs a Chinese font to draw with")
    from PIL import ImageFont

    font = ImageFont.truetype(str(path), 44)
    page = picture_page(lambda draw: draw.text((120, 200), "员工每年享有十五天年假。", fill="black", font=font))
    assert recognised_page(page).rstrip("。.") == "员工每年享有十五天年假"
