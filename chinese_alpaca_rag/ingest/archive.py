"""The ZIP archive that a Word, Excel or PowerPoint file is, looked over before any parser opens it.

A few kilobytes can unfold to gigabytes, and XML can declare entities that swallow text or memory. Neither
occurs in files that office programs write, so either refuses the file.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator

from chinese_alpaca_rag.ingest.refusals import damaged, encrypted, too_large
from chinese_alpaca_rag.language import Words

_MOST_ENTRIES = 20_000
_LARGEST_TOTAL = 1 << 30  # bytes, unfolded
_LARGEST_XML = 400 << 20  # bytes, all XML parts unfolded
_HIGHEST_RATIO = 300
_RATIO_FROM = 64 << 20  # bytes, unfolded; smaller archives may be as dense as they like

# "Strict" files use other names for the same XML; the parsers know the common ("transitional") ones.
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/([A-Za-z]+)/")
_PLAIN_TYPES = (
    (
        re.compile(
            rb"application/vnd\.(?:ms-word\.(?:document\.macroEnabled|template\.macroEnabledTemplate)"
            rb"|openxmlformats-officedocument\.wordprocessingml\.template)\.main\+xml"
        ),
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
    ),
    (
        re.compile(
            rb"application/vnd\.(?:ms-powerpoint\.(?:presentation|slideshow|template)\.macroEnabled"
            rb"|openxmlformats-officedocument\.presentationml\.(?:slideshow|template))\.main\+xml"
        ),
        b"application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml",
    ),
)

# The folder of the main part says what the archive is.
_FOLDERS = (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx"))


def office_format(data: bytes) -> str:
    """The office format by the parts inside ("docx", "xlsx", "pptx"), or "" for another archive or none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    if "[Content_Types].xml" not in names:
        return ""
    return next((name for folder, name in _FOLDERS if any(part.lower().startswith(folder) for part in names)), "")


def checked_archive(data: bytes, format_name: str, *, markup: bool = False) -> zipfile.ZipFile:
    """The archive, once its size, its compression and its XML have been found harmless.

    ``markup`` lets XML state a document type, as the pages of books do; none may define entities.

    DocumentRefusedError otherwise, and for an archive that is damaged or encrypted.
    """
    archive = sized_archive(data, format_name)
    try:
        for name, content in _xml_parts(archive):
            if b"<!ENTITY" in content or (not markup and b"<!DOCTYPE" in content):
                raise damaged(format_name, f"{name} declares a document type")
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise damaged(format_name, str(error)) from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "bz2", "struct"):
            raise damaged(format_name, str(error)) from None
        raise
    return archive


def sized_archive(data: bytes, format_name: str) -> zipfile.ZipFile:
    """The archive, once its sizes have been found harmless; its parts are checked when they are read (``opc``).

    DocumentRefusedError otherwise, and for an archive that is damaged or encrypted.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        _check_sizes(archive, len(data), format_name)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise damaged(format_name, str(error)) from None
    return archive


def read_part(archive: zipfile.ZipFile, name: str, format_name: str) -> bytes:
    """A part's bytes; DocumentRefusedError where they are damaged, or are XML that declares a document type."""
    try:
        content = archive.read(name)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise damaged(format_name, str(error)) from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "lzma", "bz2", "struct"):
            raise damaged(format_name, str(error)) from None
        raise
    if not _is_xml(name):
        return content
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = content.decode("utf-16", errors="replace").encode()
        content = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", content)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise damaged(format_name, f"{name} declares a document type")
    return transitional_names(content)


def transitional(archive: zipfile.ZipFile, data: bytes) -> bytes:
    """``data``, or the same file as a plain document in transitional names.

    Strict files, templates, slide shows and files with macros differ from plain documents in names only, and
    the parsers refuse them for it.
    """
    strict = any(_STRICT.search(content) for name, content in _xml_parts(archive) if name.endswith(".rels"))
    types = archive.read("[Content_Types].xml")
    plain_types = types
    for pattern, plain in _PLAIN_TYPES:
        plain_types = pattern.sub(plain, plain_types)
    if not strict and types == plain_types:
        return data
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in archive.infolist():
            content = plain_types if entry.filename == "[Content_Types].xml" else archive.read(entry)
            if strict and _is_xml(entry.filename):
                content = _STRICT.sub(rb"http://schemas.openxmlformats.org/\1/2006/", content)
            copy.writestr(entry.filename, content)
    return written.getvalue()


def transitional_names(content: bytes) -> bytes:
    """XML of a "strict" file in the common names; other XML as it is."""
    if b"purl.oclc.org/ooxml/" not in content:
        return content
    return _STRICT.sub(rb"http://schemas.openxmlformats.org/\1/2006/", content)


def _check_sizes(archive: zipfile.ZipFile, size: int, format_name: str) -> None:
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise too_large(Words(zh="压缩包内文件数", en="The number of parts inside"), len(entries), _MOST_ENTRIES)
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise encrypted(format_name)
    total = sum(entry.file_size for entry in entries)
    unfolded = Words(zh="解压后的大小（字节）", en="The unfolded size (bytes)")
    limit = _LARGEST_TOTAL if total < _RATIO_FROM else min(_LARGEST_TOTAL, max(_RATIO_FROM, size * _HIGHEST_RATIO))
    if total > limit:
        raise too_large(unfolded, total, limit)
    xml = sum(entry.file_size for entry in entries if _is_xml(entry.filename))
    if xml > _LARGEST_XML:
        raise too_large(unfolded, xml, _LARGEST_XML)


def _xml_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Each XML part; reading it also proves its checksum, and that it is no larger than declared."""
    for entry in archive.infolist():
        if _is_xml(entry.filename):
            content = archive.read(entry)
            if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                content = content.decode("utf-16", errors="replace").encode()
            yield entry.filename, content


def _is_xml(name: str) -> bool:
    return name.lower().endswith((".xml", ".rels", ".vml"))
