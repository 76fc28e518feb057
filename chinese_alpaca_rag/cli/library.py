"""``alpaca-rag library``: is the library whole, make its index anew, save a damaged one, take its text out."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from chinese_alpaca_rag.cli.memory import in_bytes
from chinese_alpaca_rag.cli.output import json_line
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted
from chinese_alpaca_rag.errors import LibraryFormatError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.care import check_library, compact_library, exported_files, rebuild_index, rescue
from chinese_alpaca_rag.library.store import Library

#: ``check`` found something wrong, or ``rebuild --to`` could not save every file.
NOT_WHOLE = 1


def check(session: Session) -> int:
    """Look the whole library over and tell what is wrong with it; 0 where nothing is."""
    try:
        with Library.open(session.settings.library, readonly=True) as library:
            problems = check_library(library)
            files, passages = (0, 0) if problems else (len(library.files()), library.passage_count())
    except LibraryFormatError as error:
        problems, files, passages = [error.message], 0, 0
    output = session.output
    if output.as_json:
        output.document({"whole": not problems, "problems": list(map(str, problems)), "files": files})
        return NOT_WHOLE if problems else 0
    for problem in problems:
        output.line(str(problem), "red")
    if problems:
        output.note(
            Words(
                zh="索引的问题：alpaca-rag library rebuild。文件损坏：alpaca-rag library rebuild --to 新文件夹，"
                "把还能读出的文件救到那里。",
                en="For the index: alpaca-rag library rebuild. For a damaged file: alpaca-rag library rebuild --to "
                "NEW_FOLDER saves there what can still be read.",
            ).text()
        )
        return NOT_WHOLE
    output.line(
        Words(
            zh=f"知识库完好：{files} 个文件，{passages} 个段落。",
            en=f"The library is whole: {counted(files, 'file')}, {counted(passages, 'passage')}.",
        ).text(),
        "green",
    )
    return 0


def rebuild(session: Session, to: Path | None) -> int:
    """Make the full-text index anew; with ``to``, copy all that can be read into a new library there."""
    if to is not None:
        return _rescue(session, to)
    with Library.open(session.settings.library, create=False) as library:
        passages = rebuild_index(library)
    if session.output.as_json:
        session.output.document({"passages": passages})
    else:
        session.output.line(
            Words(
                zh=f"全文索引已重建：{passages} 个段落。",
                en=f"The full-text index is made anew: {counted(passages, 'passage')}.",
            ).text()
        )
    return 0


def _rescue(session: Session, to: Path) -> int:
    output = session.output
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise WrongUsageError(
            Words(zh=f"{to} 已经存在，而且不是空文件夹。", en=f"{to} exists and is no empty folder."),
            hint=Words(zh="用 --to 指定一个新文件夹。", en="Name a new folder with --to."),
        )
    with (
        Library.open(session.settings.library, readonly=True) as damaged,
        Library.open(to, create=True) as target,
    ):
        found = rescue(
            damaged, target, lambda path, number, total: output.status(f"{number}/{total} {shown_path(path)}")
        )
    if output.as_json:
        output.document({"library": str(to), "saved": found.saved, "lost": list(found.lost)})
        return NOT_WHOLE if found.lost else 0
    for path in found.lost:
        output.line(Words(zh=f"没能救出：{shown_path(path)}", en=f"not saved: {shown_path(path)}").text(), "red")
    output.line(
        Words(
            zh=f"{found.saved} 个文件已存入 {shown_path(to)}。",
            en=f"{counted(found.saved, 'file')} saved in {shown_path(to)}.",
        ).text(),
        "bold",
    )
    if found.lost:
        output.note(
            Words(
                zh=f"请把没能救出的原文件重新读入：alpaca-rag ingest 路径… --library {to}",
                en=f"Ingest the originals of those not saved: alpaca-rag ingest PATH… --library {to}",
            ).text()
        )
    return NOT_WHOLE if found.lost else 0


def export(session: Session, file: Path | None) -> int:
    """Write every file with its text and passages as a line of JSON: to ``file``, or to standard output."""
    output = session.output
    with Library.open(session.settings.library, readonly=True) as library:
        if file is None:
            for content in exported_files(library):
                output.record(content)
            output.written = True
            return 0
        count = 0
        with _whole_or_nothing(file) as stream:
            for content in exported_files(library):
                stream.write(json_line(content))
                count += 1
    if output.as_json:
        output.document({"file": str(file), "files": count})
    else:
        output.line(
            Words(
                zh=f"{count} 个文件的文字已写入 {shown_path(file)}。",
                en=f"The text of {counted(count, 'file')} is in {shown_path(file)}.",
            ).text()
        )
    return 0


def compact(session: Session) -> int:
    """Give back what deleted text left in the library's file."""
    with Library.open(session.settings.library, create=False) as library:
        before, after = compact_library(library)
    if session.output.as_json:
        session.output.document({"before": before, "after": after})
    else:
        session.output.line(
            Words(
                zh=f"知识库文件：{in_bytes(before)} → {in_bytes(after)}",
                en=f"The library's file: {in_bytes(before)} → {in_bytes(after)}",
            ).text()
        )
    return 0


@contextlib.contextmanager
def _whole_or_nothing(file: Path) -> Iterator[TextIO]:
    """A file that takes the place of ``file`` once all of it is written, readable by its owner only."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
    except OSError as error:
        raise _unwritable(file, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        raise _unwritable(file, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(file: Path, error: OSError) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"无法写入 {file}：{error.strerror}。", en=f"{file} cannot be written: {error.strerror}."),
        hint=Words(zh="换一个可写的位置。", en="Name a place that can be written."),
    )
