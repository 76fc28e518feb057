"""Splitting for LangChain programs: the library's own way of cutting text, with a text splitter's methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document

from chinese_alpaca_rag.ingest.headings import HeadingPath, find_headings
from chinese_alpaca_rag.ingest.splitting import DEFAULT_SIZE, check_size, split_page
from chinese_alpaca_rag.library.records import Page, PassageSpan


class ChineseTextSplitter(BaseDocumentTransformer):
    """Splits LangChain documents at the ends of Chinese and English sentences.

    It has the methods of LangChain's text splitters. Lengths are characters; ``start_index`` in the metadata
    is exact: ``content == text[start_index : start_index + len(content)]``.
    """

    def __init__(
        self,
        chunk_size: int = DEFAULT_SIZE,
        chunk_overlap: int = 0,
        *,
        add_start_index: bool = True,
        marked: bool = True,
    ) -> None:
        check_size(chunk_size, chunk_overlap)
        self.chunk_size = chunk_size
        self.chunk_overlap = chunk_overlap
        self.add_start_index = add_start_index
        self.marked = marked

    def split_text(self, text: str) -> list[str]:
        """The passages of ``text``."""
        return [text[span.start : span.end] for span in self._spans(text)]

    def create_documents(
        self, texts: Sequence[str], metadatas: Sequence[dict[str, Any]] | None = None
    ) -> list[Document]:
        """A document for each passage of each text, with a copy of that text's metadata."""
        documents: list[Document] = []
        for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True):
            for span in self._spans(text):
                own = {**metadata, **({"start_index": span.start} if self.add_start_index else {})}
                if span.heading:
                    own.setdefault("heading", span.heading)
                documents.append(Document(page_content=text[span.start : span.end], metadata=own))
        return documents

    def split_documents(self, documents: Iterable[Document]) -> list[Document]:
        """Each document split, its metadata kept."""
        whole = list(documents)
        return self.create_documents([one.page_content for one in whole], [one.metadata for one in whole])

    def transform_documents(self, documents: Sequence[Document], **_: Any) -> Sequence[Document]:
        """The same as :meth:`split_documents`, under the name that LangChain's pipelines call."""
        return self.split_documents(documents)

    def _spans(self, text: str) -> list[PassageSpan]:
        headings = find_headings(text, marked=self.marked)
        return list(split_page(Page(1, text), headings, HeadingPath(), self.chunk_size, self.chunk_overlap))
