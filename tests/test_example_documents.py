"""The example documents hold what their questions say, as readers that are not the kit's own see them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pptx
import pypdfium2
import pypdfium2.raw as pdfium_c
import pytest

from tests.shared_data import ROOT, shared_data
from tools.build_example_documents import BUILDERS, PDF_FONT

DOCUMENTS = ROOT / "examples" / "documents"
FILES = sorted(path.name for path in DOCUMENTS.iterdir())
PDFS = [name for name in FILES if name.endswith(".pdf")]
ENCODINGS = {"信息安全管理制度.txt": "gb18030", "台中辦事處公告.txt": "big5"}
QUESTIONS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


def folded(text: str) -> str:
    """``text`` without its white space, which pages and tables set as they please."""
    return "".join(text.split())


def rows_text(rows: Any) -> str:
    return "\n".join(" ".join(str(cell) for cell in row if cell is not None) for row in rows)


def table_text(table: Any) -> str:
    return rows_text([cell.text for cell in row.cells] for row in table.rows)


def pdf_pages(path: Path) -> list[str]:
    return [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path)]


def word_pages(path: Path) -> list[str]:
    document = docx.Document(str(path))
    return ["\n".join([*(p.text for p in document.paragraphs), *map(table_text, document.tables)])]


def excel_pages(path: Path) -> list[str]:
    return [rows_text(sheet.values) for sheet in openpyxl.load_workbook(path)]


def slide_pages(path: Path) -> list[str]:
    return [
        "\n".join(table_text(s.table) if s.has_table else s.text_frame.text for s in slide.shapes)
        + "\n"
        + slide.notes_slide.notes_text_frame.text
        for slide in pptx.Presentation(str(path)).slides
    ]


def plain_pages(path: Path) -> list[str]:
    return [path.read_bytes().decode(ENCODINGS.get(path.name, "utf-8"))]


READERS: dict[str, Callable[[Path], list[str]]] = {
    ".pdf": pdf_pages,
    ".docx": word_pages,
    ".xlsx": excel_pages,
    ".pptx": slide_pages,
    ".txt": plain_pages,
    ".md": plain_pages,
    ".html": plain_pages,
}


@cache
def pages(name: str) -> list[str]:
    path = DOCUMENTS / name
    return READERS[path.suffix](path)


def test_files_and_formats() -> None:
    assert len(FILES) >= 8
    assert {Path(name).suffix for name in FILES} == set(READERS)
    for name in FILES:
        assert (DOCUMENTS / name).stat().st_size < 300_000, name
        assert all(len(folded(page)) > 15 for page in pages(name)), name


@pytest.mark.parametrize(("name", "encoding"), ENCODINGS.items())
def test_old_encodings(name: str, encoding: str) -> None:
    content = (DOCUMENTS / name).read_bytes()
    with pytest.raises(UnicodeDecodeError):
        content.decode("utf-8")
    assert content.decode(encoding).encode(encoding) == content
    assert content.count(b"\r\n") == content.count(b"\n") > 20


def test_gb18030_is_more_than_gbk() -> None:
    with pytest.raises(UnicodeEncodeError):
        pages("信息安全管理制度.txt")[0].encode("gbk")


def test_big5_read_as_gb18030_is_another_text() -> None:
    content = (DOCUMENTS / "台中辦事處公告.txt").read_bytes()
    assert "辦事處" not in content.decode("gb18030", errors="replace")


@pytest.mark.parametrize("name", PDFS)
def test_pdf_carries_its_font(name: str) -> None:
    document = pypdfium2.PdfDocument(DOCUMENTS / name)
    assert len(document) >= 6
    for page in document:
        for text in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_TEXT]):
            assert pdfium_c.FPDFFont_GetIsEmbedded(pdfium_c.FPDFTextObj_GetFont(text.raw)) == 1


@pytest.mark.parametrize("name", PDFS)
def test_pdf_text_is_clean(name: str) -> None:
    for number, text in enumerate(pages(name), start=1):
        assert not re.search(r"[\ufffd\ue000-\uf8ff\u2e80-\u2fdf\x00-\x08]", text), (
            "a glyph that reads as something else"
        )
        if number > 1:
            assert f"第{number}页　共{len(pages(name))}页" in text


@pytest.mark.parametrize("name", FILES)
def test_questions_are_answered_where_they_say(name: str) -> None:
    asked = [question for question in QUESTIONS if question["file"] == name]
    assert len(asked) >= 5
    for question in asked:
        evidence = folded(question["evidence"])
        holding = [number for number, text in enumerate(pages(name), start=1) if evidence in folded(text)]
        assert holding == [question["page"]], question["question"]
        assert folded(question["answer"]) in evidence, question["question"]


def test_questions_are_complete() -> None:
    assert len(QUESTIONS) >= 40
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS)
    languages = Counter(question["language"] for question in QUESTIONS)
    assert set(languages) == {"zh", "zh-Hant", "en"}
    assert min(languages["en"], languages["zh-Hant"]) >= 3
    assert all(set(question.get("also", ())) <= set(FILES) - {question["file"]} for question in QUESTIONS)


def test_addresses_are_reserved() -> None:
    text = "\n".join(page for name in FILES for page in pages(name))
    domains = re.findall(r"[\w.]+@([A-Za-z.]+)", text)
    assert set(domains) == {"heguan.example"}


def test_they_are_longer_than_a_16k_window() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(shared_data("tokenizer/tokenizer.model")))
    tokens = {name: sum(len(tokenizer.encode(re.sub(r"<[^>]+>", "", page))) for page in pages(name)) for name in FILES}
    assert sum(tokens.values()) > 16_384
    assert tokens["年度报告.pdf"] > 4_096, "the long report must not fit the small window"


@pytest.mark.parametrize("name", BUILDERS)
def test_built_files_are_of_the_present_texts(name: str, tmp_path: Path) -> None:
    if name.endswith(".pdf") and not PDF_FONT.exists():
        pytest.skip(f"needs the font that the PDFs are set in: {PDF_FONT}")
    BUILDERS[name](tmp_path / name)
    assert READERS[Path(name).suffix](tmp_path / name) == pages(name)
