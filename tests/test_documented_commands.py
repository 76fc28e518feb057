"""Every command that the documents show exists, with the options they show."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from chinese_alpaca_rag.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "README.en.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND_STARTS = ("alpaca-rag ", "make ", "python ", "pip install ")


def shown_commands(text: str) -> list[str]:
    """The lines of fenced shell blocks and the inline code spans that start like a command of ours."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.removeprefix("$ ").split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in [*lines, *inline] if line.startswith(COMMAND_STARTS)]


def documented() -> list[tuple[str, str]]:
    return sorted(
        {(path.name, line) for path in DOCUMENTS for line in shown_commands(path.read_text(encoding="utf-8"))}
    )


def complaint(line: str) -> str | None:
    """What is wrong with a shown command, or None."""
    words = shlex.split(re.split(r"\s[|>&]", line)[0])
    match words[0]:
        case "alpaca-rag":
            return alpaca_complaint(words[1:])
        case "make":
            return make_complaint(words[1])
        case "python" if words[1].endswith(".py"):
            return None if (ROOT / words[1]).is_file() else f"no such file: {words[1]}"
        case "pip":
            return extra_complaint(line)
    return None


def alpaca_complaint(words: list[str]) -> str | None:
    command: Any = get_command(app)
    path = "alpaca-rag"
    seen_options: list[str] = []
    for word in words:
        if word.startswith("-"):
            seen_options.append(word.split("=")[0])
        elif hasattr(command, "commands"):
            found = command.commands.get(word)
            if found is None:
                return None if word.startswith(("<", "…", "...")) else f"{path} has no command {word}"
            command, path = found, f"{path} {word}"
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    unknown = [option for option in seen_options if option not in known | {"--help"}]
    return f"{path} has no option {', '.join(unknown)}" if unknown else None


def make_complaint(target: str) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    if target.startswith("bench-"):
        name = target.removeprefix("bench-")
        return None if name == "NAME" or (ROOT / "benchmarks" / f"bench_{name}.py").is_file() else f"no {target}"
    return None if re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE) else f"no make target {target}"


def extra_complaint(line: str) -> str | None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    shown = re.search(r"\[([\w,-]+)\]", line)
    unknown = [extra for extra in shown[1].split(",") if extra not in extras] if shown else []
    return f"no extra {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize(("document", "line"), documented())
def test_command_exists(document: str, line: str) -> None:
    assert complaint(line) is None, f"{document} shows: {line}"


def test_both_readmes_show_commands() -> None:
    shown = [name for name, _ in documented()]
    assert shown.count("README.md") >= 10
    assert shown.count("README.en.md") >= 10


@pytest.mark.parametrize(
    "line",
    [
        "alpaca-rag frobnicate",
        "alpaca-rag ask 问题 --colour",
        "make nothing",
        "python examples/none.py",
        "pip install 'chinese-alpaca-rag[x]'",
    ],
)
def test_a_wrong_command_would_be_noticed(line: str) -> None:
    assert complaint(line) is not None
