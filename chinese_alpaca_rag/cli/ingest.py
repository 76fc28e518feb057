"""``alpaca-rag ingest``: files into the library."""

from __future__ import annotations

import getpass
import io
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.cli.failures import StoppedError
from chinese_alpaca_rag.cli.output import Output, is_terminal
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.retrieving import embed_missing, embedding_model
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted
from chinese_alpaca_rag.errors import LibraryError, WrongUsageError
from chinese_alpaca_rag.ingest.pipeline import FileOutcome, FileStatus, find_documents, ingest_paths
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.settings import Settings

SOME_REFUSED = 3
#: What was computed from a file that left the library could not be removed.
SOMETHING_KEPT = 1
#: An encoding that is less sure than this is told with how sure it is.
SURE = 0.99
#: So many files that went well are named; those that did not are named all.
CHANGES_LISTED = 20

STATUSES: dict[FileStatus, Words] = {
    "added": Words(zh="新增", en="added"),
    "updated": Words(zh="更新", en="updated"),
    "unchanged": Words(zh="未变", en="unchanged"),
    "moved": Words(zh="移动", en="moved"),
    "duplicate": Words(zh="重复", en="duplicate"),
    "removed": Words(zh="移除", en="removed"),
    "partial": Words(zh="不完整", en="partial"),
    "refused": Words(zh="被拒绝", en="refused"),
}
_STYLES = {"refused": "red", "partial": "yellow"}

