"""``alpaca-rag doctor``: what works here, what is missing, and how to get it."""

from __future__ import annotations

import shutil
import sys

from chinese_alpaca_rag.cli.check import Check
from chinese_alpaca_rag.cli.checks import every_check
from chinese_alpaca_rag.cli.output import Output, is_terminal
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted, padded, text_width, wrap
from chinese_alpaca_rag.language import Words

BROKEN = 1
MARGIN = 4  # the mark before a label, and the spaces around the label

_MARKS = {"ok": ("✓", "green"), "hint": ("·", "yellow"), "problem": ("✗", "red")}


def doctor(session: Session) -> int:
    """Print every check; something broken that is needed makes the run fail."""
    checks = list(every_check(session.settings))
    broken = [check for check in checks if check.state == "problem"]
    if session.output.as_json:
        session.output.document({"ok": not broken, "checks": [check.to_json() for check in checks]})
        return BROKEN if broken else 0
    column = max(text_width(str(check.label)) for check in checks)
    for check in checks:
        _show(session.output, check, column)
    verdict = (
        Words(zh=f"{len(broken)} 个问题需要处理。", en=f"{counted(len(broken), 'problem')} to deal with.")
        if broken
        else None
    )
    session.output.line()
    session.output.line(
        str(verdict or Words(zh="一切可用。", en="Everything needed works.")), "red" if broken else "green"
    )
    return BROKEN if broken else 0


def _show(output: Output, check: Check, column: int) -> None:
    mark, style = _MARKS[check.state]
    margin = " " * (column + MARGIN)
    first, *more = _fitting(str(check.detail), column)
    output.line(mark, style, tail=(f" {padded(str(check.label), column)}  {first}", ""))
    for line in more:
        output.line(f"{margin}{line}")
    if check.state != "ok":
        for line in _fitting(str(check.hint), column):
            output.line(f"{margin}{line}", "dim")


def _fitting(text: str, column: int) -> list[str]:
    """``text`` in lines beside the labels; a pipe gets it in one."""
    if not is_terminal(sys.stdout):
        return [text]
    return wrap(text, shutil.get_terminal_size().columns - column - MARGIN - 1) or [""]
