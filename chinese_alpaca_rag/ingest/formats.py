"""Which format a file is of: by its first bytes where they say it, else by the end of its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

from chinese_alpaca_rag.ingest.archive import office_format
from chinese_alpaca_rag.ingest.epub import is_epub
from chinese_alpaca_rag.ingest.legacy import LEGACY, legacy_format
from chinese_alpaca_rag.ingest.opendocument import opendocument_format
from chinese_alpaca_rag.ingest.refusals import damaged, unknown_format, unsupported

#: The formats that can be read, by the suffix of a file's name in lower case.
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".txt", ".text", ".log"), "text"),
        **dict.fromkeys((".md", ".markdown", ".mdown"), "markdown"),
        **dict.fromkeys((".csv", ".tsv"), "csv"),
        **dict.fromkeys((".html", ".htm", ".xhtml", ".shtml"), "html"),
        ".json": "json",
        **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
        **dict.fromkeys((".srt", ".vtt"), "subtitles"),
        ".eml": "eml",
        ".msg": "msg",
        ".rtf": "rtf",
        ".epub": "epub",
        ".xml": "xml",
        **dict.fromkeys((".odt", ".ott"), "odt"),
        **dict.fromkeys((".ods", ".ots"), "ods"),
        **dict.fromkeys((".odp", ".otp"), "odp"),
        ".pdf": "pdf",
        **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), "docx"),
        **dict.fromkeys((".doc", ".dot", ".wps"), "doc"),
        **dict.fromkeys((".xls", ".et"), "xls"),
        **dict.fromkeys((".ppt", ".pps", ".dps"), "ppt"),
        **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".xltm"), "xlsx"),
        **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"), "pptx"),
    }
)

#: Formats that are documents and cannot be read, with their names and what to save them as.
CONVERTIBLE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        ".pages": ("Pages", ".docx"),
        ".xlsb": ("Excel (.xlsb)", ".xlsx"),
        ".numbers": ("Numbers", ".xlsx"),
        ".key": ("Keynote", ".pptx"),
        ".mobi": ("Mobipocket", ".html"),
        ".chm": ("CHM", ".html"),
        ".mht": ("MHTML", ".html"),
        ".mhtml": ("MHTML", ".html"),
        ".ofd": ("OFD", ".pdf"),
        ".caj": ("CAJ", ".pdf"),
        ".djvu": ("DjVu", ".pdf"),
    }
)

# Text formats whose content may look like that of another: the name decides.
_BY_NAME = frozenset(("text", "markdown", "csv", "json", "jsonl", "subtitles", "eml"))
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_MESSAGE_STREAM = "__properties_version1.0".encode("utf-16-le")
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|table|meta)\b",
    re.IGNORECASE | re.DOTALL,
)
_NAMES = {
    **{"pdf": "PDF", "docx": "Word", "xlsx": "Excel", "pptx": "PowerPoint"},
    "epub": "EPUB",
    "msg": "Outlook",
    **dict.fromkeys(("odt", "ods", "odp"), "OpenDocument"),
}


def known_suffixes() -> str:
    """The suffixes that can be read, for a message."""
    return " ".join(SUFFIXES)


def detect_format(data: bytes, filename: str) -> str:  # noqa: PLR0911 - a list of cases
    """The format to read ``data`` as: a value of :data:`SUFFIXES`.

    DocumentRefusedError for formats that cannot be read, for encrypted office files, and where the name
    promises a format that the bytes are not of.
    """
    suffix = PurePath(filename).suffix.lower()
    named = SUFFIXES.get(suffix, "")
    head = data[:4096]
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"  # whatever its name: many a .doc is one
    if head.startswith(b"PK\x03\x04"):
        return _archive_format(data, suffix, named)
    if head.startswith(_OLE):
        if _MESSAGE_STREAM in data:
            return "msg"
        return _compound_format(data, named)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if named in _BY_NAME:
        return named
    if _HTML.match(text) and (named or suffix in CONVERTIBLE or not suffix):
        return "html"
    if suffix in (".xls", ".et") and _is_separated(head):
        return "csv"  # what many systems export under the name of a spreadsheet
    if named in LEGACY:
        raise damaged(LEGACY[named][0])
    if named in _NAMES and named != "pdf":
        raise damaged(_NAMES[named])
    if named:
        return named
    return _unnamed_format(suffix)


def _is_separated(head: bytes) -> bool:
    return (b"\t" in head or b"," in head) and b"\0" not in head and not head.lstrip().startswith(b"<")


def _unnamed_format(suffix: str) -> str:
    """Text without a suffix is text."""
    if suffix in CONVERTIBLE:
        raise unsupported(*CONVERTIBLE[suffix])
    if suffix:
        raise unknown_format(suffix)
    return "text"


def _archive_format(data: bytes, suffix: str, named: str) -> str:
    found = office_format(data) or opendocument_format(data)
    if found:
        return found
    if is_epub(data):
        return "epub"
    if named in _NAMES:
        raise damaged(_NAMES[named])
    if suffix in CONVERTIBLE:
        raise unsupported(*CONVERTIBLE[suffix])
    raise unknown_format(suffix or ".zip")


def _compound_format(data: bytes, named: str) -> str:
    """The compound files of old office programs; new ones put their encrypted documents into them as well."""
    if _ENCRYPTED_PACKAGE in data:
        return "encrypted"
    found = legacy_format(data)
    if found:
        return found
    if named in _NAMES or named in LEGACY:
        raise damaged(_NAMES.get(named) or LEGACY[named][0])
    raise unsupported("Office 97-2003", ".docx / .xlsx / .pptx")
