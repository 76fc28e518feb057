"""Parsing of risky formats in a child process, so that a hostile or broken file harms nothing but its own reading.

One child serves many files and is replaced when it hangs, crashes or has grown large. It gets a file's bytes
over a pipe and answers with JSON (never with pickles: what a subverted parser sends must stay data). The child
limits itself in :mod:`~chinese_alpaca_rag.ingest.parser_process`.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, PageKind, ParsedDocument

FRAME = struct.Struct(">QQ")  # the lengths in bytes of the JSON and of the data that follow
_LARGEST_ANSWER = 1 << 30  # bytes
# What a child needs to start and to speak the user's language; keys and tokens are not for parsers.
_INHERITED = (
    "PATH HOME TMPDIR TEMP TMP SYSTEMROOT PYTHONHOME VIRTUAL_ENV LD_LIBRARY_PATH DYLD_LIBRARY_PATH "
    "LC_ALL LC_MESSAGES LANG ALPACA_RAG_LANGUAGE"
)
_LARGEST_CHILD = 1 << 30  # bytes of resident memory, above which a child is not used again


@dataclass(frozen=True)
class ParserLimits:
    """What one file may take. ``seconds`` of wall time grow with the file; ``memory`` is address space in bytes."""

    seconds: float = 60.0
    seconds_per_megabyte: float = 5.0
    most_seconds: float = 600.0
    seconds_per_picture: float = 30.0
    memory: int = 4 << 30

    def seconds_for(self, size: int) -> float:
        """The wall time for a file of ``size`` bytes: large spreadsheets need longer, small bombs do not get it."""
        return min(self.most_seconds, self.seconds + self.seconds_per_megabyte * size / (1 << 20))


@dataclass(frozen=True)
class ParseTask:
    """What the child is asked to do with the bytes that come along."""

    format: str
    name: str
    encoding: str | None = None
    password: str | None = field(default=None, repr=False)
    seconds: float = 60.0
    pages: tuple[int, ...] = ()


class ParserProcess:
    """A child process that parses. Usable from several threads, one file at a time; use it as a context manager."""

    def __init__(self, limits: ParserLimits | None = None) -> None:
        self.limits = limits or ParserLimits()
        self._child: subprocess.Popen[bytes] | None = None
        self._served = 0
        self._abandoned = False
        self._guard = threading.Lock()

    def __enter__(self) -> ParserProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one. The next file starts another."""
        with self._guard:
            self._stop()

    @property
    def is_abandoned(self) -> bool:
        """Whether ``abandon`` was called."""
        return self._abandoned

    def abandon(self) -> None:
        """End the child in the middle of its file, from another thread; this object is of no use afterwards."""
        self._abandoned = True
        child = self._child
        if child is not None:
            child.kill()

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
        """``data`` as a document of ``format_name``; DocumentRefusedError for whatever goes wrong with it.

        ``pages`` are the numbers of the pages wanted, for parsers that take them, which have more time for each.
        """
        seconds = self.limits.seconds_for(len(data)) + self.limits.seconds_per_picture * len(pages)
        task = ParseTask(format_name, name, encoding=encoding, password=password, seconds=seconds, pages=tuple(pages))
        with self._guard:
            reused = self._served > 0
            answer = self._ask(task, data)
            if answer.get("failed") == "crash" and reused and not self._abandoned:
                # What the files before left behind may be at fault: the file gets a child of its own.
                answer = self._ask(task, data)
        return _result(answer, seconds, self.limits.memory)

    def _ask(self, task: ParseTask, data: bytes) -> dict[str, Any]:
        """The child's answer, or ``{"failed": ...}`` when none came: "time", "memory" or "crash"."""
        if self._abandoned:
            return {"failed": "crash", "status": "stopped"}
        child = self._start()
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            child.kill()

        if self._abandoned:  # while the child was being started
            child.kill()
        timer = threading.Timer(task.seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            answer = _exchange(child, task, data)
        except BaseException as error:
            # Also on KeyboardInterrupt: a child in the middle of a file cannot be asked again.
            self._stop(kill=True)
            if not isinstance(error, OSError | EOFError | ValueError):
                raise
            return {"failed": "time" if timed_out.is_set() else "crash", "status": child.returncode}
        finally:
            timer.cancel()
            timer.join()  # leave no thread behind
        self._served += 1
        if answer.get("failed") or answer.get("resident", 0) > _LARGEST_CHILD:
            self._stop()
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._stop()
            self._child = _spawn(self.limits)
        return self._child

    def _stop(self, *, kill: bool = False) -> None:
        child, self._child, self._served = self._child, None, 0
        if child is None:
            return
        if kill:
            child.kill()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _spawn(limits: ParserLimits) -> subprocess.Popen[bytes]:
    package_root = str(Path(__file__).resolve().parents[2])
    environment = {name: value for name, value in os.environ.items() if name in _INHERITED.split()}
    # The child finds what this process can import, and nothing in the folder it happens to be started in (-P).
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([package_root, *filter(None, sys.path)]))
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    command = [sys.executable, "-P", "-m", "chinese_alpaca_rag.ingest.parser_process", str(limits.memory)]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C is for this process to handle; the child ends when its pipe closes.
        start_new_session=os.name == "posix",
    )


