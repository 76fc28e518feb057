"""The child process in which risky formats are parsed: ``python -m chinese_alpaca_rag.ingest.parser_process BYTES``.

It reads tasks from standard input and answers on standard output until the input ends. Before the first one it
gives up what a parser has no use for: memory beyond BYTES of address space, core dumps, the network, and
starting other programs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.errors import DocumentRefusedError, MissingExtraError
from chinese_alpaca_rag.ingest.isolation import document_message, read_frame, write_frame
from chinese_alpaca_rag.ingest.parsers import PARSERS
from chinese_alpaca_rag.ingest.refusals import damaged
from chinese_alpaca_rag.library.records import ParsedDocument

_FORBIDDEN = frozenset(
    (
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("socket.getaddrinfo", "socket.gethostbyname"),
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"),
    )
)
_NEW_USER_NAMESPACE, _NEW_NETWORK_NAMESPACE = 0x10000000, 0x40000000


def main() -> None:
    """Serve tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a parser prints goes where errors go, not between the answers
    tasks = os.fdopen(os.dup(0), "rb")
    _confine(int(sys.argv[1]))
    while True:
        try:
            task, data = read_frame(tasks)
        except EOFError:
            return
        _limit_processor(task["seconds"])
        # Should the parent be gone and the parser hang, this ends the process even inside native code.
        faulthandler.dump_traceback_later(task["seconds"] + 30.0, exit=True)
        answer = _answer(task, data)
        faulthandler.cancel_dump_traceback_later()
        answer["resident"] = _resident()
        write_frame(answers, answer)


def _answer(task: dict[str, Any], data: bytes) -> dict[str, Any]:
    try:
        return document_message(_parse(task, data))
    except DocumentRefusedError as error:
        return {"refused": [error.message.zh, error.message.en, error.hint.zh, error.hint.en]}
    except MissingExtraError as error:
        return {"extra": [error.message.en.removeprefix("This step needs ").split(",")[0], "office"]}
    except (MemoryError, RecursionError) as error:
        return {"failed": "memory" if isinstance(error, MemoryError) else "crash", "status": "RecursionError"}
    except Exception as error:
        # The limit is one of address space, where there is one.
        if (_counted("VmPeak") or _resident()) > 0.7 * int(sys.argv[1]):
            return {"failed": "memory"}  # native code met the limit and gave its failure another name
        # A parser's own failure is the file's fault until proven otherwise; its words are in the reason.
        first_line = str(error).partition("\n")[0][:200]
        refusal = damaged(PARSERS[task["format"]].label, f"{type(error).__name__}: {first_line}")
        return {"refused": [refusal.message.zh, refusal.message.en, refusal.hint.zh, refusal.hint.en]}


def _parse(task: dict[str, Any], data: bytes) -> ParsedDocument:
    parser = PARSERS[task["format"]]
    return parser.read(data, task["name"], encoding=task["encoding"], password=task["password"], pages=task["pages"])


def _confine(memory: int) -> None:
    """Give up rights; each measure where the system has it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_resources(memory)
    leave_network()
    sys.addaudithook(_forbid)


def limit_resources(memory: int) -> None:
    """No core dumps, and at most ``memory`` bytes of address space, where the system can say so."""
    try:
        import resource
    except ImportError:
        return
    for name, value in (("RLIMIT_CORE", 0), ("RLIMIT_AS", memory)):
        _, hard = resource.getrlimit(getattr(resource, name))
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(getattr(resource, name), (limit, limit))
        except (OSError, ValueError):
            continue  # macOS knows the limit of address space but does not set it


def _limit_processor(seconds: float) -> None:
    """At most so many more seconds of processor time; the system ends a process that takes more."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def leave_network() -> None:
    """On Linux, move into a network of its own with nobody in it, which holds native code as well.

    Where the system does not allow that to an ordinary user, the audit hook alone stands guard.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK_NAMESPACE) != 0 and os.geteuid() != 0:
        libc.unshare(_NEW_USER_NAMESPACE | _NEW_NETWORK_NAMESPACE)


def _forbid(event: str, _: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        raise PermissionError(f"{event} is not allowed while a document is parsed")


def _resident() -> int:
    """The largest resident memory so far, in bytes; 0 where the system does not say."""
    # Linux's own count starts anew with this program; that of getrusage begins with the memory of the process that
    # started it, which may hold a model.
    counted = _counted("VmHWM")
    if counted is not None:
        return counted
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _counted(name: str) -> int | None:
    """A figure of Linux's about this process's memory, in bytes; None on other systems."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return None


if __name__ == "__main__":
    main()
