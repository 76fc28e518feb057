"""``alpaca-rag ingest --watch``: the library kept in step with folders until Ctrl-C."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from chinese_alpaca_rag.cli.ingest import Wanted, ingest_once, open_library
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import NoDocumentsError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library

_SETTLING_MS = 1_000  # changes that follow each other so closely are one round
_WAITING_MS = 1_000
#: Some file systems tell of no change: every so many seconds all files are looked at.
LOOKED_AT_EVERY = 300.0


def watch_paths(session: Session, wanted: Wanted) -> int:
    """Bring the library up to date, then again after every change; files that are gone are taken out.

    With ``--json`` each round that changed something is one line. Ctrl-C while nothing is done ends with 0.
    """
    _check_exist(wanted.paths)
    wanted = replace(wanted, prune=True)
    with open_library(session) as library:
        changes = _changes(wanted.paths, library)
        next(changes)  # from here on changes are noticed, also while files are read
        code = _round(session, library, wanted)
        session.output.note(
            Words(
                zh=f"正在守候 {_shown(wanted.paths)}，有变化就更新知识库。按 Ctrl-C 结束。",
                en=f"Watching {_shown(wanted.paths)}; changes go into the library. Ctrl-C ends it.",
            ).text(),
            "dim",
        )
        try:
            for changed in changes:
                if changed:
                    code = _round(session, library, wanted)
        except KeyboardInterrupt:
            session.output.note(Words(zh="不再守候。", en="No longer watching.").text())
    return code


def _round(session: Session, library: Library, wanted: Wanted) -> int:
    try:
        return ingest_once(session, library, wanted, again=True)
    except NoDocumentsError:
        _check_exist(wanted.paths)
        return 0  # an empty folder, in which something may still come to lie


def _changes(paths: Sequence[Path], library: Library) -> Iterator[bool]:
    """Whether something changed, about once a second; the first is given when watching has begun."""
    from watchfiles import watch

    own = library.absolute_folder + os.sep

    def is_foreign(path: str) -> bool:
        return not os.path.realpath(path).startswith(own)  # the library may lie in a folder that it is made from

    looked = time.monotonic()
    # Filtered here: the watcher's own filter would hold its timeouts back while the library is being read.
    for changes in watch(
        *paths,
        watch_filter=None,
        debounce=_SETTLING_MS,
        rust_timeout=_WAITING_MS,
        yield_on_timeout=True,
        raise_interrupt=True,
    ):
        changed = any(is_foreign(path) for _, path in changes)
        due = time.monotonic() - looked > LOOKED_AT_EVERY
        if changed or due:
            looked = time.monotonic()
        yield changed or due


def _check_exist(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise NoDocumentsError(
                Words(zh=f"找不到 {path}。", en=f"There is no {path}."),
                hint=Words(zh="请检查路径是否正确。", en="Check the path."),
            )


def _shown(paths: Sequence[Path]) -> str:
    return ", ".join(shown_path(path) for path in paths)
