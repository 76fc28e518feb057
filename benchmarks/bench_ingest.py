"""How fast are documents read, split and kept, beside LangChain's loaders, unstructured and bare PDFium?

    python -m benchmarks.bench_ingest

1,000 generated Chinese text files, and Word and PDF files made of the same sentences. Ours is reading and splitting
into passages, each format's safety checks and parser process included; what stands beside it reads only, where not
said otherwise. unstructured stays offline, with its English tokenizer replaced, as in this kit, and its language
detection off: faster than it comes. It is given fewer files; times are compared by the file.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.documents import Document

from benchmarks.figures import figure, interleaved, medians, skipped
from chinese_alpaca_rag.ingest.offline_unstructured import partition_function
from chinese_alpaca_rag.ingest.pdf import read_pdf
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.ingest.reading import read_document
from chinese_alpaca_rag.ingest.splitting import split_document
from chinese_alpaca_rag.library.store import Library
from tests.ingest.generated_files import write_files
from tests.ingest.office_files import lines, pdf_file, slides_file, word_file

FILES = 1_000
CHARACTERS = 3_000  # of each text file
UNSTRUCTURED_FILES = 25
WORD_FILES = 20
PDF_FILES, PDF_PAGES = 5, 40
LINE = 36  # characters on a line of a PDF page
ROUNDS = 5
SEPARATORS = ["\n\n", "\n", "。", "！", "？", "；", "，", ""]


def peak_megabytes() -> tuple[float, float]:
    """The most memory that this process, and the largest of its children that ended, have held."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own / unit, children / unit


def measure_library(documents: Path, folder: Path) -> None:
    """A first run over all files, and one that finds nothing changed."""
    first: list[float] = []
    again: list[float] = []
    for number in range(3):
        with Library.open(folder / f"library-{number}", create=True) as library:
            for times, status in ((first, "added"), (again, "unchanged")):
                started = time.perf_counter()
                outcomes = ingest_paths([documents], library)
                times.append(time.perf_counter() - started)
                assert {one.status for one in outcomes} == {status} and len(outcomes) == FILES
    whole, unchanged = statistics.median(first), statistics.median(again)
    medians("into a library", files_a_second=FILES / whole, first_run_s=whole, nothing_changed_s=unchanged)
    medians("peak memory of text ingestion in MB", this_process=peak_megabytes()[0])
    figure("ingest_unchanged_share", unchanged / whole, "<=", 0.02)


def read_and_split(paths: Sequence[Path]) -> int:
    """Ours: the number of passages of all files."""
    return sum(len(split_document(read_document(path))) for path in paths)


def loaded(path: Path) -> Document:
    """What LangChain's TextLoader does."""
    return Document(page_content=path.read_text(encoding="utf-8"), metadata={"source": str(path)})


def langchain_splitter() -> Callable[[Sequence[Document]], Any] | None:
    """LangChain's RecursiveCharacterTextSplitter with Chinese separators; None where it is not installed."""
    try:
        module = import_module("langchain_text_splitters")
    except ImportError:
        return None
    splitter = module.RecursiveCharacterTextSplitter(
        separators=SEPARATORS, keep_separator="end", chunk_size=400, chunk_overlap=0
    )
    split: Callable[[Sequence[Document]], Any] = splitter.split_documents
    return split


def rates(name: str, seconds: float, files: int, characters: int) -> None:
    medians(name, files_a_second=files / seconds, characters_a_second=characters / seconds)


def measure_text(paths: Sequence[Path]) -> None:
    characters = sum(len(path.read_text(encoding="utf-8")) for path in paths)
    splitter = langchain_splitter()

    def langchain() -> None:
        documents = [loaded(path) for path in paths]
        if splitter is not None:
            splitter(documents)

    ours, theirs = interleaved(lambda: read_and_split(paths), langchain, ROUNDS)
    rates("text, read and split", ours, len(paths), characters)
    with_what = "read and split by LangChain" if splitter else "read as LangChain's TextLoader does, not split"
    rates(f"text, {with_what}", theirs, len(paths), characters)
    if splitter is None:
        skipped("ingest_text_vs_langchain", "langchain-text-splitters is not installed")
    measure_text_by_unstructured(paths[:UNSTRUCTURED_FILES])


def measure_text_by_unstructured(few: Sequence[Path]) -> None:
    partition_function("docx")  # puts the plain tokenizer in place
    from unstructured.partition.auto import partition

    characters = sum(len(path.read_text(encoding="utf-8")) for path in few)
    ours, theirs = interleaved(
        lambda: read_and_split(few),
        lambda: [partition(filename=str(path)) for path in few],
        ROUNDS,
    )
    bare, _ = interleaved(lambda: [partition(filename=str(path), languages=[""]) for path in few], lambda: None, 3)
    rates("the same few files, read and split", ours, len(few), characters)
    rates("the same few files, unstructured", theirs, len(few), characters)
    rates("the same few files, unstructured without language detection", bare, len(few), characters)
    figure("ingest_text_vs_unstructured", theirs / ours, ">=", 5)


