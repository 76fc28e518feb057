"""A passage as a LangChain ``Document``: the one place where the metadata's names are decided."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from langchain_core.documents import Document

from chinese_alpaca_rag.labels import document_label
from chinese_alpaca_rag.library.records import Passage


def passage_document(passage: Passage, score: float | None = None) -> Document:
    """The passage's text with its place; ``score`` (higher is better) only where it was searched for.

    ``start`` and ``end`` are offsets in code points into the page's stored text, ``position`` counts
    passages from 0 within the file, ``page`` from 1. The document's ``id`` is a UUID made of the place alone: the same
    for the same place in every library and without one, so that a vector store replaces what it holds already.
    ``document`` labels what is computed from the passage: the content of one file in one library
    (``labels.document_label``), outside of a library only the file's path.
    """
    metadata: dict[str, Any] = {
        "source": passage.source,
        "title": passage.title,
        "page": passage.page,
        "page_label": passage.page_label,
        "page_kind": passage.page_kind,
        "start": passage.start,
        "end": passage.end,
        "heading": passage.heading,
        "position": passage.position,
        "passage_id": passage.id,
        "document": _label(passage),
    }
    if score is not None:
        metadata["score"] = score
    place = f"{passage.source}#page={passage.page}&start={passage.start}&end={passage.end}".encode(
        "utf-8", "backslashreplace"
    )
    return Document(
        id=str(uuid5(NAMESPACE_URL, place.decode())),
        page_content=passage.text,
        metadata=metadata,
    )


def _label(passage: Passage) -> str:
    if not passage.library:
        return passage.source
    return document_label(passage.library, passage.source, passage.sha256)
