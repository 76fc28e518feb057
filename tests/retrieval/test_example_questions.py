"""The questions about the example documents, asked through every layer with no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms import ExtractiveReader
from chinese_alpaca_rag.retrieval import LibraryRetriever
from tests.shared_data import ROOT

EXAMPLES = ROOT / "examples"


def questions() -> list[dict[str, Any]]:
    """The questions in the documents' own language: the reader compares words, and translates none."""
    lines = (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [asked for asked in map(json.loads, lines) if asked["language"].startswith("zh")]


def without_spaces(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.open(tmp_path_factory.mktemp("library"), create=True) as library:
        outcomes = ingest_paths([EXAMPLES / "documents"], library)
        assert {outcome.status for outcome in outcomes} == {"added"}
        yield library


def test_the_right_document_comes_first(library: Library) -> None:
    retriever = LibraryRetriever(library=library)
    right = sum(
        Path(retriever.invoke(asked["question"])[0].metadata["source"]).name in (asked["file"], *asked.get("also", ()))
        for asked in questions()
    )
    assert right / len(questions()) >= 0.93


def test_the_first_sentence_quoted_holds_the_answer(library: Library) -> None:
    chain = create_qa_chain(ExtractiveReader(), LibraryRetriever(library=library))
    first = quoted = 0
    for asked in questions():
        citations = chain.invoke(asked["question"]).citations
        assert all(citation.verified for citation in citations)
        held = [without_spaces(asked["answer"]) in without_spaces(citation.quote) for citation in citations]
        first += any(held[:1])
        quoted += any(held)
    assert first / len(questions()) >= 0.85
    assert quoted / len(questions()) >= 0.92
