"""The parsers, one row a format: where each is, how it is called, and its version.

A parser takes the file's bytes and its name without the suffix and gives a ``ParsedDocument``; it raises
DocumentRefusedError for what it cannot read. All but the plain ones run in a child process with limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from chinese_alpaca_rag.library.records import ParsedDocument


@dataclass(frozen=True)
class Parser:
    """One format's parser: ``module`` (of this package) and ``function``, and what it takes beside bytes and name.

    ``version`` is raised whenever the parser gives another text for the same file, so that libraries read those
    files again. ``label`` names the format to people; ``plain`` parsers are simple enough to run in this process;
    ``internal`` ones are no format of a file's but a step of reading one.
    """

    format: str
    module: str
    function: str
    label: str
    version: int = 1
    takes_encoding: bool = False
    takes_password: bool = False
    takes_pages: bool = False
    plain: bool = False
    internal: bool = False

    def read(
        self, data: bytes, name: str, *, encoding: str | None, password: str | None, pages: Sequence[int] = ()
    ) -> ParsedDocument:
        """Parse here, in this process; ``pages`` are the numbers of those wanted, where the parser takes them."""
        function: Callable[..., ParsedDocument] = getattr(
            import_module(f"chinese_alpaca_rag.ingest.{self.module}"), self.function
        )
        options: dict[str, Any] = {}
        if self.takes_encoding:
            options["encoding"] = encoding
        if self.takes_password:
            options["password"] = password
        if self.takes_pages:
            options["pages"] = tuple(pages)
        return function(data, name, **options)


_ROWS = (
    # LibreOffice converts these before the parser of the new format reads them.
    Parser("doc", "word", "read_word", "Word", version=2),
    Parser("xls", "sheets", "read_sheets", "Excel", version=2),
    Parser("ppt", "slides", "read_slides", "PowerPoint", version=2),
    Parser("encrypted", "encrypted_office", "read_encrypted", "Office", takes_password=True, internal=True),
    Parser("pdf-with-pictures", "pdf", "read_pictured_pdf", "PDF", takes_password=True, internal=True),
    Parser("scans", "scans", "read_scans", "PDF", takes_password=True, takes_pages=True, internal=True),
    Parser("text", "plain_text", "read_text", "TXT", version=2, takes_encoding=True, plain=True),
    Parser("markdown", "plain_text", "read_markdown", "Markdown", version=2, takes_encoding=True, plain=True),
    Parser("csv", "plain_text", "read_csv", "CSV", version=2, takes_encoding=True, plain=True),
    Parser("json", "json_text", "read_json", "JSON", takes_encoding=True),
    Parser("jsonl", "json_text", "read_json_lines", "JSON", takes_encoding=True),
    Parser("subtitles", "subtitles", "read_subtitles", "SRT", takes_encoding=True),
    Parser("eml", "mail", "read_mail", "EML", takes_encoding=True),
    Parser("rtf", "rtf", "read_rtf", "RTF"),
    Parser("odt", "opendocument", "read_opendocument", "OpenDocument"),
    Parser("ods", "opendocument", "read_opendocument", "OpenDocument"),
    Parser("odp", "opendocument", "read_opendocument", "OpenDocument"),
    Parser("epub", "epub", "read_epub", "EPUB"),
    Parser("xml", "xml_text", "read_xml", "XML", takes_encoding=True),
    Parser("msg", "outlook", "read_outlook", "Outlook"),
    Parser("html", "markup", "read_html", "HTML", version=2, takes_encoding=True),
    Parser("pdf", "pdf", "read_pdf", "PDF", version=2, takes_password=True),
    Parser("docx", "word", "read_word", "Word", version=2),
    Parser("xlsx", "sheets", "read_sheets", "Excel", version=2),
    Parser("pptx", "slides", "read_slides", "PowerPoint", version=2),
)

PARSERS: Mapping[str, Parser] = MappingProxyType({row.format: row for row in _ROWS})
