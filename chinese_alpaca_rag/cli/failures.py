"""Every way in which a run can fail, as what a person or a program is told: no traceback ever.

========================  =========  =====================================================================
kind                      exit code
========================  =========  =====================================================================
an ``AlpacaRagError``     its own    its class name, its message, its hint
``WrongUsageError``       2          also for what typer finds wrong in the command line
``Interrupted``           130        Ctrl-C; what is kept
``FileError``             1          the system refused a file: rights, no space, …
``OutOfMemoryError``      1
``UnexpectedError``       1          a fault of this program; ``ALPACA_RAG_DEBUG=1`` shows the traceback
========================  =========  =====================================================================
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.cli.text import one_line
from chinese_alpaca_rag.cli.usage import UsageError, in_words
from chinese_alpaca_rag.errors import AlpacaRagError
from chinese_alpaca_rag.language import Words

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


@dataclass(frozen=True)
class Failure:
    """What is told of an error."""

    kind: str
    message: str
    hint: str
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints instead of a result."""
        return {"error": {"type": self.kind, "message": self.message, "hint": self.hint}}


class StoppedError(Exception):
    """The user stopped the work; ``kept`` says what of it remains."""

    def __init__(self, kept: Words) -> None:
        super().__init__(kept)
        self.kept = kept


def report(failure: Failure, output: Output) -> None:
    """Tell the failure: as the one JSON document, or in two lines on standard error."""
    if output.as_json:
        if not output.written:
            output.document(failure.to_json())
        return
    output.complain(f"{Words(zh='错误：', en='Error: ')}{failure.message}", "red")
    if failure.hint:
        output.complain(failure.hint)


def explain(error: BaseException) -> Failure:
    """What to tell of ``error``."""
    if isinstance(error, UsageError):
        usage = in_words(error)
        return Failure("WrongUsageError", str(usage.message), str(usage.hint), usage.exit_code)
    match error:
        case AlpacaRagError():
            return Failure(type(error).__name__, str(error.message), str(error.hint), error.exit_code)
        case KeyboardInterrupt() | StoppedError():
            kept = getattr(error, "kept", Words(zh="没有改变任何东西。", en="Nothing was changed."))
            return Failure("Interrupted", str(Words(zh="已停止。", en="Stopped.")), str(kept), INTERRUPTED)
        case MemoryError():
            return _out_of_memory()
        case OSError():
            return _file_error(error)
        case _:
            return _unexpected(error)


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("ALPACA_RAG_DEBUG", "").strip().lower() not in {"", "0", "false", "no", "off"}


def _file_error(error: OSError) -> Failure:
    path = one_line(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else ""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        words = Words(zh="磁盘空间不足", en="No space is left on the disk")
        hint = Words(
            zh="腾出空间后再运行一次；已完成的部分保留。", en="Make room and run this again; what is done is kept."
        )
    elif isinstance(error, PermissionError):
        words = Words(zh="没有访问权限", en="Permission denied")
        hint = Words(zh="检查文件和文件夹的权限。", en="Check the rights of the file and its folder.")
    else:
        words = Words(zh=f"系统无法完成文件操作（{reason}）", en=f"The system could not do a file operation ({reason})")
        hint = Words(
            zh="检查路径和磁盘后再试；设置 ALPACA_RAG_DEBUG=1 可看到细节。",
            en="Check the path and the disk and try again; ALPACA_RAG_DEBUG=1 shows the details.",
        )
    place = Words(zh=f"：{path}", en=f": {path}") if path else Words(zh="。", en=".")
    return Failure("FileError", f"{words}{place}", str(hint), 1)


def _out_of_memory() -> Failure:
    return Failure(
        "OutOfMemoryError",
        str(Words(zh="内存不够。", en="There is not enough memory.")),
        str(
            Words(
                zh="用较小的 --window，或换较小的、量化的模型；alpaca-rag doctor 会显示可用内存。",
                en="Take a smaller --window, or a smaller or quantised model; alpaca-rag doctor shows the memory.",
            )
        ),
        1,
    )


def _unexpected(error: BaseException) -> Failure:
    said = one_line(str(error))
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    hint = Words(
        zh="请报告给维护者：附上这条命令、alpaca-rag doctor 的输出，以及设置 ALPACA_RAG_DEBUG=1 再运行一次时的输出。",
        en="Please report it with this command, the output of alpaca-rag doctor, and what the command prints when it "
        "is run again with ALPACA_RAG_DEBUG=1.",
    )
    message = Words(zh=f"程序内部出错（{what}）", en=f"Something went wrong inside this program ({what})")
    return Failure("UnexpectedError", str(message), str(hint), 1)


def show_traceback(error: BaseException) -> None:
    """Print the traceback on standard error, for whoever asked for it."""
    import traceback

    traceback.print_exception(error, file=sys.stderr)
