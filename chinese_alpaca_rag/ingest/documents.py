"""Files as LangChain documents, without a library: one document a passage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.discovery import absolute_path, find_documents
from chinese_alpaca_rag.ingest.lengths import LengthFunction
from chinese_alpaca_rag.ingest.reading import read_document
from chinese_alpaca_rag.ingest.splitting import DEFAULT_SIZE, split_document
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.records import Page, ParsedDocument, Passage, PassageSpan

# A passage outside a library has no number there.
_NO_ID = 0


def load_documents(
    path: Path | str,
    *,
    encoding: str | None = None,
    password: str | None = None,
    size: int = DEFAULT_SIZE,
    overlap: int = 0,
    length: LengthFunction | None = None,
) -> list[Document]:
    """The passages of one file as LangChain documents, with the metadata that retrievers give.

    ``size`` and ``overlap`` are characters, or what ``length`` counts, such as a model's ``get_num_tokens``.
    ``passage_id`` is 0. Errors as for :func:`~chinese_alpaca_rag.ingest.reading.read_document`.
    """
    source = str(absolute_path(path))
    document = read_document(Path(source), encoding=encoding, password=password)
    pages = {page.number: page for page in document.pages}
    spans = split_document(document, size=size, overlap=overlap, length=length)
    return [
        passage_document(_passage(source, document, pages[span.page], span, position))
        for position, span in enumerate(spans)
    ]


class DocumentFileLoader(BaseLoader):
    """A LangChain loader over files and folders; ``lazy_load`` reads one file at a time.

    Options are those of :func:`load_documents`.
    """

    def __init__(
        self,
        paths: Path | str | Sequence[Path | str],
        *,
        encoding: str | None = None,
        password: str | None = None,
        size: int = DEFAULT_SIZE,
        overlap: int = 0,
        length: LengthFunction | None = None,
        on_refused: Callable[[Path, DocumentRefusedError], None] | None = None,
    ) -> None:
        given = [paths] if isinstance(paths, str | Path) else paths
        self.paths = [Path(path) for path in given]
        self.encoding = encoding
        self.password = password
        self.size = size
        self.overlap = overlap
        self.length = length
        self.on_refused = on_refused

    def lazy_load(self) -> Iterator[Document]:
        """The passages of each file in turn.

        A file that cannot be read is given to ``on_refused`` with the reason, or raises DocumentRefusedError
        where no such function was given.
        """
        for file in find_documents(self.paths):
            try:
                documents = load_documents(
                    file,
                    encoding=self.encoding,
                    password=self.password,
                    size=self.size,
                    overlap=self.overlap,
                    length=self.length,
                )
            except DocumentRefusedError as error:
                if self.on_refused is None:
                    raise
                self.on_refused(file, error)
                continue
            yield from documents


def _passage(source: str, document: ParsedDocument, page: Page, span: PassageSpan, position: int) -> Passage:
    return Passage(
        id=_NO_ID,
        file_id=_NO_ID,
        source=source,
        title=document.title,
        page_kind=document.page_kind,
        page=page.number,
        page_label=page.label,
        position=position,
        start=span.start,
        end=span.end,
        heading=span.heading,
        text=page.text[span.start : span.end],
    )
