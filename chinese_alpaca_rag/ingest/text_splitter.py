"""Splitting for LangChain programs: the library's own way of cutting text, as a LangChain text splitter."""

from __future__ import annotations

import copy
from typing import Any

from langchain_core.documents import Document
from langchain_text_splitters.base import TextSplitter

from chinese_alpaca_rag.ingest.headings import HeadingPath, find_headings
from chinese_alpaca_rag.ingest.lengths import LengthFunction, Ruler
from chinese_alpaca_rag.ingest.splitting import DEFAULT_SIZE, check_size, split_page
from chinese_alpaca_rag.library.records import Page, PassageSpan


class ChineseTextSplitter(TextSplitter):
    """Splits text at the ends of Chinese and English sentences, below its headings.

    ``start_index`` in the metadata is exact: ``content == text[start_index : start_index + len(content)]``; ``heading``
    is the path of headings above. Lengths are characters, or what ``length_function`` counts: with a model's
    ``get_num_tokens`` no chunk, its overlap included, has more than ``chunk_size`` tokens. ``marked`` says that lines
    beginning with ``#`` are headings.
    """

    def __init__(
        self,
        chunk_size: int = DEFAULT_SIZE,
        chunk_overlap: int = 0,
        *,
        length_function: LengthFunction = len,
        add_start_index: bool = True,
        marked: bool = True,
    ) -> None:
        check_size(chunk_size, chunk_overlap)
        super().__init__(chunk_size, chunk_overlap, length_function=length_function, add_start_index=add_start_index)
        self.marked = marked

    def split_text(self, text: str) -> list[str]:
        """The passages of ``text``."""
        return [text[span.start : span.end] for span in self._spans(text)]

    def create_documents(self, texts: list[str], metadatas: list[dict[Any, Any]] | None = None) -> list[Document]:
        """A document for each passage of each text, with a copy of that text's metadata."""
        documents: list[Document] = []
        for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True):
            for span in self._spans(text):
                own = copy.deepcopy(metadata)
                if self._add_start_index:
                    own["start_index"] = span.start
                if span.heading:
                    own.setdefault("heading", span.heading)
                documents.append(Document(page_content=text[span.start : span.end], metadata=own))
        return documents

    def _spans(self, text: str) -> list[PassageSpan]:
        headings = find_headings(text, marked=self.marked)
        length = None if self._length_function is len else self._length_function
        ruler = Ruler(text, self._chunk_size, length)
        return list(split_page(Page(1, text), headings, HeadingPath(), ruler, self._chunk_overlap))
