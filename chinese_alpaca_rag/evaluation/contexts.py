"""A library for a while, made of the texts that questions were asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from chinese_alpaca_rag.evaluation.questions import JudgedQuestion
from chinese_alpaca_rag.ingest.pipeline import OutcomeCallback, ingest_paths
from chinese_alpaca_rag.library.store import Library


def contexts_of(questions: Sequence[JudgedQuestion]) -> tuple[str, ...]:
    """The contexts, each once, in their order."""
    return tuple(dict.fromkeys(question.context for question in questions if question.context))


def judged_by_context(questions: Sequence[JudgedQuestion]) -> tuple[JudgedQuestion, ...]:
    """The questions without the files they are about, which a library of contexts does not hold."""
    return tuple(replace(question, sources=(), pages=()) for question in questions)


@contextmanager
def library_of(contexts: Sequence[str], *, on_outcome: OutcomeCallback | None = None) -> Iterator[Library]:
    """A library with each context ingested as a file of its own, read as any file is; gone from disk afterwards.

    A file's name is its context's number, from 1: a title that says nothing of what is in it.
    """
    with TemporaryDirectory(prefix="alpaca-rag-contexts-") as folder:
        documents = Path(folder) / "documents"
        documents.mkdir()
        for number, context in enumerate(contexts, start=1):
            (documents / f"{number:06}.txt").write_text(context, encoding="utf-8")
        with Library.open(Path(folder) / "library", create=True) as library:
            ingest_paths([documents], library, encoding="utf-8", on_outcome=on_outcome)
            yield library
