"""Bringing a library up to date with files on disk: read what is new or changed, skip the rest, report each.

One file is one transaction of the library; those that are gone from disk are taken out a hundred at a time. Whatever
interrupts a run, the files before are stored whole, and running it again does what is left.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError, NoDocumentsError
from chinese_alpaca_rag.ingest.decoding import codec_name
from chinese_alpaca_rag.ingest.discovery import absolute_path, find_documents
from chinese_alpaca_rag.ingest.ocr import OCR_VERSION, can_recognise
from chinese_alpaca_rag.ingest.parser_pool import ParserPool, default_workers
from chinese_alpaca_rag.ingest.reading import LARGEST_FILE, PARSERS, read_bytes
from chinese_alpaca_rag.ingest.refusals import too_large, unreadable, unsettled
from chinese_alpaca_rag.ingest.splitting import SPLITTER_VERSION, split_document
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.care import erase_deleted, is_erasing_due
from chinese_alpaca_rag.library.records import CopyRecord, FileRecord, ParsedDocument
from chinese_alpaca_rag.library.store import Library

__all__ = ["FileOutcome", "FileStatus", "find_documents", "ingest_paths", "parser_version"]

FileStatus = Literal["added", "updated", "unchanged", "moved", "duplicate", "removed", "refused", "partial"]

# Every removal has what was computed from the files looked for, wherever it is kept: not for each of thousands.
_REMOVED_AT_ONCE = 100
# A file that was written so shortly before it was read may have been written again without a new time.
_UNSETTLED_NS = 2_000_000_000
# What a library notes beside a PDF that was read where pictures can be read.
_WITH_OCR = f" ocr-{OCR_VERSION}"
# A file that is being written is read again so many times, so many seconds apart.
_READINGS = 4
_READING_PAUSE = 0.25
_MOST_WAITING = 256 << 20  # bytes of files that have been read and wait to be stored


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file. ``reason`` says why it was refused or what of it is missing, else is empty.

    A "duplicate" holds the bytes of another file, which ``reason`` names; the library stores them once.
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
    ocr = _WITH_OCR if format_name == "pdf" and can_recognise() else ""
    return f"{format_name}-{parser.version if parser else 0} split-{SPLITTER_VERSION}{ocr}"


def ingest_paths(
    paths: Sequence[Path],
    library: Library,
    *,
    prune: bool = False,
    encoding: str | None = None,
    password: str | None = None,
    tags: Sequence[str] = (),
    workers: int | None = None,
    on_outcome: OutcomeCallback | None = None,
) -> list[FileOutcome]:
    """Bring ``library`` up to date with the files that ``paths`` name or hold; one outcome for each file.

    ``prune`` also takes out files below the given folders that are gone from disk. ``encoding`` overrules what
    is detected for text, Markdown, CSV and HTML; ``password`` opens the PDF files that need one. ``tags`` are put
    on every file that ``paths`` mean and that the library holds afterwards, unchanged ones included.
    ``workers`` files are parsed at once (by default as many as there are processors, at most MOST_WORKERS); one at
    a time is stored, in their order. ``on_outcome`` is called after each file with its outcome, the number of files
    done and their total.

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

    codec = None if encoding is None else codec_name(encoding)
    pool = ParserPool(workers or default_workers())
    with _Readers(pool) as readers:
        ingestion = _Ingestion(library, readers, codec, password)
        for file in files:
            ingestion.look_at(file)
            while ingestion.is_full:
                report(ingestion.next_outcome())
        while ingestion.pending:
            report(ingestion.next_outcome())
    if tags:
        library.tag_files(list(dict.fromkeys(_stored_under(library, files))), add=tags)
    gone = [path for path in vanished if library.file(path) is not None or library.copy(path) is not None]
    total -= len(vanished) - len(gone)  # found again under another name meanwhile
    for start in range(0, len(gone), _REMOVED_AT_ONCE):
        some = gone[start : start + _REMOVED_AT_ONCE]
        library.remove_files(some)
        for path in some:
            report(FileOutcome(path, "removed"))
    if is_erasing_due(library):
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


def _vanished(paths: Sequence[Path], library: Library) -> list[str]:
    """The paths below the given ones that the library holds and the disk does not any more, copies first."""
    folders = [absolute_path(path) for path in paths]
    held = [*(copy.path for copy in library.copies()), *(record.path for record in library.files())]
    return [
        path
        for path in held
        if any(Path(path).is_relative_to(folder) for folder in folders) and not os.path.lexists(path)
    ]


def _stored_under(library: Library, files: Sequence[Path]) -> Iterator[str]:
    """The paths under which the library stores what is in ``files``."""
    for file in files:
        record = library.file(str(file))
        copy = library.copy(str(file)) if record is None else None
        if record is not None:
            yield record.path
        elif copy is not None:
            yield copy.file.path


class _Readers:
    """Threads that read files through a pool of processes; left in haste, they stop in the middle of their files."""

    def __init__(self, pool: ParserPool) -> None:
        self.pool = pool
        self.threads = ThreadPoolExecutor(pool.workers, thread_name_prefix="ingest")

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.pool.abandon()
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.pool.close()


@dataclass
class _Task:
    """A file on its way: its outcome, or what is needed to store it once it has been read."""

    path: str
    known: FileRecord | None
    outcome: FileOutcome | None = None
    document: Future[ParsedDocument] | None = None
    state: os.stat_result | None = None
    size: int = 0
    digest: str = ""
    moved: bool = False


