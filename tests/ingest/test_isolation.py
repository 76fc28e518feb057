from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError
from chinese_alpaca_rag.ingest import isolation
from chinese_alpaca_rag.ingest.isolation import ParserLimits, ParserProcess
from tests.ingest.office_files import lines, pdf_file

HTML = "<p>正常的文件。</p>".encode()

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    with ParserProcess() as process:
        yield process


def read(parser: ParserProcess) -> str:
    return parser.parse(HTML, "html", "x").pages[0].text


def child_of(parser: ParserProcess) -> int:
    assert parser._child is not None
    return parser._child.pid


def test_one_child_serves_many_files(parser: ParserProcess) -> None:
    assert read(parser) == "正常的文件。"
    first = child_of(parser)
    assert parser.parse(pdf_file([lines("一页。")]), "pdf", "x").pages[0].text == "一页。"
    assert child_of(parser) == first


def test_a_refusal_crosses_the_pipe_in_both_languages(parser: ParserProcess) -> None:
    with pytest.raises(DocumentRefusedError) as caught:
        parser.parse(b"%PDF-1.4 broken", "pdf", "x")
    assert "damaged" in caught.value.message.en
    assert "损坏" in caught.value.message.zh
    assert read(parser) == "正常的文件。"


def test_a_child_that_was_killed_is_replaced(parser: ParserProcess) -> None:
    read(parser)
    first = child_of(parser)
    os.kill(first, signal.SIGKILL)
    time.sleep(0.05)
    assert read(parser) == "正常的文件。"
    assert child_of(parser) != first


def test_a_hang_ends_with_a_refusal_and_the_next_file_is_read() -> None:
    with ParserProcess(ParserLimits(seconds=0.6, seconds_per_megabyte=0)) as parser:
        read(parser)
        os.kill(child_of(parser), signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(DocumentRefusedError, match=r"longer|超过"):
            read(parser)
        assert time.monotonic() - began < 5
        assert read(parser) == "正常的文件。"


def test_a_crash_in_a_file_ends_with_a_refusal() -> None:
    with ParserProcess() as parser:

        def kill_soon() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if parser._child is not None:
                    time.sleep(0.3)
                    os.kill(child_of(parser), signal.SIGSEGV)
                    return
                time.sleep(0.01)

        killer = threading.Thread(target=kill_soon)
        killer.start()
        with pytest.raises(DocumentRefusedError, match=r"crashed|崩溃"):
            # Deep enough to keep the parser busy until the signal comes.
            parser.parse(b"<div>" * 9_900 * 60, "html", "x")
        killer.join()
        assert read(parser) == "正常的文件。"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_too_much_memory_ends_with_a_refusal() -> None:
    with ParserProcess(ParserLimits(memory=160 << 20)) as parser:
        with pytest.raises(DocumentRefusedError, match=r"memory|内存|crashed|崩溃"):
            parser.parse(b"<p>x" * 3_000_000, "html", "x")
        assert read(parser) == "正常的文件。"


def test_large_files_get_more_time_up_to_a_limit() -> None:
    limits = ParserLimits()
    assert limits.seconds_for(1000) == pytest.approx(60, abs=0.1)
    assert limits.seconds_for(10 << 20) == pytest.approx(110)
    assert limits.seconds_for(1 << 40) == 600


def test_the_child_has_no_network_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's own measures, tried in a process that takes them."""
    import subprocess

    monkeypatch.setenv("SECRET_API_KEY", "do not pass on")
    probe = (
        "import os, socket, subprocess\n"
        "from chinese_alpaca_rag.ingest.parser_process import _confine\n"
        "_confine(4 << 30)\n"
        "def tries(action):\n"
        "    try:\n"
        "        action()\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        "    return 'allowed'\n"
        "print(tries(lambda: socket.create_connection(('127.0.0.1', 9), timeout=1)))\n"
        "print(tries(lambda: socket.getaddrinfo('example.com', 80)))\n"
        "print(tries(lambda: subprocess.run(['true'])))\n"
        "print(tries(lambda: os.system('true')))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert found.stdout.split() == ["PermissionError"] * 4
    assert "SECRET_API_KEY" not in isolation._INHERITED.split()


def test_what_a_parser_prints_does_not_disturb_the_answers(parser: ParserProcess) -> None:
    read(parser)
    child = parser._child
    assert child is not None
    assert child.stdout is not None
    assert child.stderr is None


def test_answers_are_data_and_nothing_else() -> None:
    answer = {
        "document": {
            "format": "pdf",
            "title": "t",
            "pages": [],
            "page_kind": "page",
            "encoding": "",
            "missing": "",
            "confidence": 1.0,
            "hidden": "",
            "pictures": [],
        }
    }
    assert isolation._result(answer, 1, 1).format == "pdf"
    with pytest.raises(MissingExtraError):
        isolation._result({"extra": ["unstructured", "office"]}, 1, 1)
    with pytest.raises(DocumentRefusedError):
        isolation._result({"unknown": "message"}, 1, 1)


def test_a_parent_that_holds_much_memory_keeps_its_child() -> None:
    program = """
from chinese_alpaca_rag.ingest.isolation import ParserLimits, ParserProcess
held = bytearray(b"x") * (1200 << 20)
with ParserProcess(ParserLimits()) as parser:
    parser.parse("<p>正常的文件。</p>".encode(), "html", "a.html")
    assert parser._child is not None
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