def _exchange(child: subprocess.Popen[bytes], task: ParseTask, data: bytes) -> dict[str, Any]:
    write_frame(cast("IO[bytes]", child.stdin), asdict(task), data)
    answer, _ = read_frame(cast("IO[bytes]", child.stdout))
    return answer


def write_frame(stream: IO[bytes], message: dict[str, Any], data: bytes = b"") -> None:
    """Send a JSON object and bytes over a pipe."""
    encoded = json.dumps(message).encode("ascii")
    stream.write(FRAME.pack(len(encoded), len(data)))
    stream.write(encoded)
    stream.write(data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Receive what :func:`write_frame` sent; EOFError when the other side is gone."""
    header = stream.read(FRAME.size)
    if len(header) < FRAME.size:
        raise EOFError
    length, size = FRAME.unpack(header)
    if length > _LARGEST_ANSWER:
        raise ValueError("the message is too long")
    encoded, data = stream.read(length), stream.read(size)
    if len(encoded) < length or len(data) < size:
        raise EOFError
    return cast("dict[str, Any]", json.loads(encoded)), data


def document_message(document: ParsedDocument) -> dict[str, Any]:
    """A document as the child sends it."""
    return {"document": asdict(document)}


def _document(fields: dict[str, Any]) -> ParsedDocument:
    return ParsedDocument(
        format=str(fields["format"]),
        title=str(fields["title"]),
        pages=tuple(Page(int(page["number"]), str(page["text"]), str(page["label"])) for page in fields["pages"]),
        page_kind=cast("PageKind", fields["page_kind"]),
        encoding=str(fields["encoding"]),
        missing=str(fields["missing"]),
        confidence=float(fields["confidence"]),
        hidden=str(fields["hidden"]),
        pictures=tuple(map(int, fields["pictures"])),
    )


def _result(answer: dict[str, Any], seconds: float, memory: int) -> ParsedDocument:
    if "document" in answer:
        return _document(answer["document"])
    if "refused" in answer:
        zh, en, hint_zh, hint_en = map(str, answer["refused"])
        raise DocumentRefusedError(Words(zh=zh, en=en), hint=Words(zh=hint_zh, en=hint_en))
    if "extra" in answer:
        raise MissingExtraError.for_package(*map(str, answer["extra"]))
    raise _failure(answer, seconds, memory)


def _failure(answer: dict[str, Any], seconds: float, memory: int) -> DocumentRefusedError:
    simplify = Words(
        zh="请用原来的程序打开它，删去多余内容或拆分后另存，再加入。",
        en="Open it in the program that made it, save it in smaller parts and add those.",
    )
    if answer.get("failed") == "time":
        return DocumentRefusedError(
            Words(
                zh=f"读取超过 {seconds:.0f} 秒，已中止。",
                en=f"Reading it took longer than {seconds:.0f} seconds and was stopped.",
            ),
            hint=simplify,
        )
    if answer.get("failed") == "memory":
        gigabytes = memory / (1 << 30)
        return DocumentRefusedError(
            Words(
                zh=f"读取所需内存超过 {gigabytes:.0f} GB，已中止。",
                en=f"Reading it took more than {gigabytes:.0f} GB of memory and was stopped.",
            ),
            hint=simplify,
        )
    detail = f"{answer.get('status', '?')}"
    return DocumentRefusedError(
        Words(
            zh=f"解析程序在这个文件上崩溃了（退出码 {detail}），文件可能已损坏。",
            en=f"The parser crashed on this file (exit status {detail}); it may be damaged.",
        ),
        hint=simplify,
    )
