"""Bringing a library up to date with files on disk: read what is new or changed, skip the rest, report each.

One file is one transaction of the library; those that are gone from disk are taken out a hundred at a time. Whatever
interrupts a run, the files before are stored whole, and running it again does what is left.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError, NoDocumentsError
from chinese_alpaca_rag.ingest.decoding import codec_name
from chinese_alpaca_rag.ingest.discovery import absolute_path, find_documents
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.reading import LARGEST_FILE, PARSERS, read_bytes
from chinese_alpaca_rag.ingest.refusals import too_large, unreadable, unsettled
from chinese_alpaca_rag.ingest.splitting import SPLITTER_VERSION, split_document
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.care import erase_deleted
from chinese_alpaca_rag.library.records import FileRecord
from chinese_alpaca_rag.library.store import Library

__all__ = ["FileOutcome", "FileStatus", "find_documents", "ingest_paths", "parser_version"]

FileStatus = Literal["added", "updated", "unchanged", "moved", "removed", "refused", "partial"]

# Every removal has what was computed from the files looked for, wherever it is kept: not for each of thousands.
_REMOVED_AT_ONCE = 100
# A file that was written so shortly before it was read may have been written again without a new time.
_UNSETTLED_NS = 2_000_000_000
# A file that is being written is read again so many times, so many seconds apart.
_READINGS = 4
_READING_PAUSE = 0.25


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file. ``reason`` says why it was refused or what of it is missing, else is empty.

    ``confidence`` (0 to 1) is how sure ``encoding`` is; ``hidden`` says what no reader sees and was left out.
    """

    path: str
    status: FileStatus
    reason: str = ""
    encoding: str = ""
    pages: int = 0
    passages: int = 0
    confidence: float = 1.0
    hidden: str = ""


OutcomeCallback = Callable[[FileOutcome, int, int], None]


def parser_version(format_name: str) -> str:
    """What a library notes beside a file, so that files are read again once a better parser or splitter is there."""
    parser = PARSERS.get(format_name)
    return f"{format_name}-{parser.version if parser else 0} split-{SPLITTER_VERSION}"


def ingest_paths(
    paths: Sequence[Path],
    library: Library,
    *,
    prune: bool = False,
    encoding: str | None = None,
    password: str | None = None,
    tags: Sequence[str] = (),
    on_outcome: OutcomeCallback | None = None,
) -> list[FileOutcome]:
    """Bring ``library`` up to date with the files that ``paths`` name or hold; one outcome for each file.

    ``prune`` also takes out files below the given folders that are gone from disk. ``encoding`` overrules what
    is detected for text, Markdown, CSV and HTML; ``password`` opens the PDF files that need one. ``tags`` are put
    on every file that ``paths`` mean and that the library holds afterwards, unchanged ones included.
    ``on_outcome`` is called after each file with its outcome, the number of files done and their total.

    A file that cannot be read is an outcome ("refused", with the reason), never an exception; a version of it
    that the library holds already stays. NoDocumentsError and WrongUsageError concern the call as a whole.
    KeyboardInterrupt ends the run between two transactions.
    """
    vanished = _vanished(paths, library) if prune else []
    files = _files(paths, nothing_is_fine=bool(vanished))
    total = len(files) + len(vanished)
    outcomes: list[FileOutcome] = []

    def report(outcome: FileOutcome) -> None:
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome, len(outcomes), total)

    with ParserProcess() as parser:
        ingestion = _Ingestion(library, parser, None if encoding is None else codec_name(encoding), password)
        for file in files:
            report(ingestion.take_in(file))
    if tags:
        library.tag_files([str(file) for file in files if library.file(str(file)) is not None], add=tags)
    gone = [record for record in vanished if library.file(record.path) is not None]
    total -= len(vanished) - len(gone)  # found again under another name meanwhile
    for start in range(0, len(gone), _REMOVED_AT_ONCE):
        some = gone[start : start + _REMOVED_AT_ONCE]
        library.remove_files([record.path for record in some])
        for record in some:
            report(FileOutcome(record.path, "removed", encoding=record.encoding, pages=record.pages))
    if any(outcome.status in ("removed", "updated") for outcome in outcomes):
        erase_deleted(library)
    return outcomes


def _files(paths: Sequence[Path], *, nothing_is_fine: bool) -> list[Path]:
    """The files to look at; a folder that was emptied is no error when its files are to be taken out."""
    try:
        return find_documents(paths)
    except NoDocumentsError:
        if nothing_is_fine and all(path.exists() for path in paths):
            return []
        raise


