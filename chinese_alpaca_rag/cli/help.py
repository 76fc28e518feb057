"""The help page of a command, in the user's language, with Chinese measured in terminal columns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from chinese_alpaca_rag.cli import wording
from chinese_alpaca_rag.cli.parameter_wording import PARAMETERS
from chinese_alpaca_rag.cli.text import padded, text_width, wrap
from chinese_alpaca_rag.language import Words

INDENT = "  "
WIDEST = 100
WIDEST_TERM = 30
WIDEST_EXAMPLE = 48
SHARED = ("library", "model", "window", "strategy", "no_cache", "json")


class HelpfulCommand(TyperCommand):
    """A command whose help page is ours."""

    def get_help(self, ctx: Any) -> str:
        """The help page; typer prints it for ``--help``."""
        return help_page(self, ctx)


class HelpfulGroup(TyperGroup):
    """A group of commands whose help page is ours."""

    def get_help(self, ctx: Any) -> str:
        """The help page; typer prints it for ``--help``."""
        return help_page(self, ctx)


def help_page(command: Any, context: Any) -> str:
    """The whole page: usage, what the command does, its arguments and options, examples."""
    width = min(shutil.get_terminal_size().columns, WIDEST) - 1
    words = wording.COMMANDS[_path(context)]
    lines = [*_usage(command, context), ""]
    for text in (words.short, words.more):
        lines += [INDENT + line for line in wrap(str(text), width - 2)]
    lines += _section(wording.SUBCOMMANDS, _commands(command), width)
    shown = [parameter for parameter in command.get_params(context) if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    own = [parameter for parameter in shown if parameter not in arguments and parameter.name not in SHARED]
    shared = [parameter for parameter in shown if parameter.name in SHARED]
    for title, parameters in (
        (wording.ARGUMENTS, arguments),
        (wording.OPTIONS, own),
        (wording.SHARED_OPTIONS, shared),
    ):
        lines += _section(title, [_entry(parameter) for parameter in parameters], width)
    lines += _section(wording.EXAMPLES, [(line, str(what)) for line, what in words.examples], width, WIDEST_EXAMPLE)
    return "\n".join(lines)


def usage_line(command: Any, context: Any) -> str:
    """``alpaca-rag ask [OPTIONS] QUESTION``, in the user's language."""
    pieces = [context.command_path, str(wording.OPTIONS_MARK)]
    pieces += [_placeholder(each) for each in command.params if each.param_type_name == "argument"]
    if getattr(command, "commands", None):
        pieces.append(str(wording.COMMAND_MARK))
    return " ".join(pieces)


def _usage(command: Any, context: Any) -> list[str]:
    return [_bold(str(wording.USAGE)) + usage_line(command, context)]


def _path(context: Any) -> str:
    """The command's place below the program: empty for the program itself, ``models list`` for that one."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(names)


def _commands(command: Any) -> list[tuple[str, str]]:
    found: dict[str, Any] = getattr(command, "commands", {})
    order = [path.rpartition(" ")[2] for path in wording.COMMANDS]
    return [(name, found[name].short_help) for name in sorted(found, key=order.index)]


def _entry(parameter: Any) -> tuple[str, str]:
    """An option's or argument's names with its value's placeholder, and what it does."""
    # The parameter behind --help bears another name from one version of click to the next.
    description = str(PARAMETERS["help" if "--help" in parameter.opts else parameter.name].help)
    if parameter.param_type_name == "argument":
        return _placeholder(parameter), description
    names = ", ".join(sorted(parameter.opts, key=len))
    return f"{names} {_placeholder(parameter)}".rstrip(), description


def _placeholder(parameter: Any) -> str:
    words = PARAMETERS.get(parameter.name)
    return str(words.placeholder) if words else ""


def _section(title: Words, entries: Sequence[tuple[str, str]], width: int, widest: int = WIDEST_TERM) -> Iterator[str]:
    """A title and its entries in two columns; an entry whose term is too wide goes on in the next line."""
    if not entries:
        return
    yield ""
    yield _bold(str(title))
    column = min(max(text_width(term) for term, _ in entries), widest)
    for term, description in entries:
        room = width - len(INDENT) * 2 - column
        described = wrap(description, max(room, 20))
        fits = text_width(term) <= column
        yield INDENT + (padded(term, column) + INDENT + described.pop(0) if fits and described else term)
        for line in described:
            yield INDENT * 2 + " " * column + line


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[0m"
