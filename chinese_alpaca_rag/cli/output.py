"""Where a command's words go: results to standard output, notes and errors to standard error.

With ``--json``, standard output carries exactly one JSON document in UTF-8, whatever the locale, and
nothing else is shown but the traceback of ``ALPACA_RAG_DEBUG``.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from chinese_alpaca_rag.cli.text import clean, flat, one_line, shortened

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_ERASE_LINE = "\r\x1b[K"
#: A row's width where no terminal sets one: nothing is cut or folded on its way into a pipe or a file.
_UNBOUNDED = 100_000

# JSON leaves these as they are, and a terminal would obey them; as escapes they are the same string.
_JSON_ESCAPES = {
    code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


class Output:
    """The two streams of one run. Everything human goes through ``clean``; styles only reach a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.written = False
        self._status_shown = False
        self._at_line_start = True

    def document(self, content: object) -> None:
        """Print the one JSON document of this run."""
        text = json.dumps(content, ensure_ascii=False, indent=2).translate(_JSON_ESCAPES)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self.written = True

    def record(self, content: object) -> None:
        """Print one JSON document of several, on a line of its own."""
        self.clear_status()
        sys.stdout.write(json_line(content))
        sys.stdout.flush()
        self.written = True

    def write(self, text: str) -> None:
        """Print a piece of running text at once, as it is generated."""
        shown = clean(text)
        if shown:
            self.clear_status()
            self._at_line_start = shown.endswith("\n")
            sys.stdout.write(shown)
            sys.stdout.flush()

    def line(self, text: str = "", style: str = "", *, tail: tuple[str, str] = ("", "")) -> None:
        """Print a line, beginning a new one where running text has not ended its own.

        ``tail`` is a last piece of the line with a style of its own.
        """
        self.clear_status()
        lead = "" if self._at_line_start else "\n"
        self._at_line_start = True
        styled = _styled(clean(text), style, sys.stdout) + _styled(clean(tail[0]), tail[1], sys.stdout)
        sys.stdout.write(lead + styled + "\n")

    def note(self, text: str, style: str = "") -> None:
        """Tell the person something beside the result; a program that asked for JSON is told nothing."""
        if not self.as_json:
            self.complain(text, style)

    def complain(self, text: str, style: str = "") -> None:
        """Write to standard error, in every mode."""
        self.clear_status()
        if not self._at_line_start:
            sys.stdout.write("\n")
            self._at_line_start = True
        sys.stdout.flush()
        sys.stderr.write(_styled(clean(text), style, sys.stderr) + "\n")
        sys.stderr.flush()

    def status(self, text: str) -> None:
        """Show what is going on in one line that the next words replace; only on a terminal."""
        if not self.as_json and self._at_line_start and is_terminal(sys.stderr):
            self._status_shown = True
            shown = shortened(one_line(text), shutil.get_terminal_size().columns - 1)
            sys.stderr.write(_ERASE_LINE + _styled(shown, "dim", sys.stderr))
            sys.stderr.flush()

    def clear_status(self) -> None:
        """Take the status line away, if one is shown."""
        if self._status_shown:
            self._status_shown = False
            sys.stderr.write(_ERASE_LINE)
            sys.stderr.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a table; the columns of the numbers in ``right`` are set flush right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(flat(cell)) for cell in row))
        self.console().print(table)

    def console(self, *, error: bool = False) -> Console:
        """A rich console on standard output or standard error that takes no markup from what it prints."""
        from rich.console import Console

        class PlainConsole(Console):
            def on_broken_pipe(self) -> None:
                raise  # noqa: PLE0704 - rich calls this where it caught the error; how the run ends is ours to say

        stream = sys.stderr if error else sys.stdout
        width = None if is_terminal(stream) else _UNBOUNDED
        return PlainConsole(file=stream, markup=False, highlight=False, emoji=False, width=width)


def json_line(content: object) -> str:
    """``content`` as JSON on one line, its line break included."""
    return json.dumps(content, ensure_ascii=False).translate(_JSON_ESCAPES) + "\n"


def prepare_streams(*, as_json: bool) -> None:
    """Make both streams able to take any text, in any locale.

    What a terminal's encoding lacks is shown as ``?``. JSON is always UTF-8; the undecodable bytes of a
    file name stand in it as escaped surrogates, so that a reader gets the name back by ``surrogateescape``.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with the descriptor closed
            setattr(sys, name, _nowhere())
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
        else:
            sys.stdout.reconfigure(errors="replace")


def drop_output() -> None:
    """Send what is left for standard output nowhere: its reader has gone, and the interpreter flushes at the end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):
        sys.stdout = _nowhere()


def _nowhere() -> TextIO:
    return open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")  # noqa: PTH123 - open to the end


def is_terminal(stream: TextIO | Any) -> bool:
    """Whether a person reads ``stream`` as it is written."""
    try:
        return bool(stream.isatty())
    except ValueError:  # closed
        return False


def _styled(text: str, style: str, stream: TextIO) -> str:
    plain = not style or not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