def _vanished(paths: Sequence[Path], library: Library) -> list[FileRecord]:
    folders = [absolute_path(path) for path in paths]
    return [
        record
        for record in library.files()
        if any(Path(record.path).is_relative_to(folder) for folder in folders) and not os.path.lexists(record.path)
    ]


class _Ingestion:
    """One run over a library."""

    def __init__(
        self, library: Library, parser: ParserProcess, encoding: str | None, password: str | None = None
    ) -> None:
        self._library = library
        self._parser = parser
        self._encoding = encoding
        self._password = password

    def take_in(self, file: Path) -> FileOutcome:
        """Store ``file`` unless the library already holds it as it is."""
        path = str(file)
        known = self._library.file(path)
        try:
            return self._take_in(file, path, known)
        except (DocumentRefusedError, MissingExtraError) as error:
            return _refused(path, error, known)
        except OSError as error:
            return _refused(path, unreadable(error), known)

    def _take_in(self, file: Path, path: str, known: FileRecord | None) -> FileOutcome:
        state = file.stat()
        if known is not None and self._is_current(known) and _is_untouched(known, state):
            return _outcome(known, "unchanged")
        data, state = _settled(file)
        digest = hashlib.sha256(data).hexdigest()
        if known is not None and known.sha256 == digest and self._is_current(known):
            if known.modified_ns != state.st_mtime_ns:
                self._library.touch_file(path, modified_ns=state.st_mtime_ns)
            return _outcome(known, "unchanged")
        former = self._former_place(digest) if known is None else None
        if former is not None:
            self._library.move_file(former.path, path, modified_ns=state.st_mtime_ns)
            moved = self._library.file(path)
            if moved is not None and self._is_current(moved):
                return _outcome(moved, "moved")
        record = self._read(data, path, digest, state)
        if record.missing:
            return _outcome(record, "partial")
        if former is not None:
            return _outcome(record, "moved")
        return _outcome(record, "added" if known is None else "updated")

    def _read(self, data: bytes, path: str, digest: str, state: os.stat_result) -> FileRecord:
        document = read_bytes(
            data, Path(path).name, encoding=self._encoding, password=self._password, parser=self._parser
        )
        return self._library.put_file(
            path=path,
            sha256=digest,
            size=len(data),
            modified_ns=state.st_mtime_ns,
            parser=parser_version(document.format),
            document=document,
            spans=split_document(document),
        )

    def _is_current(self, record: FileRecord) -> bool:
        """Whether the stored text is what reading the same bytes would give now."""
        if self._encoding is not None and record.encoding and codec_name(record.encoding) != self._encoding:
            return False
        return record.parser == parser_version(record.format)

    def _former_place(self, digest: str) -> FileRecord | None:
        """A file with the same content whose path is gone from disk: this file, before it was moved."""
        for record in self._library.files_with_content(digest):
            if not os.path.lexists(record.path):
                return record
        return None


def _settled(file: Path) -> tuple[bytes, os.stat_result]:
    """The file's bytes, all of one state of it, and that state; DocumentRefusedError where it keeps changing."""
    for _ in range(_READINGS):
        with file.open("rb") as stream:
            before = os.fstat(stream.fileno())
            if before.st_size > LARGEST_FILE:
                raise too_large(Words(zh="文件大小（字节）", en="The file size (bytes)"), before.st_size, LARGEST_FILE)
            data = stream.read(LARGEST_FILE + 1)
            after = os.fstat(stream.fileno())
        if _mark(before) == _mark(after) and len(data) == after.st_size:
            return data, after
        time.sleep(_READING_PAUSE)
    raise unsettled()


def _mark(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def _is_untouched(record: FileRecord, state: os.stat_result) -> bool:
    """Whether size and time say that the file is the one that was read."""
    if (record.size, record.modified_ns) != (state.st_size, state.st_mtime_ns):
        return False
    try:
        read_at = datetime.fromisoformat(record.ingested_at).timestamp() * 1e9
    except ValueError:
        return False
    return state.st_mtime_ns < read_at - _UNSETTLED_NS


def _outcome(record: FileRecord, status: FileStatus) -> FileOutcome:
    return FileOutcome(
        record.path,
        status,
        record.missing,
        record.encoding,
        pages=record.pages,
        passages=record.passages,
        confidence=record.confidence,
        hidden=record.hidden,
    )


def _refused(path: str, error: DocumentRefusedError | MissingExtraError, known: FileRecord | None) -> FileOutcome:
    reason = f"{error.message} {error.hint}"
    if known is not None:
        date = known.ingested_at[:10]
        kept = Words(
            zh=f"知识库仍保留 {date} 收入的旧版本。",
            en=f"The library still holds the version of {date}.",
        )
        reason = f"{reason} {kept}"
    return FileOutcome(path, "refused", reason)
