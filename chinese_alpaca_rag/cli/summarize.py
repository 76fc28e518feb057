"""``alpaca-rag summarize``: a summary of files that need not be in the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chinese_alpaca_rag.cli.answering import follow, open_model, show_result
from chinese_alpaca_rag.cli.ingest import SOME_REFUSED
from chinese_alpaca_rag.cli.places import pages_of_documents, shown_path
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.settings import EXTRACTIVE

if TYPE_CHECKING:
    from langchain_core.documents import Document


Refusal = tuple[Path, DocumentRefusedError | MissingExtraError]


def summarize(session: Session, paths: Sequence[Path]) -> int:
    """Summarise the documents at ``paths``; those that cannot be read are named."""
    model = None if session.settings.model == EXTRACTIVE else open_model(session, keeping=False)
    documents, refused = _read(session, paths)
    from chinese_alpaca_rag.chains import create_summarize_chain

    chain = create_summarize_chain(
        model or open_model(session, keeping=False), window=session.settings.window, strategy=session.settings.strategy
    )
    finished = follow(chain.stream(documents), session.output)
    if session.output.as_json:
        content = finished.result.to_json()
        if refused:
            content["refused"] = [{"path": str(path), "reason": str(error.message)} for path, error in refused]
        session.output.document(content)
    else:
        show_result(session.output, finished, pages_of_documents(documents))
        for path, error in refused:
            told = Words(zh=f"没有读 {shown_path(path)}：", en=f"Not read: {shown_path(path)}: ")
            session.output.note(f"{told}{error.message}", "red")
    return SOME_REFUSED if refused else 0


def _read(session: Session, paths: Sequence[Path]) -> tuple[list[Document], list[Refusal]]:
    """The passages of every file, and the files that were refused; raises where none could be read."""
    from chinese_alpaca_rag.ingest.documents import load_documents
    from chinese_alpaca_rag.ingest.pipeline import find_documents

    documents: list[Document] = []
    refused: list[Refusal] = []
    for path in find_documents(paths):
        session.output.status(Words(zh=f"正在读 {shown_path(path)}", en=f"Reading {shown_path(path)}").text())
        try:
            documents += load_documents(path)
        except (DocumentRefusedError, MissingExtraError) as error:
            refused.append((path, error))
    if refused and not documents:
        raise _about_file(*refused[0])
    return documents, refused


def _about_file(path: Path, error: DocumentRefusedError | MissingExtraError) -> DocumentRefusedError:
    """The refusal with the file's name, which by itself it does not say."""
    place = shown_path(path)
    message = Words(zh=f"无法读取 {place}：{error.message.zh}", en=f"{place} cannot be read: {error.message.en}")
    return DocumentRefusedError(message, hint=error.hint)
