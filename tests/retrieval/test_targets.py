"""What retrieval and the extractive reader must reach on real questions, through the public API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.question_set import QuestionSet, ingested, passage_number
from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms import ExtractiveReader
from chinese_alpaca_rag.retrieval import LibraryRetriever
from tests.shared_data import shared_data


@pytest.fixture(scope="module")
def whole() -> QuestionSet:
    return QuestionSet.from_squad(shared_data("cmrc2018-trial.json"))


@pytest.fixture(scope="module")
def library(whole: QuestionSet) -> Iterator[Library]:
    with ingested(whole.passages) as library:
        yield library


def test_the_right_document_comes_first(whole: QuestionSet, library: Library) -> None:
    retriever = LibraryRetriever(library=library, k=5)
    first = five = 0
    for question in whole.questions:
        found = [passage_number(document.metadata["source"]) for document in retriever.invoke(question.text)]
        first += found[:1] == [question.passage]
        five += question.passage in found
    assert first / len(whole.questions) >= 0.97
    assert five / len(whole.questions) >= 0.99


def test_the_first_sentence_quoted_holds_the_answer(whole: QuestionSet, library: Library) -> None:
    chain = create_qa_chain(ExtractiveReader(), LibraryRetriever(library=library))
    questions = [question for question in whole.questions if question.text.strip()][::3]
    first = quoted = 0
    for question in questions:
        citations = chain.invoke(question.text).citations
        assert all(citation.verified for citation in citations)
        first += any(answer in citation.quote for answer in question.answers for citation in citations[:1])
        quoted += any(answer in citation.quote for answer in question.answers for citation in citations)
    assert first / len(questions) >= 0.70
    assert quoted / len(questions) >= 0.80
