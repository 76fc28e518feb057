"""Whatever happens, a person reads two lines and a program one document: never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from chinese_alpaca_rag.cli import models
from chinese_alpaca_rag.cli.failures import StoppedError, explain
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import AlpacaRagError, LibraryError
from chinese_alpaca_rag.language import Words
from tests.cli.conftest import ROOT, Alpaca


def failing(error: BaseException) -> Callable[[Session], NoReturn]:
    def command(_session: Session) -> NoReturn:
        raise error

    return command


def every_error(kind: type[AlpacaRagError]) -> Iterator[type[AlpacaRagError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every_error(below)


@pytest.mark.parametrize("kind", sorted(set(every_error(AlpacaRagError)), key=str))
def test_errors_on_purpose_keep_their_words_and_their_exit_code(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch, kind: type[AlpacaRagError]
) -> None:
    error = kind(Words(zh="坏了", en="It broke"), hint=Words(zh="修它", en="Mend it"))
    monkeypatch.setattr(models, "list_models", failing(error))
    done = alpaca("models", "list", language="zh")
    assert (done.code, done.out, done.err) == (kind.exit_code, "", "错误：坏了\n修它\n")
    done = alpaca("models", "list", "--json")
    assert (done.code, done.err) == (kind.exit_code, "")
    assert done.error == {"type": kind.__name__, "message": "It broke", "hint": "Mend it"}


def test_an_unexpected_error_is_short_and_tells_how_to_report(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "list_models", failing(ZeroDivisionError("\x1b[2Jboo\nfar")))
    done = alpaca("models", "list")
    assert done.code == 1
    assert done.err.startswith("Error: Something went wrong inside this program (ZeroDivisionError: [2Jboo far)\n")
    assert "ALPACA_RAG_DEBUG=1" in done.err
    assert "Traceback" not in done.err
    assert alpaca("models", "list", "--json").error["type"] == "UnexpectedError"
    monkeypatch.setenv("ALPACA_RAG_DEBUG", "1")
    done = alpaca("models", "list", "--json")
    assert "Traceback" in done.err
    assert done.error["type"] == "UnexpectedError"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "FileError", "Permission denied: /root/x"),
        (OSError(errno.ENOSPC, "No space left on device"), "FileError", "No space is left on the disk"),
        (OSError(errno.EIO, "Input/output error", "/mnt/x\x1b"), "FileError", "(Input/output error): /mnt/x"),
        (OSError("strange"), "FileError", "(strange)"),
        (MemoryError(), "OutOfMemoryError", "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "UnexpectedError", "RecursionError"),
        (KeyError(), "UnexpectedError", "(KeyError)"),
    ],
)
def test_what_the_system_refuses_is_told_in_words(error: BaseException, kind: str, said: str) -> None:
    failure = explain(error)
    assert (failure.kind, failure.exit_code) == (kind, 1)
    assert said in failure.message
    assert failure.hint


def test_stopping_says_what_is_kept(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "list_models", failing(KeyboardInterrupt()))
    done = alpaca("models", "list", language="zh")
    assert (done.code, done.err) == (130, "错误：已停止。\n没有改变任何东西。\n")
    monkeypatch.setattr(models, "list_models", failing(StoppedError(Words(zh="留下三个", en="Three are kept"))))
    done = alpaca("models", "list", "--json")
    assert done.code == 130
    assert done.error == {"type": "Interrupted", "message": "Stopped.", "hint": "Three are kept"}


def test_an_error_after_the_document_does_not_print_a_second_one(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_way(session: Session) -> int:
        session.output.document({"done": True})
        raise LibraryError(Words(zh="晚了", en="too late"), hint=Words(zh="", en=""))

    monkeypatch.setattr(models, "list_models", half_way)
    done = alpaca("models", "list", "--json")
    assert (done.code, done.document) == (1, {"done": True})


def test_an_error_in_the_middle_of_a_line_begins_its_own(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_way(session: Session) -> int:
        session.output.write("年假为")
        raise LibraryError(Words(zh="断了", en="broken off"), hint=Words(zh="再来", en="again"))

    monkeypatch.setattr(models, "list_models", half_way)
    done = alpaca("models", "list")
    assert done.out == "年假为\n"
    assert done.err == "Error: broken off\nagain\n"


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-m", "chinese_alpaca_rag", *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )
    return process


def test_a_reader_that_goes_away_ends_the_run_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start("models", "list", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_an_output_that_takes_nothing_is_told(json: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("models", "list", *json, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"Error: No space is left on the disk")
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_crash(closed: str) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    process = start("models", "list", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(number))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in out + err


@pytest.mark.skipif(os.name == "nt", reason="signals as a POSIX terminal sends them")
def test_control_c_during_a_run() -> None:
    process = start("ask", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(0.8)  # it waits for a question that does not come
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == "Error: Stopped.\nNothing was changed.\n"