class _Ingestion:
    """One run over a library: files are looked at in order, read side by side, and stored in order."""

    def __init__(self, library: Library, readers: _Readers, encoding: str | None, password: str | None = None) -> None:
        self._library = library
        self._readers = readers
        self._encoding = encoding
        self._password = password
        self.pending: deque[_Task] = deque()

    @property
    def is_full(self) -> bool:
        """Whether enough files wait for their turn to be stored."""
        waiting = sum(task.size for task in self.pending if task.document is not None)
        return len(self.pending) > 2 * self._readers.pool.workers or waiting > _MOST_WAITING

    def look_at(self, file: Path) -> None:
        """Find out whether ``file`` has to be read, and if so have it read."""
        path = str(file)
        task = _Task(path, self._library.file(path))
        self.pending.append(task)
        try:
            task.outcome = self._look_at(file, task)
        except (DocumentRefusedError, MissingExtraError) as error:
            task.outcome = _refused(path, error, task.known)
        except OSError as error:
            task.outcome = _refused(path, unreadable(error), task.known)

    def next_outcome(self) -> FileOutcome:
        """The outcome of the file that was looked at first, once it is stored."""
        task = self.pending.popleft()
        if task.outcome is not None:
            return task.outcome
        try:
            return self._store(task)
        except (DocumentRefusedError, MissingExtraError) as error:
            return _refused(task.path, error, task.known)

    def _look_at(self, file: Path, task: _Task) -> FileOutcome | None:
        path, known = task.path, task.known
        state = file.stat()
        if known is not None and self._is_current(known) and _is_untouched(known, known.ingested_at, state):
            return _outcome(known, "unchanged")
        copy = self._library.copy(path) if known is None else None
        if copy is not None and self._is_current(copy.file) and _is_untouched(copy, copy.noted_at, state):
            return _duplicate(copy.file, path, "unchanged")
        data, state = _settled(file)
        task.digest, task.state, task.size = hashlib.sha256(data).hexdigest(), state, len(data)
        if known is not None and known.sha256 == task.digest and self._is_current(known):
            if known.modified_ns != state.st_mtime_ns:
                self._library.touch_file(path, modified_ns=state.st_mtime_ns)
            return _outcome(known, "unchanged")
        if known is None or known.sha256 != task.digest:
            twin = self._twin(task)
            if twin is not None and os.path.lexists(twin.path):
                return self._note_copy(task, twin, unchanged=copy is not None and copy.file.id == twin.id)
            if twin is not None:
                self._library.move_file(twin.path, path, modified_ns=state.st_mtime_ns)
                moved = self._library.file(path)
                if moved is not None and self._is_current(moved):
                    return _outcome(moved, "moved")
                task.moved = True
        task.document = self._readers.threads.submit(
            read_bytes, data, file.name, encoding=self._encoding, password=self._password, parser=self._readers.pool
        )
        return None

    def _store(self, task: _Task) -> FileOutcome:
        if task.document is None or task.state is None:
            raise AssertionError(task.path)  # look_at gave neither
        document = task.document.result()
        twin = self._twin(task) if task.known is None and not task.moved else None
        if twin is not None and os.path.lexists(twin.path):  # stored after this file was looked at
            return self._note_copy(task, twin, unchanged=False)
        record = self._library.put_file(
            path=task.path,
            sha256=task.digest,
            size=task.size,
            modified_ns=task.state.st_mtime_ns,
            parser=parser_version(document.format),
            document=document,
            spans=split_document(document),
        )
        if record.missing:
            return _outcome(record, "partial")
        if task.moved:
            return _outcome(record, "moved")
        return _outcome(record, "added" if task.known is None else "updated")

    def _note_copy(self, task: _Task, twin: FileRecord, *, unchanged: bool) -> FileOutcome:
        modified_ns = task.state.st_mtime_ns if task.state is not None else 0
        self._library.put_copy(task.path, of=twin.path, size=task.size, modified_ns=modified_ns)
        return _duplicate(twin, task.path, "unchanged" if unchanged else "duplicate")

    def _is_current(self, record: FileRecord) -> bool:
        """Whether the stored text is what reading the same bytes would give now."""
        takes_encoding = record.format in PARSERS and PARSERS[record.format].takes_encoding
        if self._encoding is not None and takes_encoding and codec_name(record.encoding) != self._encoding:
            return False
        if record.format == "pdf" and record.missing and parser_version("pdf") != record.parser:
            return False  # its pictures can be read now
        return record.parser.removesuffix(_WITH_OCR) == parser_version(record.format).removesuffix(_WITH_OCR)

    def _twin(self, task: _Task) -> FileRecord | None:
        """A file with the same bytes under another path: one that is gone from disk, if any, as this may be it."""
        twins = [one for one in self._library.files_with_content(task.digest) if one.path != task.path]
        twins = [one for one in twins if self._reads_alike(one, task.path)]
        return next((one for one in twins if not os.path.lexists(one.path)), twins[0] if twins else None)

    def _reads_alike(self, record: FileRecord, path: str) -> bool:
        """Whether the name of the file at ``path`` would have its bytes read as those of ``record`` were."""
        return Path(record.path).suffix.lower() == Path(path).suffix.lower()


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


def _is_untouched(record: FileRecord | CopyRecord, noted_at: str, state: os.stat_result) -> bool:
    """Whether size and time say that the file is the one that was read."""
    if (record.size, record.modified_ns) != (state.st_size, state.st_mtime_ns):
        return False
    try:
        read_at = datetime.fromisoformat(noted_at).timestamp() * 1e9
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


def _duplicate(record: FileRecord, path: str, status: FileStatus) -> FileOutcome:
    same = Words(zh=f"与 {record.path} 内容相同，只存一份。", en=f"The same as {record.path}: stored once.")
    return FileOutcome(path, status, "" if status == "unchanged" else str(same), record.encoding)


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
