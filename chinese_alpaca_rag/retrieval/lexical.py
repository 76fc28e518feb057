"""Passages of a library as a LangChain retriever: full-text search over characters, character pairs and words."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from chinese_alpaca_rag.errors import EmptyLibraryError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library


class LibraryRetriever(BaseRetriever):
    """The passages that answer a question best, best first.

    Give ``library_path``, a library's folder (opened for reading at the first question), or ``library``,
    one that is open already. ``paths`` (files or folders), ``tags`` (a file must have each), ``pages`` (first and
    last) and ``since`` and ``until`` (when a file was last changed) keep to a part of it, as in ``Scope``. What stands
    in quotation marks in a question is wanted to the letter: passages that hold it come first. Each document carries
    the metadata of ``library.documents.passage_document`` with its BM25 ``score``. EmptyLibraryError is raised where
    there is nothing to search, LibraryNotFoundError where there is no library.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    library_path: Path | None = None
    library: Library | None = Field(default=None, exclude=True, repr=False)
    k: int = Field(default=12, ge=1)
    paths: list[str] | None = None
    tags: list[str] = Field(default_factory=list)
    pages: tuple[int, int] | None = None
    since: datetime | None = None
    until: datetime | None = None

    _opened: Library | None = PrivateAttr(default=None)
    _guard: Any = PrivateAttr(default_factory=threading.Lock)

    @model_validator(mode="after")
    def _one_library(self) -> LibraryRetriever:
        if (self.library_path is None) == (self.library is None):
            raise ValueError("give either library_path or library")
        return self

    @property
    def scope(self) -> Scope:
        """The part of the library that is searched."""
        paths = None if self.paths is None else tuple(self.paths)
        return Scope(paths, tuple(self.tags), self.pages, self.since, self.until)

    def close(self) -> None:
        """Close the library if this retriever opened it."""
        with self._guard:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        library = self.opened()
        found = library.search(query, limit=self.k if k is None else k, scope=self.scope)
        if not found and library.passage_count() == 0:
            raise _empty(library.folder)
        return [passage_document(passage, score) for passage, score in found]

    def opened(self) -> Library:
        """The library that is searched, opened if it was not."""
        if self.library is not None:
            return self.library
        assert self.library_path is not None  # noqa: S101 - the validator saw to it
        with self._guard:
            if self._opened is None:
                self._opened = Library.open(self.library_path, readonly=True)
            return self._opened


def _empty(folder: Path) -> EmptyLibraryError:
    return EmptyLibraryError(
        Words(zh=f"知识库 {folder} 里还没有文档。", en=f"The library {folder} holds no document yet."),
        hint=Words(
            zh=f"先收录文档：alpaca-rag ingest 路径… --library {folder}",
            en=f"Add documents first: alpaca-rag ingest PATH… --library {folder}",
        ),
    )
