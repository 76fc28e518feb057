"""What typer finds wrong in a command line, in the kit's words."""

from __future__ import annotations

import re
from typing import Any

import typer

from chinese_alpaca_rag.cli import wording
from chinese_alpaca_rag.cli.help import usage_line
from chinese_alpaca_rag.cli.parameter_wording import PARAMETERS
from chinese_alpaca_rag.cli.text import one_line
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Words

#: typer's base of everything wrong in a command line; it does not export it.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def in_words(error: Any) -> WrongUsageError:
    """Typer's ``error`` as one of ours, with the command's usage in its hint."""
    context = getattr(error, "ctx", None)
    if context is None:
        return WrongUsageError(_complaint(error), hint=_see_help("alpaca-rag"))
    usage, see = usage_line(context.command, context), _see_help(context.command_path)
    hint = Words(zh=f"{wording.USAGE.zh}{usage}\n{see.zh}", en=f"{wording.USAGE.en}{usage}\n{see.en}")
    return WrongUsageError(_complaint(error), hint=hint)


def _complaint(error: Any) -> Words:
    """What is wrong; a complaint of typer's that is not known here stays in its English."""
    match type(error).__name__:
        case "MissingParameter" if error.param is not None:
            return missing(error.param.name)
        case "NoSuchOption":
            return _unknown("选项", "option", error.option_name, ", ".join(sorted(error.possibilities or ())))
        case "BadOptionUsage":
            return _bad_value(error.option_name, wanted="requires" in error.message)
    message = one_line(error.format_message())
    if command := re.match(r"""No such command (['"])(.*?)\1\.?(?: Did you mean (.*?)\?)?( .*)?$""", message):
        return _unknown("命令", "command", command[2], (command[3] or "").replace("'", ""))
    if extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", message):
        return Words(zh=f"多出了参数：{extra[1]}", en=f"Unexpected argument: {extra[1]}")
    return Words(zh=f"命令行有误：{message}", en=message)


def missing(name: str) -> Words:
    """What is said of an argument that is not there."""
    words = PARAMETERS[name]
    return Words(
        zh=f"缺少参数：{words.placeholder.zh}（{words.help.zh}）",
        en=f"Missing argument: {words.placeholder.en} ({words.help.en})",
    )


def _bad_value(name: str, *, wanted: bool) -> Words:
    if wanted:
        return Words(zh=f"选项 {name} 需要一个值。", en=f"Option {name} needs a value.")
    return Words(zh=f"选项 {name} 不带值。", en=f"Option {name} takes no value.")


def _unknown(zh: str, en: str, name: str, nearest: str) -> Words:
    return Words(
        zh=f"没有这个{zh}：{name}" + (f"。您是否想用 {nearest}？" if nearest else ""),
        en=f"No such {en}: {name}" + (f". Did you mean {nearest}?" if nearest else ""),
    )


def _see_help(program: str) -> Words:
    return Words(zh=f"运行 {program} --help 查看说明。", en=f"Run {program} --help to see how.")
