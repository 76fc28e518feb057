"""Questions over encyclopaedia passages, from the optional shared data, and the sources a reader is given for each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from chinese_alpaca_rag.chains.sources import excerpts_of, lay_out
from chinese_alpaca_rag.ingest.pipeline import ingest_paths
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.retrieval import LibraryRetriever

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cmrc2018-trial.json"


@dataclass(frozen=True)
class AskedQuestion:
    """A question, the number of the passage it was asked about, and the answers that are right."""

    text: str
    passage: int
    answers: tuple[str, ...]


@dataclass(frozen=True)
class QuestionSet:
    """Passages, each a document of its own, and the questions about them."""

    passages: tuple[str, ...]
    questions: tuple[AskedQuestion, ...]

    @classmethod
    def from_squad(cls, path: Path) -> QuestionSet:
        """Read a file in SQuAD's layout."""
        passages: list[str] = []
        questions: list[AskedQuestion] = []
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = tuple(answer["text"] for answer in asked["answers"])
                    questions.append(AskedQuestion(asked["question"], len(passages), answers))
                passages.append(paragraph["context"])
        return cls(tuple(passages), tuple(questions))


@contextmanager
def ingested(passages: Sequence[str]) -> Iterator[Library]:
    """A library with every passage in a file of its own, named by its number, through the real pipeline."""
    with TemporaryDirectory() as folder:
        documents = Path(folder) / "documents"
        documents.mkdir()
        for number, passage in enumerate(passages):
            (documents / f"{number}.txt").write_text(passage, encoding="utf-8")
        with Library.open(Path(folder) / "library", create=True) as library:
            ingest_paths([documents], library)
            yield library


def passage_number(source: str) -> int:
    """The number of the passage that a file of ``ingested`` holds."""
    return int(Path(source).stem)


def sources_for(retriever: LibraryRetriever, question: str) -> list[tuple[SourceText, int]]:
    """What a chain puts before a reader for ``question``: the sources, and the number of each one's passage."""
    laid_out = lay_out(excerpts_of(retriever.invoke(question)))
    return [
        (SourceText(source.number, source.excerpt.text), passage_number(source.excerpt.source)) for source in laid_out
    ]
