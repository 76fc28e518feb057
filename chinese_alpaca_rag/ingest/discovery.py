"""Which files the given paths mean."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from chinese_alpaca_rag.errors import NoDocumentsError
from chinese_alpaca_rag.ingest.formats import CONVERTIBLE, SUFFIXES, known_suffixes
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.database import FILE_NAME
from chinese_alpaca_rag.library.lock import LOCK_NAME

# What systems and programs leave in folders.
_UNFINISHED = (".tmp", ".crdownload", ".part", ".download")
_SYSTEM_NAMES = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
# A library may stand inside the folder that it is made from.
_LIBRARY_NAMES = frozenset((FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}-journal", LOCK_NAME))


def find_documents(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` name or hold, absolute and in sorted order, each once.

    Folders are searched throughout; hidden files, lock files, unfinished downloads and
    a library's own files in them are passed over,
    all other files are in the list, whatever their format: those that cannot be read are to be refused by name.
    So is a folder that may not be looked into. NoDocumentsError for a path that does not exist, and when
    nothing at all can be read.
    """
    files: dict[str, Path] = {}
    named: set[Path] = set()
    for path in paths:
        place = absolute_path(path)
        if not place.exists():
            raise _missing(path)
        if place.is_dir():
            found: Iterable[Path] = _walk(place)
        else:
            found = (place,)
            named.add(place)
        for file in found:
            # The same file by way of two folders or links is one document, under its own name if that is among them.
            real = os.path.realpath(file)
            if real not in files or str(file) == real:
                files[real] = file
    documents = sorted(files.values())
    if not any(file in named or _is_document(file) for file in documents):
        raise _nothing(paths)
    return documents


def absolute_path(path: Path | str) -> Path:
    """``path`` from the root, without "..", links in it left as they are: the name by which a library knows a file."""
    return Path(os.path.normpath(Path(path).absolute()))


def _walk(folder: Path) -> Iterator[Path]:
    """The files below ``folder``. Every real folder is searched once, by way of a link only if there is no other."""
    seen: set[str] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        current = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name, reverse=True)
        except OSError:
            yield current  # reading it as a file will say why
            continue
        for entry in entries:
            if _is_passed_over(entry.name):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            elif entry.is_file():
                yield Path(entry.path)


def _is_document(file: Path) -> bool:
    suffix = file.suffix.lower()
    return suffix in SUFFIXES or suffix in CONVERTIBLE


def _is_passed_over(name: str) -> bool:
    lower = name.lower()
    return name.startswith((".", "~$")) or lower.endswith(_UNFINISHED) or lower in _SYSTEM_NAMES | _LIBRARY_NAMES


def _missing(path: Path) -> NoDocumentsError:
    return NoDocumentsError(
        Words(zh=f"找不到 {path}。", en=f"There is no {path}."),
        hint=Words(zh="请检查路径是否正确。", en="Check the path."),
    )


def _nothing(paths: Sequence[Path]) -> NoDocumentsError:
    listed = ", ".join(map(str, paths))
    return NoDocumentsError(
        Words(zh=f"在 {listed} 中没有找到可以读取的文档。", en=f"No document that can be read was found in {listed}."),
        hint=Words(zh=f"可以读取的格式：{known_suffixes()}。", en=f"Formats that can be read: {known_suffixes()}."),
    )
