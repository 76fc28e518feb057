"""Office files of 1997 to 2003 (.doc, .xls, .ppt), converted by LibreOffice where it is installed.

LibreOffice runs in a process of its own, with a profile made for the file and thrown away with it, without a network
and with limits on memory and time (:mod:`~chinese_alpaca_rag.ingest.converter_process`). What it writes is then read
as any file of the new formats is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.language import Words

#: What each format is called, and converted to.
LEGACY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "doc": ("Word 97-2003 (.doc)", "docx"),
        "xls": ("Excel 97-2003 (.xls)", "xlsx"),
        "ppt": ("PowerPoint 97-2003 (.ppt)", "pptx"),
    }
)
# LibreOffice takes a while to start, whatever the file.
_STARTING_SECONDS = 60.0
_MEMORY = 4 << 30  # bytes of address space
_POLL_SECONDS = 0.05
# Said to LibreOffice, which would otherwise take a damaged spreadsheet for a text and give its bytes as words.
_FILTERS = {"doc": "MS Word 97", "xls": "MS Excel 97", "ppt": "MS PowerPoint 97"}
_STREAMS = {"doc": "WordDocument", "xls": "Workbook", "ppt": "PowerPoint Document"}


def legacy_format(data: bytes) -> str:
    """The format ("doc", "xls", "ppt") by the streams of a compound file, "" for any other."""
    for format_name, stream in _STREAMS.items():
        if stream.encode("utf-16-le") in data:
            return format_name
    return "xls" if "Book".encode("utf-16-le") + bytes(2) in data else ""


def office_program() -> str | None:
    """The path of LibreOffice's program, None where it is not installed."""
    for name in ("soffice", "libreoffice"):
        found = shutil.which(name)
        if found:
            return found
    bundled = Path("/Applications/LibreOffice.app/Contents/MacOS/soffice")
    return str(bundled) if bundled.exists() else None


def converted(data: bytes, format_name: str, seconds: float, is_stopped: Callable[[], bool]) -> bytes:
    """``data`` in the new format that LEGACY names.

    DocumentRefusedError without LibreOffice, when it takes longer than ``seconds`` after its start, and when it makes
    nothing of the file. ``is_stopped`` is asked meanwhile whether the work is to end.
    """
    program = office_program()
    label, target = LEGACY[format_name]
    if program is None:
        raise _no_program(label, target)
    with TemporaryDirectory(prefix="alpaca-rag-", ignore_cleanup_errors=True) as folder:
        source = Path(folder) / f"document.{format_name}"
        source.write_bytes(data)
        out = Path(folder) / "out"
        _run(_command(program, source, target, out, Path(folder) / "profile"), _STARTING_SECONDS + seconds, is_stopped)
        written = out / f"document.{target}"
        if not written.exists() or not written.stat().st_size:
            raise _not_converted(label, target)
        return written.read_bytes()


def _command(program: str, source: Path, target: str, out: Path, profile: Path) -> list[str]:
    confined = [sys.executable, "-P", "-m", "chinese_alpaca_rag.ingest.converter_process", str(_MEMORY)]
    options = ["--headless", "--norestore", "--nolockcheck", "--nodefault", "--nologo"]
    return [
        *confined, program, f"-env:UserInstallation={profile.as_uri()}", *options,
        f"--infilter={_FILTERS[source.suffix[1:]]}", "--convert-to", target, "--outdir", str(out), str(source),
    ]  # fmt: skip


def _run(command: list[str], seconds: float, is_stopped: Callable[[], bool]) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")
    }
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([root, *filter(None, sys.path)]))
    environment["HOME"] = str(Path(command[-1]).parent)
    process = subprocess.Popen(  # noqa: S603 - our own module, and the program that is installed
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=os.name == "posix",
    )
    deadline = time.monotonic() + seconds
    try:
        while process.poll() is None:
            if is_stopped() or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        timed_out = process.poll() is None and not is_stopped()
    finally:
        _kill(process)
    if timed_out:
        raise DocumentRefusedError(
            Words(
                zh=f"LibreOffice 转换超过 {seconds:.0f} 秒，已中止。",
                en=f"LibreOffice took longer than {seconds:.0f} seconds to convert it and was stopped.",
            ),
            hint=Words(
                zh="请在办公软件里打开它，另存为新格式后再加入。",
                en="Open it in an office program, save it in a new format and add that.",
            ),
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the program and whatever it started, as LibreOffice's starter starts the program itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _not_converted(label: str, target: str) -> DocumentRefusedError:
    return DocumentRefusedError(
        Words(
            zh=f"LibreOffice 打不开这个 {label} 文件：它有密码，或已损坏。",
            en=f"LibreOffice cannot open this {label} file: it has a password or is damaged.",
        ),
        hint=Words(
            zh=f"请在办公软件里打开它，去掉密码，另存为 .{target} 后再加入。",
            en=f"Open it in an office program, take the password off, save it as .{target} and add that.",
        ),
    )


def _no_program(label: str, target: str) -> DocumentRefusedError:
    return DocumentRefusedError(
        Words(
            zh=f"读取 {label} 需要 LibreOffice，本机没有安装。",
            en=f"{label} files are read through LibreOffice, which is not installed.",
        ),
        hint=Words(
            zh=f"请安装 LibreOffice 后再运行一次；或用办公软件打开它，另存为 .{target} 后再加入。",
            en=f"Install LibreOffice and run this again, or save it as .{target} in an office program and add that.",
        ),
    )