OnOutcome = Callable[[FileOutcome, int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What ``ingest`` was asked to do, in every round of it."""

    paths: Sequence[Path]
    prune: bool = False
    encoding: str | None = None
    password: str | None = field(default=None, repr=False)
    tags: Sequence[str] = ()


def ingest(session: Session, wanted: Wanted, *, watch: bool = False) -> int:
    """Read files into the library and report what became of each; with ``watch``, again at every change."""
    wanted = _checked(wanted)
    if session.settings.embedding is not None:
        embedding_model(session)  # raises where it is none, before anything is read
    if watch:
        from chinese_alpaca_rag.cli.watching import watch_paths

        return watch_paths(session, wanted)
    if not session.settings.library.exists():
        find_documents(wanted.paths)  # raises where there is nothing to read: no library is made for that
    with open_library(session) as library:
        return ingest_once(session, library, wanted)


def open_library(session: Session) -> Library:
    """The library to write to, made where there is none; what models keep goes with its files."""
    return Library.open(session.settings.library, create=True, derived=[_Prefixes(session.settings)])


def ingest_once(session: Session, library: Library, wanted: Wanted, *, again: bool = False) -> int:
    """One round, reported; ``again`` for a later one of several, of which only what is new is told."""
    began = time.perf_counter()
    done: list[FileOutcome] = []
    try:
        with _progress(session.output, quiet=again) as show:

            def on_outcome(outcome: FileOutcome, number: int, total: int) -> None:
                done.append(outcome)
                show(outcome, number, total)

            outcomes = ingest_paths(
                wanted.paths,
                library,
                prune=wanted.prune,
                encoding=wanted.encoding,
                password=wanted.password,
                tags=wanted.tags,
                on_outcome=on_outcome,
            )
        embedded = embed_missing(session, library)
    except KeyboardInterrupt as error:
        raise StoppedError(_kept(done)) from error
    problems = library.derived_problems
    _tell_all(session, outcomes, time.perf_counter() - began, problems, again=again)
    if embedded and not again:
        made = Words(zh=f"新算了 {embedded} 个段落的向量。", en=f"Vectors made of {counted(embedded, 'passage')}.")
        session.output.note(made.text(), "dim")
    if problems:
        return SOMETHING_KEPT
    return SOME_REFUSED if any(outcome.status == "refused" for outcome in outcomes) else 0


def _checked(wanted: Wanted) -> Wanted:
    _check_encoding(wanted.encoding)
    tags = [tag.strip() for tag in wanted.tags]
    if not all(tags):
        raise WrongUsageError(
            Words(zh="标签不能是空的。", en="A tag cannot be empty."),
            hint=Words(zh="例如：--tag 合同", en="As in: --tag contracts"),
        )
    password = wanted.password
    if password == "-":  # noqa: S105 - it says to ask
        password = getpass.getpass(Words(zh="密码：", en="Password: ").text())
    return replace(wanted, tags=tags, password=password)


def _tell_all(
    session: Session,
    outcomes: Sequence[FileOutcome],
    seconds: float,
    problems: Sequence[LibraryError],
    *,
    again: bool,
) -> None:
    if session.output.as_json:
        (session.output.record if again else session.output.document)(_as_json(outcomes, seconds, problems))
        return
    _report(session, outcomes, seconds)
    for problem in problems:
        session.output.complain(problem.text(), "red")


class _Prefixes:
    """The beginnings of prompts that models keep on disk; where there are none, nothing of models is imported."""

    def __init__(self, settings: Settings) -> None:
        self.problem: Words | None = None
        self._folder = settings.prefix_folder
        self._packings = settings.packing_folder

    def forget_documents(self, wanted_gone: Callable[[str], bool], /) -> int:
        if not os.path.lexists(self._folder):
            return 0
        from chinese_alpaca_rag.llms.prefix_store import PrefixStore

        store = PrefixStore(self._folder)
        count = store.forget_documents(wanted_gone)
        self.problem = store.problem
        if count:
            # Digests of its text stand there, in prompts that nothing is kept of any more.
            shutil.rmtree(self._packings, ignore_errors=True)
        return count


def _check_encoding(name: str | None) -> None:
    """Refuse a name that Python has no text encoding for; some of its codecs are from bytes to bytes."""
    if name is None:
        return
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
    except (LookupError, ValueError):
        raise WrongUsageError(
            Words(zh=f"没有名为 {name} 的文本编码。", en=f"There is no text encoding called {name}."),
            hint=Words(
                zh="常用的有：utf-8、gb18030、big5、utf-16。省略 --encoding 则自动判断。",
                en="Common ones: utf-8, gb18030, big5, utf-16. Without --encoding it is found out.",
            ),
        ) from None


def _kept(done: Sequence[FileOutcome]) -> Words:
    kept = sum(outcome.status != "refused" for outcome in done)
    return Words(
        zh=f"已处理完的 {kept} 个文件都在知识库里；再运行一次同样的命令会接着做完。",
        en=f"{counted(kept, 'file')} finished so far and kept in the library; the same command finishes the rest.",
    )


def _as_json(outcomes: Sequence[FileOutcome], seconds: float, problems: Sequence[LibraryError]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "files": [
            {
                "path": outcome.path,
                "status": outcome.status,
                "reason": str(outcome.reason),
                "encoding": outcome.encoding,
                "confidence": round(outcome.confidence, 4),
                "hidden": outcome.hidden,
                "pages": outcome.pages,
                "passages": outcome.passages,
            }
            for outcome in outcomes
        ],
        "passages": sum(outcome.passages for outcome in outcomes),
        "seconds": round(seconds, 3),
    }
    if problems:
        document["problems"] = [str(problem) for problem in problems]
    return document


def _report(session: Session, outcomes: Sequence[FileOutcome], seconds: float) -> None:
    output = session.output
    changed = [outcome for outcome in outcomes if outcome.status not in ("unchanged", *_STYLES)]
    for outcome in changed[:CHANGES_LISTED]:
        _tell(output, outcome)
    more = len(changed) - CHANGES_LISTED
    if more > 0:
        output.line(
            Words(zh=f"……另有 {more} 个（--json 列出全部）", en=f"… and {more} more (--json lists all)").text(), "dim"
        )
    for outcome in outcomes:
        if outcome.status in _STYLES:
            _tell(output, outcome)
    counts = Counter(outcome.status for outcome in outcomes)
    parts = [f"{STATUSES[status]} {counts[status]}" for status in STATUSES if counts[status]]
    passages = sum(outcome.passages for outcome in outcomes)
    files = Words(zh="，", en=", ").text().join(parts)
    output.line(
        Words(
            zh=f"{len(outcomes)} 个文件（{files}），{passages} 个段落，{seconds:.1f} 秒",
            en=f"{counted(len(outcomes), 'file')} ({files}), {counted(passages, 'passage')}, {seconds:.1f} s",
        ).text(),
        "bold",
    )
    output.note(Words(zh="知识库：", en="Library: ").text() + shown_path(session.settings.library), "dim")


def _tell(output: Output, outcome: FileOutcome) -> None:
    """One line for a file: what became of it and what was read, or why it was not."""
    told = [f"{STATUSES[outcome.status]}  {shown_path(outcome.path)}"]
    if outcome.passages:
        told.append(Words(zh=f"{outcome.passages} 段", en=counted(outcome.passages, "passage")).text())
    if outcome.encoding:
        sure = outcome.confidence >= SURE
        told.append(outcome.encoding if sure else f"{outcome.encoding} ({outcome.confidence:.0%})")
    if outcome.hidden:
        told.append(outcome.hidden)
    if reason := str(outcome.reason):
        told.append(reason)
    output.line(" · ".join(told), _STYLES.get(outcome.status, ""))


@contextmanager
def _progress(output: Output, *, quiet: bool = False) -> Iterator[OnOutcome]:
    """A progress bar with its rate on standard error, where a person watches."""
    if quiet or output.as_json or not is_terminal(sys.stderr):
        yield lambda _outcome, _number, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=output.console(error=True),
        transient=True,
    ) as progress:
        task = progress.add_task(str(Words(zh="读取文件", en="Reading")), total=None, rate="")

        def show(_outcome: FileOutcome, number: int, total: int) -> None:
            speed = progress.tasks[0].speed or 0.0
            rate = Words(zh=f"{speed:.1f} 个/秒", en=f"{speed:.1f} files/s").text() if speed else ""
            progress.update(task, completed=number, total=total, rate=rate)

        yield show
