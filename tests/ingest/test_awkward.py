"""Real files of every kind, many of them odd or broken: each is read or refused with a reason, and quickly."""

from __future__ import annotations

from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.reading import read_document
from chinese_alpaca_rag.ingest.splitting import split_document
from tests.shared_data import shared_data

# As many of each kind as a test run has time for; the small ones first, so that none takes long.
_OF_EACH_KIND = 12


def sample(folder: Path) -> list[Path]:
    by_suffix: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (path.stat().st_size, path.name)):
        if path.is_file() and path.name != "MANIFEST.tsv":
            by_suffix.setdefault(path.suffix.lower(), []).append(path)
    # Spread over the sizes, from the smallest to those of some hundred kilobytes.
    return [path for paths in by_suffix.values() for path in paths[:: max(1, len(paths) // _OF_EACH_KIND)]]


def test_awkward_files_are_read_or_refused() -> None:
    pytest.importorskip("openpyxl", reason="needs the office extra")
    read = refused = 0
    with ParserProcess() as parser:
        for path in sample(shared_data("awkward")):
            try:
                document = read_document(path, parser=parser)
            except DocumentRefusedError as error:
                assert error.message.en
                assert error.hint.zh
                refused += 1
                continue
            texts = {page.number: page.text for page in document.pages}
            assert any(text.strip() for text in texts.values()), path.name
            spans = split_document(document)
            assert spans, path.name
            assert all(texts[span.page][span.start : span.end].strip() for span in spans)
            read += 1
    assert read > 50
    assert refused > 50