def word_files(folder: Path, texts: Sequence[str]) -> list[Path]:
    """A Word file of each text: a heading, its paragraphs, and a table of twenty cells."""
    folder.mkdir()
    paths = []
    for number, text in enumerate(texts):

        def write(document: Any, text: str = text, number: int = number) -> None:
            document.add_heading(f"第{number}章", 1)
            for paragraph in text.split("\n"):
                document.add_paragraph(paragraph)
            table = document.add_table(5, 4)
            for row in table.rows:
                for column, cell in enumerate(row.cells):
                    cell.text = f"第{column}列"

        paths.append(folder / f"{number}.docx")
        paths[-1].write_bytes(word_file(write))
    return paths


def measure_word(folder: Path, texts: Sequence[str]) -> None:
    paths = word_files(folder, texts)
    with Library.open(folder.parent / "word-library", create=True) as library:
        ingest_paths([folder], library)
    medians("peak memory of Word ingestion in MB", parser_process=peak_megabytes()[1])
    partition_function("docx")
    from unstructured.partition.auto import partition

    characters = sum(len(page.text) for path in paths for page in read_document(path).pages)
    ours, theirs = interleaved(
        lambda: read_and_split(paths),
        lambda: [partition(filename=str(path)) for path in paths],
        ROUNDS,
    )
    bare, _ = interleaved(lambda: [partition(filename=str(path), languages=[""]) for path in paths], lambda: None, 3)
    rates("Word, unstructured without language detection", bare, len(paths), characters)
    rates("Word, read and split", ours, len(paths), characters)
    rates("Word, unstructured", theirs, len(paths), characters)
    figure("ingest_docx_vs_unstructured", theirs / ours, ">=", 5)


def slide_files(folder: Path, texts: Sequence[str]) -> list[Path]:
    """A presentation of each text: a slide for every four paragraphs, with a title."""
    folder.mkdir()
    paths = []
    for number, text in enumerate(texts):

        def write(presentation: Any, text: str = text) -> None:
            paragraphs = text.split("\n")
            for start in range(0, len(paragraphs), 4):
                slide = presentation.slides.add_slide(presentation.slide_layouts[1])
                slide.shapes.title.text = f"第{start}页"
                slide.placeholders[1].text = "\n".join(paragraphs[start : start + 4])

        paths.append(folder / f"{number}.pptx")
        paths[-1].write_bytes(slides_file(write))
    return paths


def measure_slides(folder: Path, texts: Sequence[str]) -> None:
    paths = slide_files(folder, texts)
    partition_function("pptx")
    from unstructured.partition.auto import partition

    characters = sum(len(page.text) for path in paths for page in read_document(path).pages)
    ours, theirs = interleaved(
        lambda: read_and_split(paths),
        lambda: [partition(filename=str(path)) for path in paths],
        ROUNDS,
    )
    rates("PowerPoint, read and split", ours, len(paths), characters)
    rates("PowerPoint, unstructured", theirs, len(paths), characters)
    figure("ingest_pptx_vs_unstructured", theirs / ours, ">=", 5)


def bare_pdfium(data: bytes) -> int:
    """The text of every page as PDFium gives it."""
    import pypdfium2

    pdf = pypdfium2.PdfDocument(data)
    characters = sum(len(page.get_textpage().get_text_bounded()) for page in pdf)
    pdf.close()
    return characters


def measure_pdf(texts: Sequence[str]) -> None:
    """Ours in this process as PDFium is: a second parser process reads as many pages again."""
    everything = "".join(texts).replace("\n", "")
    page_size = 30 * LINE
    files = []
    for number in range(PDF_FILES):
        pages = []
        for page in range(PDF_PAGES):
            start = (number * PDF_PAGES + page) * page_size % (len(everything) - page_size)
            text = everything[start : start + page_size]
            pages.append(lines(*(text[at : at + LINE] for at in range(0, page_size, LINE))))
        files.append(pdf_file(pages))
    count = PDF_FILES * PDF_PAGES
    ours, theirs = interleaved(
        lambda: [read_pdf(data, "x") for data in files], lambda: [bare_pdfium(data) for data in files], ROUNDS
    )
    medians("PDF pages a second and process", read=count / ours, bare_pdfium=count / theirs)
    figure("ingest_pdf_vs_pypdfium2", theirs / ours, ">=", 0.8)


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_files(folder / "text", FILES, characters=CHARACTERS, marked=False)
        measure_library(folder / "text", folder)
        measure_text(paths)
        texts = [path.read_text(encoding="utf-8") for path in paths[:100]]
        measure_word(folder / "word", texts[:WORD_FILES])
        measure_slides(folder / "slides", texts[:WORD_FILES])
        measure_pdf(texts)


if __name__ == "__main__":
    main()
