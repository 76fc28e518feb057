"""Rebuilds the binary files of ``examples/documents`` from the texts in ``tools/example_texts``.

Nobody who uses the kit needs this: the built files are committed. Run it after changing a text, from the root of
the repository::

    apt-get install fonts-wqy-microhei      # Debian; Apache-2.0, a TrueType font for the PDFs
    python -m tools.build_example_documents

The Markdown and HTML files of the examples are their own source and are not touched. The same texts and the same
library versions give the same bytes: dates inside the files are fixed.
"""

from __future__ import annotations

import argparse
import datetime
import io
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pptx
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm
from docx.shared import Pt as DocxPt
from docx.shared import RGBColor as DocxColor
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from pptx.dml.color import RGBColor
from pptx.enum.shapes import MSO_SHAPE
from pptx.enum.text import PP_ALIGN
from pptx.util import Emu, Inches, Pt

from tools.example_source import Block, parse_blocks, parse_sheets

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "tools" / "example_texts"
DOCUMENTS = ROOT / "examples" / "documents"
PDF_FONT = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
COMPANY = "常州禾观传感技术有限公司"


def _text(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")


def _settle(path: Path, content: bytes, when: datetime.datetime) -> None:
    """Writes an Office file's parts with one fixed date, inside the archive and in its properties."""
    stamp = when.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    dated = rb"(<dcterms:(created|modified)[^>]*>)[^<]*"
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            blob = old.read(name)
            if name == "docProps/core.xml":
                blob = re.sub(dated, rb"\g<1>" + stamp, blob)
            info = zipfile.ZipInfo(name, date_time=when.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, blob, compresslevel=9)


def build_txt(source: str, encoding: str) -> Callable[[Path], None]:
    """A builder of one plain text in an old encoding, with the line ends of Windows."""

    def build(path: Path) -> None:
        path.write_bytes(_text(source).replace("\n", "\r\n").encode(encoding))

    return build


def build_report(source: str) -> Callable[[Path], None]:
    """A builder of one PDF."""

    def build(path: Path) -> None:
        from tools.example_typesetting import build_pdf, register_font

        register_font(PDF_FONT)
        build_pdf(path, parse_blocks(_text(source)))

    return build


# Word ---------------------------------------------------------------------------------------------


def build_handbook(path: Path) -> None:
    """The employee handbook, as Word."""
    document = docx.Document()
    for name, family, size in (
        ("Normal", "宋体", 10.5),
        ("Title", "黑体", 26),
        ("Heading 1", "黑体", 16),
        ("Heading 2", "黑体", 12),
        ("List Bullet", "宋体", 10.5),
        ("Header", "宋体", 9),
        ("Footer", "宋体", 9),
    ):
        _style_docx(document.styles[name], family, size)
    document.core_properties.title, document.core_properties.author = "员工手册（2025年版）", COMPANY
    document.core_properties.comments = ""
    blocks = parse_blocks(_text("handbook.md"))
    for block in blocks:
        _add_to_docx(document, block)
    section = document.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.header.paragraphs[0].text = f"{COMPANY}　员工手册（2025年版）"
    footer = section.footer.paragraphs[0]
    footer.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for text in ("第", "PAGE", "页　共", "NUMPAGES", "页"):
        _add_field(footer, text) if text.isascii() else footer.add_run(text)
    stream = io.BytesIO()
    document.save(stream)
    _settle(path, stream.getvalue(), datetime.datetime(2024, 12, 16, 9, 30, tzinfo=datetime.UTC))


def _style_docx(style: Any, family: str, size: float) -> None:
    style.font.name, style.font.size = family, DocxPt(size)
    style.font.color.rgb = DocxColor(0x1D, 0x6B, 0x45) if style.name.startswith(("Heading", "Title")) else None
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{theme}"), None)
    fonts.set(qn("w:eastAsia"), family)


def _add_to_docx(document: Any, block: Block) -> None:
    if block.kind == "table":
        table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
        for index, row in enumerate(block.rows):
            for cell, text in zip(table.add_row().cells, row, strict=True):
                cell.paragraphs[0].add_run(text).bold = index == 0
        document.add_paragraph()
        return
    styles = {"title": "Title", "heading": "Heading 1", "subheading": "Heading 2", "bullet": "List Bullet"}
    paragraph = document.add_paragraph(block.text, style=styles.get(block.kind))
    if block.kind == "paragraph":
        layout = paragraph.paragraph_format
        layout.line_spacing = 1.4
        layout.keep_with_next = block.text.startswith("表") or block.text.endswith("：")
        if block.text.endswith(("。", "：")):
            layout.first_line_indent = DocxPt(21)


def _add_field(paragraph: Any, instruction: str) -> None:
    run = paragraph.add_run()
    for kind in ("begin", None, "end"):
        element = OxmlElement("w:fldChar" if kind else "w:instrText")
        if kind:
            element.set(qn("w:fldCharType"), kind)
        else:
            element.text = instruction
        run._r.append(element)


# Excel --------------------------------------------------------------------------------------------


def build_prices(path: Path) -> None:
    """The price list, as Excel: a sheet of title, header and rows for each part."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    book.properties.title, book.properties.creator = "产品价格表（2025年7月版）", COMPANY
    for name, rows in parse_sheets(_text("prices.tsv")).items():
        _add_sheet(book.create_sheet(name), name, rows)
    stream = io.BytesIO()
    book.save(stream)
    _settle(path, stream.getvalue(), datetime.datetime(2025, 6, 20, 14, 0, tzinfo=datetime.UTC))


def _add_sheet(sheet: Any, name: str, rows: Sequence[Sequence[str]]) -> None:
    columns = len(rows[0])
    sheet.append([f"禾观传感产品价格表（2025年7月版）　{name}"])
    sheet.merge_cells(start_row=1, start_column=1, end_row=1, end_column=columns)
    sheet["A1"].font = Font(name="微软雅黑", size=14, bold=True, color="1D6B45")
    for row in rows:
        sheet.append(_price_cells(row))
    thin = Side(style="thin", color="B8C9BE")
    for cells in sheet.iter_rows(min_row=2, max_col=columns):
        for cell in cells:
            head = cell.row == 2
            cell.font = Font(name="微软雅黑", size=10, bold=head)
            cell.border = Border(left=thin, right=thin, top=thin, bottom=thin)
            cell.alignment = Alignment(vertical="center", wrap_text=True)
            if head:
                cell.fill = PatternFill("solid", fgColor="EAF3ED")
    for index in range(columns):
        longest = max(len(row[index]) for row in rows if index < len(row))
        sheet.column_dimensions[get_column_letter(index + 1)].width = min(max(longest * 1.9, 11), 60)
    sheet.freeze_panes = "C3" if columns > 3 else "A3"
    sheet.page_setup.orientation = "landscape"
    sheet.sheet_properties.pageSetUpPr = openpyxl.worksheet.properties.PageSetupProperties(fitToPage=True)
    sheet.page_setup.fitToHeight = 0


def _price_cells(row: Sequence[str]) -> list[str | int | None]:
    """The cells of one row: whole numbers as numbers, and ``*`` as the 95 and 90 % of the price before it."""
    cells: list[str | int | None] = [int(cell) if cell.isdecimal() else cell or None for cell in row]
    starred = [index for index, cell in enumerate(cells) if cell == "*"]
    for index, percent in zip(starred, (95, 90), strict=False):
        price = cells[starred[0] - 1]
        if not isinstance(price, int):
            raise ValueError(f"no price to discount in {row}")
        cells[index] = (price * percent + 50) // 100  # half up, as the terms say
    return cells


# PowerPoint ---------------------------------------------------------------------------------------


def build_training(path: Path) -> None:
    """The training deck, as PowerPoint, with speaker's notes."""
    deck = pptx.Presentation()
    deck.slide_width, deck.slide_height = Inches(13.333), Inches(7.5)
    deck.core_properties.title, deck.core_properties.author = "新员工入职培训（2025年9月版）", COMPANY
    groups: list[list[Block]] = []
    for block in parse_blocks(_text("training.md")):
        if block.kind == "title":
            groups.append([])
        groups[-1].append(block)
    for number, group in enumerate(groups, start=1):
        _add_slide(deck, group, number)
    stream = io.BytesIO()
    deck.save(stream)
    _settle(path, stream.getvalue(), datetime.datetime(2025, 9, 1, 10, 0, tzinfo=datetime.UTC))


def _add_slide(deck: Any, group: Sequence[Block], number: int) -> None:
    tables = [block for block in group if block.kind == "table"]
    lines = [block.text for block in group if block.kind in ("bullet", "paragraph")]
    first = number == 1
    slide = deck.slides.add_slide(deck.slide_layouts[0 if first else 5 if tables else 1])
    title = slide.shapes.title
    top = Inches(2.3) if first else Inches(0.5)
    title.left, title.top, title.width, title.height = Inches(0.9), top, Inches(11.5), Inches(1.1)
    _write(title.text_frame, [group[0].text], size=40 if first else 32, color="1D6B45")
    if not first:
        title.text_frame.paragraphs[0].alignment = PP_ALIGN.LEFT
        bar = slide.shapes.add_shape(MSO_SHAPE.RECTANGLE, Inches(0.9), Inches(1.55), Inches(1.2), Inches(0.06))
        bar.fill.solid()
        bar.fill.fore_color.rgb = RGBColor.from_string("1D6B45")
        bar.line.fill.background()
    if lines:
        body = slide.placeholders[1]
        top, height = (Inches(3.6), Inches(1.4)) if first else (Inches(1.9), Inches(4.8))
        body.left, body.top, body.width, body.height = Inches(0.9), top, Inches(11.5), height
        _write(body.text_frame, lines, size=26, color="1F2A24")
    for block in tables:
        _add_slide_table(slide, block.rows)
    slide.notes_slide.notes_text_frame.text = "\n".join(block.text for block in group if block.kind == "note")


def _add_slide_table(slide: Any, rows: Sequence[Sequence[str]]) -> None:
    height = Inches(0.62) * len(rows)
    shape = slide.shapes.add_table(len(rows), len(rows[0]), Inches(0.9), Inches(1.9), Inches(11.5), Emu(height))
    for index, row in enumerate(rows):
        for column, text in enumerate(row):
            cell = shape.table.cell(index, column)
            _write(cell.text_frame, [text], size=18, color="1F2A24" if index else "FFFFFF")
            if not index:
                cell.fill.solid()
                cell.fill.fore_color.rgb = RGBColor.from_string("1D6B45")


def _write(frame: Any, lines: Sequence[str], *, size: int, color: str) -> None:
    frame.text = "\n".join(lines)
    for paragraph in frame.paragraphs:
        for run in paragraph.runs:
            run.font.size, run.font.name, run.font.color.rgb = Pt(size), "微软雅黑", RGBColor.from_string(color)
            fonts = run._r.get_or_add_rPr()
            fonts.append(fonts.makeelement(qn("a:ea").replace("wordprocessingml", "drawingml"), typeface="微软雅黑"))


BUILDERS: dict[str, Callable[[Path], None]] = {
    "年度报告.pdf": build_report("report.md"),
    "HG-G200网关用户手册.pdf": build_report("manual.md"),
    "员工手册.docx": build_handbook,
    "产品价格表.xlsx": build_prices,
    "新员工入职培训.pptx": build_training,
    "信息安全管理制度.txt": build_txt("security_policy.txt", "gb18030"),
    "台中辦事處公告.txt": build_txt("taichung_notice.txt", "big5"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds every file, or those whose names are given."""
    parser = argparse.ArgumentParser(description="Rebuild the example documents from their texts.")
    parser.add_argument("names", nargs="*", help="files to build, by name; all when none is named")
    parser.add_argument("--to", type=Path, default=DOCUMENTS, help="folder to write to")
    chosen = parser.parse_args(arguments)
    names = chosen.names or list(BUILDERS)
    unknown = [name for name in names if name not in BUILDERS]
    if unknown:
        parser.error(f"not built here: {'、'.join(unknown)} (known: {'、'.join(BUILDERS)})")
    if any(name.endswith(".pdf") for name in names) and not PDF_FONT.exists():
        print(f"{PDF_FONT} is missing: apt-get install fonts-wqy-microhei", file=sys.stderr)
        return 1
    chosen.to.mkdir(parents=True, exist_ok=True)
    for name in names:
        BUILDERS[name](chosen.to / name)
        print(f"{(chosen.to / name).stat().st_size:>8} bytes  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
