"""Standard output: JSON that any program reads, in any locale, and text that no terminal obeys."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.cli.output import Output, prepare_streams
from tests.cli.conftest import ROOT, Alpaca


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"PYTHONIOENCODING": "gb18030"},
    ],
    ids=str,
)
def test_json_is_utf_8_in_every_locale(alpaca_process: Alpaca, locale: dict[str, str]) -> None:
    done = alpaca_process("models", "show", "none", "--json", environment={"ALPACA_RAG_LANGUAGE": "zh", **locale})
    assert done.code == 2
    assert done.err == ""
    assert done.error["message"] == "没有名为“none”的模型。"
    assert done.out.endswith("}\n")
    assert not done.out.isascii()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030", "utf-8"])
def test_text_is_printed_in_what_the_terminal_has(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chinese_alpaca_rag", "models", "list"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding, "ALPACA_RAG_LANGUAGE": "zh"},
    )
    text = done.stdout.decode(encoding)
    assert "chinese-alpaca-2-7b-16k" in text
    assert ("对话" in text) == (encoding in ("gb18030", "utf-8"))


def captured(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding="ascii"))
    return stream


def test_the_bytes_of_a_name_that_is_not_utf_8_survive_json(monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"/docs/\xb2\xe2\xca\xd4.txt")
    stream = captured(monkeypatch)
    prepare_streams(as_json=True)
    Output(as_json=True).document({"path": name})
    stream.getvalue().decode("utf-8")
    assert json.loads(stream.getvalue())["path"] == name
    assert os.fsencode(json.loads(stream.getvalue())["path"]) == b"/docs/\xb2\xe2\xca\xd4.txt"


@given(st.text(st.characters()))
def test_any_text_survives_json_and_none_controls_a_terminal(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stream = captured(monkeypatch)
        prepare_streams(as_json=True)
        Output(as_json=True).document({"text": text})
        written = stream.getvalue().decode("utf-8")
    assert json.loads(written) == {"text": text}
    assert not any(
        (ord(character) < 0x20 and character != "\n") or 0x7F <= ord(character) < 0xA0 for character in written
    )


def test_documents_cannot_control_the_terminal_or_use_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.write("a\x1b[2J[bold]b")
    output.write("\r\x07c")
    output.line("[red]x[/red]\x9b1m", "bold")
    output.table(["列"], [["[link=http://x]y[/link]\x1b]0;z\x07:smile:"]])
    out = capsys.readouterr().out
    assert out.startswith("a[2J[bold]bc\n[red]x[/red]1m\n")
    assert "[link=http://x]y[/link]]0;z:smile:" in out


def test_a_table_in_a_pipe_is_neither_cut_nor_folded(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/很长的路径" * 60
    Output(as_json=False).table(["file", "n"], [[path, "1"]])
    assert path in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_styles_and_status_reach_only_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    output = Output(as_json=False)
    output.status("reading \x1b[2J a\nlot")
    assert screen.getvalue() == "\r\x1b[K\x1b[2mreading [2J a lot\x1b[0m"
    output.write("answer")
    output.status("not in the middle of a line")
    output.line("end", "bold", tail=("✓", "green"))
    assert screen.getvalue().endswith("\x1b[0m\r\x1b[Kanswer\n\x1b[1mend\x1b[0m\x1b[32m✓\x1b[0m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    output.line("plain", "bold")
    assert screen.getvalue().endswith("\nplain\n")


def test_with_json_nothing_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.note("beside")
    output.status("doing")
    assert capsys.readouterr() == ("", "")
