"""EPUB: the parts of the spine in their order, one page each. After: EPUB 3.3, W3C Recommendation, 2023."""

from __future__ import annotations

import io
import posixpath
import zipfile
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.parsers import expat

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.archive import checked_archive
from chinese_alpaca_rag.ingest.markup import read_html
from chinese_alpaca_rag.ingest.refusals import damaged, encrypted, without_text
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Encrypted fonts are no hindrance; these two ways of hiding a font are all that ordinary books have there.
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_MARKUP_TYPES = frozenset(("application/xhtml+xml", "text/html", "application/x-dtbook+xml"))
_MOST_PARTS = 5_000
_LONGEST_LABEL = 60


@dataclass
class _Package:
    """What the package file says: items by id (path and type), the order of reading, the title."""

    items: dict[str, tuple[str, str]] = field(default_factory=dict)
    spine: list[str] = field(default_factory=list)
    title: str = ""


def is_epub(data: bytes) -> bool:
    """Whether an archive says of itself that it is a book, or has a book's container."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _CONTAINER in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read_epub(data: bytes, name: str) -> ParsedDocument:
    """A book; a page is a part of its spine, labelled with its first heading.

    ``missing`` names parts that the spine promises and the archive has not. DocumentRefusedError for a book under
    copy protection, damaged, or without text.
    """
    with checked_archive(data, "EPUB", markup=True) as archive:
        names = {entry.filename for entry in archive.infolist()}
        if _is_protected(archive, names):
            raise encrypted("EPUB")
        path = _package_path(archive, names)
        package = _read_package(archive.read(path), posixpath.dirname(path))
        pages, lost = _pages(archive, names, package)
    if not any(page.text for page in pages):
        raise without_text()
    return ParsedDocument(
        format="epub", title=own_title(package.title) or name, pages=tuple(pages), page_kind="page",
        missing=_missing(lost),
    )  # fmt: skip


def _pages(archive: zipfile.ZipFile, names: set[str], package: _Package) -> tuple[list[Page], list[str]]:
    pages: list[Page] = []
    lost: list[str] = []
    for identifier in package.spine[:_MOST_PARTS]:
        path, kind = package.items.get(identifier, ("", ""))
        if kind and kind not in _MARKUP_TYPES:
            lost.append(path)
            continue
        if path not in names:
            lost.append(path or identifier)
            continue
        try:
            part = read_html(archive.read(path), "")
        except DocumentRefusedError:
            continue  # a picture of the cover, a blank page
        text = part.pages[0].text
        heading = next((line.lstrip("# ") for line in text.split("\n") if line.startswith("#")), "")
        pages.append(Page(len(pages) + 1, text, heading[:_LONGEST_LABEL]))
    lost += package.spine[_MOST_PARTS:]
    return pages, lost


def _is_protected(archive: zipfile.ZipFile, names: set[str]) -> bool:
    if "META-INF/rights.xml" in names or "META-INF/sinf.xml" in names:
        return True
    if _ENCRYPTION not in names:
        return False
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(" ")[2] == "EncryptionMethod":
            found.append(attributes.get("Algorithm", ""))

    _parse(archive.read(_ENCRYPTION), start)
    return any(algorithm not in _FONT_ALGORITHMS for algorithm in found)


def _package_path(archive: zipfile.ZipFile, names: set[str]) -> str:
    paths: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(" ")[2] == "rootfile":
            paths.append(attributes.get("full-path", ""))

    if _CONTAINER in names:
        _parse(archive.read(_CONTAINER), start)
    path = next((path for path in paths if path in names), "") or next(
        (entry for entry in sorted(names) if entry.endswith(".opf")), ""
    )
    if not path:
        raise damaged("EPUB", "it has no package file")
    return path


def _read_package(xml: bytes, folder: str) -> _Package:
    package = _Package()
    inside = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal inside
        tag = name.rpartition(" ")[2]
        inside = tag == "title" and not package.title
        if tag == "item":
            path = posixpath.normpath(posixpath.join(folder, unquote(attributes.get("href", "").partition("#")[0])))
            package.items[attributes.get("id", "")] = (path, attributes.get("media-type", ""))
        elif tag == "itemref":
            package.spine.append(attributes.get("idref", ""))

    def text(characters: str) -> None:
        if inside:
            package.title += characters

    _parse(xml, start, text)
    package.spine = list(dict.fromkeys(package.spine))
    return package


def _parse(xml: bytes, start: object, text: object = None) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start  # type: ignore[assignment]
    parser.CharacterDataHandler = text  # type: ignore[assignment]
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise damaged("EPUB", str(error)) from None


def _missing(lost: list[str]) -> str:
    if not lost:
        return ""
    listed = ", ".join(lost[:10]) + ("…" if len(lost) > 10 else "")
    return str(
        Words(
            zh=f"书中有 {len(lost)} 个部分没有收入（不在文件里，或不是文字）：{listed}",
            en=f"{len(lost)} parts of the book are not read (not in the file, or no text): {listed}",
        )
    )
