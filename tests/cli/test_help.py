"""The help pages: in the user's language to the last word, aligned in columns, and quick."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from chinese_alpaca_rag.cli import app
from chinese_alpaca_rag.cli.commands import SHARED_PARAMETERS
from chinese_alpaca_rag.cli.help import SHARED
from chinese_alpaca_rag.cli.parameter_wording import PARAMETERS
from chinese_alpaca_rag.cli.text import text_width
from chinese_alpaca_rag.cli.wording import COMMANDS
from tests.cli.conftest import Alpaca

PAGES = [path.split() for path in COMMANDS]
TYPERS_OWN_WORDS = re.compile(
    r"Usage|Options|Arguments|Commands|Show this|required|default|Error|Examples", re.IGNORECASE
)


def every_command(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from every_command(subcommand, f"{path} {name}".strip())


def test_every_command_and_parameter_has_words_and_no_words_are_left_over() -> None:
    commands = dict(every_command(get_command(app)))
    assert set(commands) == set(COMMANDS)
    names = {parameter.name for command in commands.values() for parameter in command.params}
    assert names | {"help"} == set(PARAMETERS)
    for words in [*COMMANDS.values()]:
        assert words.short.zh
        assert words.short.en


def test_every_command_takes_the_shared_options() -> None:
    for path, command in every_command(get_command(app)):
        names = {option for parameter in command.params for option in parameter.opts}
        assert {"--library", "--model", "--window", "--strategy", "--no-cache", "--json"} <= names, path
    assert set(SHARED) == {parameter.name for parameter in SHARED_PARAMETERS[:-1]}


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_chinese_pages_hold_no_english_sentence(alpaca: Alpaca, page: list[str]) -> None:
    done = alpaca(*page, "--help", language="zh")
    assert done.code == 0
    assert done.out.startswith(f"用法：{' '.join(['alpaca-rag', *page])} ")
    assert not TYPERS_OWN_WORDS.search(done.out.replace("（默认", ""))
    assert str(COMMANDS[" ".join(page)].short.zh)[:12] in done.out


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_english_pages_hold_no_chinese_but_examples(alpaca: Alpaca, page: list[str]) -> None:
    done = alpaca(*page, "-h", language="en")
    assert done.code == 0
    assert done.out.startswith(f"Usage: {' '.join(['alpaca-rag', *page])} ")
    explained = done.out.split("\nExamples")[0]
    assert not re.search("[\u3000-\u9fff]", explained)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_pages_keep_to_the_terminal(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch, language: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    explained = alpaca("ask", "--help", language=language).out.split("\n例子")[0].split("\nExamples")[0]
    # What may be wider than a narrow terminal: a term's column and the least room for its description.
    assert max(map(text_width, explained.splitlines())) < max(columns, 60)


def test_descriptions_stand_in_one_column(alpaca: Alpaca) -> None:
    lines = alpaca("--help", language="zh").out.split("命令\n")[1].split("\n\n")[0].splitlines()
    starts = {text_width(line[: len(line) - len(line.split(None, 1)[1])]) for line in lines}
    assert len(lines) == 10
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({"ALPACA_RAG_LANGUAGE": "zh", "LC_ALL": "C"}, "用法"),
        ({"LC_ALL": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "用法"),
        ({"LANG": "zh_TW.UTF-8"}, "用法"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, "Usage"),
        ({"LANG": "de_DE.UTF-8"}, "Usage"),
        ({}, "Usage"),
    ],
)
def test_the_language_follows_the_locale(alpaca_process: Alpaca, variables: dict[str, str], first: str) -> None:
    blank = {"ALPACA_RAG_LANGUAGE": "", "LC_ALL": "", "LC_MESSAGES": "", "LANG": ""}
    assert alpaca_process("--help", environment=blank | variables).out.startswith(first)


def test_the_settings_file_may_choose_the_language(alpaca_process: Alpaca, own_home: Any) -> None:
    file = own_home / ".config" / "chinese-alpaca-rag" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text('language = "zh"\n')
    environment = {"ALPACA_RAG_LANGUAGE": "", "LANG": "C"}
    assert alpaca_process("--help", environment=environment).out.startswith("用法")
    assert "没有这个命令" in alpaca_process("x", environment=environment).err
    file.write_text('langage = "zh"\n')
    assert alpaca_process("--help", environment=environment).code == 0
    assert alpaca_process("sources", environment=environment).code == 2


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys; sys.argv = ['alpaca-rag', '--help']\n"
        "from chinese_alpaca_rag.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'langchain_core', 'pydantic', 'numpy', 'sentencepiece', 'rich', 'sqlite3', 'asyncio'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ.copy()
    )
    assert done.stderr.strip() == "[]"


def test_the_version_as_text_and_as_json(alpaca: Alpaca) -> None:
    assert alpaca("--version").out.startswith("alpaca-rag ")
    assert list(alpaca("--version", "--json").document) == ["version"]


def test_without_a_command_the_page_is_shown_as_wrong_usage(alpaca: Alpaca) -> None:
    done = alpaca()
    assert (done.code, done.out) == (2, "")
    assert "summarize" in done.err
    assert alpaca("models").code == 2
    assert alpaca("--json").error["type"] == "WrongUsageError"
