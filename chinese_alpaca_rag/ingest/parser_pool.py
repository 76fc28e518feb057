"""Several parser processes side by side, so that one slow file does not hold up the others."""

from __future__ import annotations

import os
import queue
from collections.abc import Sequence
from typing import Protocol

from chinese_alpaca_rag.ingest.isolation import ParserLimits, ParserProcess
from chinese_alpaca_rag.library.records import ParsedDocument

#: More children than this hardly help: one process writes the library.
MOST_WORKERS = 4


class Parsing(Protocol):
    """What parses a file away from this process."""

    limits: ParserLimits

    @property
    def is_abandoned(self) -> bool:
        """Whether the work is to end in the middle of a file."""
        ...

    def parse(
        self,
        data: bytes,
        format_name: str,
        name: str,
        *,
        encoding: str | None = None,
        password: str | None = None,
        pages: Sequence[int] = (),
    ) -> ParsedDocument:
        """``data`` as a document of ``format_name``; DocumentRefusedError for whatever goes wrong with it."""
        ...


class ParserPool:
    """As many parser processes as ``workers``, each started when it is first needed; a context manager."""

    def __init__(self, workers: int, limits: ParserLimits | None = None) -> None:
        self.workers = workers
        self.limits = limits or ParserLimits()
        self._all = [ParserProcess(self.limits) for _ in range(workers)]
        # The one used last is taken first, so that few files start few processes.
        self._idle: queue.LifoQueue[ParserProcess] = queue.LifoQueue()
        for parser in reversed(self._all):
            self._idle.put(parser)

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parse(
        self,
        data: bytes,
        format_name: str,
        name: str,
        *,
        encoding: str | None = None,
        password: str | None = None,
        pages: Sequence[int] = (),
    ) -> ParsedDocument:
        """As :meth:`ParserProcess.parse`, in the next process that is free."""
        parser = self._idle.get()
        try:
            return parser.parse(data, format_name, name, encoding=encoding, password=password, pages=pages)
        finally:
            self._idle.put(parser)

    @property
    def is_abandoned(self) -> bool:
        """Whether ``abandon`` was called."""
        return self._all[0].is_abandoned

    def abandon(self) -> None:
        """End every process at once, whatever it is doing; what waits for one is refused."""
        for parser in self._all:
            parser.abandon()

    def close(self) -> None:
        """End every process, each when its file is done."""
        for parser in self._all:
            parser.close()


def default_workers() -> int:
    """As many as there are processors for this process, at most MOST_WORKERS."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        processors = os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, processors))
