"""One file to text: its bytes, its format, and the parser for it."""

from __future__ import annotations

import atexit
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath

from chinese_alpaca_rag.ingest.formats import SUFFIXES, detect_format
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.legacy import LEGACY, converted
from chinese_alpaca_rag.ingest.ocr import can_recognise
from chinese_alpaca_rag.ingest.parser_pool import Parsing
from chinese_alpaca_rag.ingest.parsers import PARSERS
from chinese_alpaca_rag.ingest.refusals import empty_file, too_large, unreadable
from chinese_alpaca_rag.ingest.scans import read_with_scans
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import ParsedDocument

__all__ = ["LARGEST_FILE", "PARSERS", "SUFFIXES", "read_bytes", "read_document", "shared_parser"]

LARGEST_FILE = 512 << 20  # bytes


@cache
def shared_parser() -> ParserProcess:
    """The parser process of this program, which starts with its first file and ends with the program."""
    parser = ParserProcess()
    atexit.register(parser.close)
    return parser


def read_document(
    path: Path, *, encoding: str | None = None, password: str | None = None, parser: Parsing | None = None
) -> ParsedDocument:
    """The text of one file, page by page.

    ``encoding`` overrules what is detected, for formats that do not carry their own. DocumentRefusedError says
    why a file cannot be read (unknown format, empty, encrypted, damaged, without text, or too much work);
    MissingExtraError that an optional package is needed for it; WrongUsageError that ``encoding`` is none.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise too_large(Words(zh="文件大小（字节）", en="The file size (bytes)"), size, LARGEST_FILE)
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(error) from None
    return read_bytes(data, path.name, encoding=encoding, password=password, parser=parser)


def read_bytes(
    data: bytes,
    filename: str,
    *,
    encoding: str | None = None,
    password: str | None = None,
    parser: Parsing | None = None,
) -> ParsedDocument:
    """The text of a file that is already in memory; ``filename`` gives the suffix and the title. Errors as above."""
    if not data:
        raise empty_file()
    format_name = detect_format(data, filename)
    name = PurePath(filename).stem
    if PARSERS[format_name].plain:
        return PARSERS[format_name].read(data, name, encoding=encoding, password=password)
    parsing = parser or shared_parser()
    if format_name in LEGACY:
        _, target = LEGACY[format_name]
        seconds = parsing.limits.seconds_for(len(data))
        data = converted(data, format_name, seconds, lambda: parsing.is_abandoned)
        return replace(parsing.parse(data, target, name), format=format_name)
    if format_name == "pdf" and can_recognise():
        return read_with_scans(parsing, data, name, password=password)
    return parsing.parse(data, format_name, name, encoding=encoding, password=password)
