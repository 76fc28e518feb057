"""Looking after a library: is it whole, make its index anew, save what a damaged one still holds, give space back.

All of it works on what ``store`` and ``database`` keep; none of it is needed in everyday use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.errors import LibraryFormatError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.database import FILE_NAME, translated
from chinese_alpaca_rag.library.records import FileRecord, Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.store import Library

OnFile = Callable[[str, int, int], None]
_SHOWN = 20  # problems of one kind that are told


@dataclass(frozen=True)
class Rescue:
    """What was saved of a damaged library: the number of files, and the paths of those that could not be read whole."""

    saved: int
    lost: tuple[str, ...]


def check_library(library: Library) -> list[Words]:
    """What is wrong with ``library``; an empty list where it is whole.

    Checked are SQLite's own structures, that every passage lies within its page, that counts agree, and that the
    full-text index covers exactly the passages there are. Reads the whole file.
    """
    try:
        damage = [str(row[0]) for row in _safely(library, f"PRAGMA integrity_check({_SHOWN})")]
    except LibraryFormatError as error:
        return [error.message]
    if damage != ["ok"]:
        return [Words(zh=f"数据库文件已损坏：{told}", en=f"The database file is damaged: {told}") for told in damage]
    problems = [
        Words(zh=f"{table} 表有 {count} 行没有归属。", en=f"{count} rows of {table} belong to nothing.")
        for table, count in _safely(library, 'SELECT "table", count(*) FROM pragma_foreign_key_check GROUP BY 1')
    ]
    for path, zh, en in _contradictions(library):
        problems.append(Words(zh=f"{path}：{zh}", en=f"{path}: {en}"))
    return problems + _index_problems(library)


def rebuild_index(library: Library) -> int:
    """Make the full-text index anew from the stored text, in one transaction; gives the number of passages."""
    with library.changing():
        library.index_anew()
    return library.passage_count()


def compact_library(library: Library) -> tuple[int, int]:
    """Give back what deleted text left behind; the size in bytes before and after.

    Afterwards nothing of a deleted file's text or terms is in the library's files any more.
    """
    path = library.folder / FILE_NAME
    erase_deleted(library)
    before = path.stat().st_size
    with translated(library.folder):
        library._connection.execute("VACUUM")
        library._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, path.stat().st_size


def is_erasing_due(library: Library) -> bool:
    """Whether something was deleted since ``erase_deleted`` last ran to its end, in whatever process."""
    return bool(_safely(library, "SELECT 1 FROM about WHERE name = 'erase'"))


def erase_deleted(library: Library) -> None:
    """Take out of the library's files what deleting left there: terms in the index, pages in the journal.

    SQLite overwrites deleted text itself (``secure_delete``), but the full-text index only notes that a passage
    went until its parts are merged, and the journal holds older pages until it is emptied. While another process
    reads, the journal is emptied when that is done.
    """
    with library.changing():
        library._connection.execute("INSERT INTO passage_terms (passage_terms) VALUES ('optimize')")
        library._connection.execute("DELETE FROM about WHERE name = 'erase'")
    with translated(library.folder):
        library._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def exported_files(library: Library) -> Iterator[dict[str, Any]]:
    """Every file with all its text and the places of its passages, as plain data that JSON can hold."""
    for record in library.files():
        yield {
            "path": record.path,
            "sha256": record.sha256,
            "title": record.title,
            "format": record.format,
            "encoding": record.encoding,
            "missing": record.missing,
            "hidden": record.hidden,
            "tags": list(record.tags),
            "page_kind": record.page_kind,
            "pages": [
                {"number": page.number, "label": page.label, "text": page.text} for page in _pages(library, record)
            ],
            "passages": [
                {"page": one.page, "start": one.start, "end": one.end, "heading": one.heading}
                for one in library.passages(record.path)
            ],
        }


def rescue(damaged: Library, target: Library, on_file: OnFile | None = None) -> Rescue:
    """Copy every file that can still be read whole from ``damaged`` into the empty ``target``.

    LibraryFormatError where even the list of files cannot be read: then the original documents have to be
    ingested again.
    """
    paths = [row[0] for row in _safely(damaged, "SELECT path FROM files ORDER BY path")]
    lost: list[str] = []
    for number, path in enumerate(paths, start=1):
        try:
            record = damaged.file(path)
            whole = record is not None and _copy(damaged, record, target)
        except (LibraryFormatError, KeyError):
            whole = False
        if not whole:
            lost.append(path)
        if on_file is not None:
            on_file(path, number, len(paths))
    return Rescue(len(paths) - len(lost), tuple(lost))


def _copy(damaged: Library, record: FileRecord, target: Library) -> bool:
    """Store one file in ``target``; False where it is not whole."""
    pages = tuple(_pages(damaged, record))
    passages = damaged.passages(record.path)
    if len(pages) != record.pages or len(passages) != record.passages:
        return False
    document = ParsedDocument(
        format=record.format, title=record.title, pages=pages, page_kind=record.page_kind,
        encoding=record.encoding, missing=record.missing, confidence=record.confidence, hidden=record.hidden,
    )  # fmt: skip
    try:
        target.put_file(
            path=record.path, sha256=record.sha256, size=record.size, modified_ns=record.modified_ns,
            parser=record.parser, document=document,
            spans=[PassageSpan(one.page, one.start, one.end, one.heading) for one in passages],
        )  # fmt: skip
        target.tag_files([record.path], add=record.tags)
    except ValueError:  # a passage beyond its page
        return False
    return True


def _pages(library: Library, record: FileRecord) -> Iterator[Page]:
    rows = library._rows("SELECT number, label FROM pages WHERE file_id = ? ORDER BY number", record.id)
    for number, label in rows:
        yield Page(int(number), library.page_text(record.path, int(number)), str(label))


def _contradictions(library: Library) -> Iterator[tuple[str, str, str]]:
    counted = (
        "SELECT path FROM files WHERE pages != (SELECT count(*) FROM pages WHERE file_id = files.id)"
        " OR passages != (SELECT count(*) FROM passages WHERE file_id = files.id) LIMIT ?"
    )
    for (path,) in _safely(library, counted, _SHOWN):
        yield path, "页数或段落数与记录不符", "its pages or passages are not as many as noted"
    beyond = (
        'SELECT DISTINCT files.path FROM passages JOIN files ON files.id = passages.file_id WHERE "end" <= start'
        ' OR "end" > (SELECT total(length(text)) FROM stretches WHERE stretches.page_id = passages.page_id) LIMIT ?'
    )
    for (path,) in _safely(library, beyond, _SHOWN):
        yield path, "有段落超出了所在的页", "a passage lies outside of its page"


def _index_problems(library: Library) -> list[Words]:
    unindexed = "SELECT count(*) FROM (SELECT id FROM passages EXCEPT SELECT id FROM passage_terms_docsize)"
    left = "SELECT count(*) FROM (SELECT id FROM passage_terms_docsize EXCEPT SELECT id FROM passages)"
    (missing,), (stale,) = _safely(library, unindexed)[0], _safely(library, left)[0]
    if not missing and not stale:
        return []
    return [
        Words(
            zh=f"全文索引与段落不符：缺 {missing} 段，多 {stale} 段。",
            en=f"The full-text index does not fit the passages: {missing} missing, {stale} too many.",
        )
    ]


def _safely(library: Library, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of a query over what may be damaged: LibraryFormatError, with what to do, where it cannot be read."""
    with translated(library.folder):
        return library._connection.execute(sql, parameters).fetchall()
