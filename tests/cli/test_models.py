"""``models list`` and ``models show``: the catalogue as a person and as a program reads it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from chinese_alpaca_rag.cli.memory import in_bytes
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard, find_model
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.family.serving import serving_command
from tests.cli.conftest import Alpaca
from tests.toy_family import ToyCheckpoint


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_list_names_every_model(alpaca: Alpaca, language: str) -> None:
    done = alpaca("models", "list", language=language)
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[-len(CATALOGUE) :]] == [card.name for card in CATALOGUE]
    line = next(line for line in lines if line.startswith("chinese-alpaca-2-7b-64k "))
    assert "65,536" in line
    assert "YaRN ×16" in line
    assert "512 KiB" in line
    assert "models show" in done.err


def test_the_list_as_json(alpaca: Alpaca) -> None:
    listed = alpaca("models", "list", "--json").document["models"]
    assert len(listed) == len(CATALOGUE)
    assert {"name", "kind", "window", "reach", "linear_factor", "yarn_factor", "hub"} <= set(listed[0])
    assert (
        next(model for model in listed if model["name"] == "chinese-alpaca-2-13b")["kv_bytes_per_token"] == 800 * 1024
    )


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_every_model_can_be_shown(alpaca: Alpaca, card: ModelCard) -> None:
    shown = alpaca("models", "show", card.name, "--json").document
    assert shown["name"] == card.name
    windows = [plan["window"] for plan in shown["plans"]]
    assert windows == sorted(windows)
    assert {card.window, card.reach} <= set(windows)
    for plan in shown["plans"]:
        again = plan_rope(card, plan["window"])
        assert (plan["theta"], plan["alpha"]) == (again.theta, again.alpha)
        assert plan["transformers"] == again.for_transformers()
        assert plan["llama_cpp"] == again.for_llama_cpp()
        assert plan["vllm"] == again.for_vllm()
        assert plan["kv_bytes"]["f16"] == card.kv_bytes_per_token() * plan["window"]
    assert shown["obtain"], "every model says how to get it"
    text = alpaca("models", "show", card.name, language="zh").out
    assert all(step["command"] in text for step in shown["obtain"])


def test_a_model_is_known_by_its_other_names(alpaca: Alpaca) -> None:
    shown = alpaca("models", "show", "HFL/Chinese-Alpaca-2-7B-16K-GGUF", "--json").document
    assert shown["name"] == "chinese-alpaca-2-7b-16k"
    assert "hf download hfl/chinese-alpaca-2-7b-16k-gguf" in shown["obtain"][0]["command"]


def test_the_download_goes_where_the_name_is_looked_up(
    alpaca: Alpaca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_RAG_MODELS", str(tmp_path / "my models"))
    command = alpaca("models", "show", "chinese-alpaca-2-7b", "--json").document["obtain"][0]["command"]
    assert f"--local-dir '{tmp_path}/my models/chinese-alpaca-2-7b'" in command
    missing = alpaca("ask", "年假？", "--model", "chinese-alpaca-2-7b", "--json")
    assert missing.error["type"] == "ModelNotFoundError"
    assert command in missing.error["hint"]


def test_a_wanted_window_is_planned(alpaca: Alpaca) -> None:
    shown = alpaca("models", "show", "chinese-alpaca-2-7b", "--window", "12K", "--json").document
    plan = next(plan for plan in shown["plans"] if plan["window"] == 12288)
    assert plan["alpha"] == 5.0
    refused = alpaca("models", "show", "chinese-alpaca-2-7b", "--window", "64K", "--json")
    assert (refused.code, refused.error["type"]) == (2, "WindowUnreachableError")


def test_a_window_set_for_good_does_not_stand_in_the_way(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_WINDOW", "64K")
    assert alpaca("models", "show", "chinese-alpaca-2-7b").code == 0


def test_an_unknown_name_gives_the_nearest(alpaca: Alpaca) -> None:
    done = alpaca("models", "show", "chinese-alpaca-2-7b-61k", "--json")
    assert (done.code, done.error["type"]) == (2, "UnknownModelError")
    assert "chinese-alpaca-2-7b-64k" in done.error["hint"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (512 * 1024, "512 KiB"),
        (4.25 * 1024**3, "4.25 GiB"),
        (1000 * 1024, "0.977 MiB"),
        (2**41, "2 TiB"),
    ],
)
def test_bytes_in_words(count: float, words: str) -> None:
    assert in_bytes(count) == words


@pytest.mark.parametrize("engine", ["vllm", "llama-server", "llama-cpp-python"])
def test_the_command_that_starts_a_server(alpaca: Alpaca, engine: str) -> None:
    asked = ("models", "command", "chinese-alpaca-2-7b-16k", "--window", "24K", "--engine", engine)
    told = alpaca(*asked, "--json").document
    expected = serving_command(find_model("chinese-alpaca-2-7b-16k"), 24576, engine=engine)
    assert told["arguments"] == shlex.split(told["command"]) == expected
    assert (told["model"], told["window"], told["engine"]) == ("chinese-alpaca-2-7b-16k", 24576, engine)
    # One line, whatever the terminal's width, ready to paste.
    assert alpaca(*asked).out == told["command"] + "\n"


def test_a_server_for_a_file(alpaca: Alpaca, toys: ToyCheckpoint) -> None:
    done = alpaca("models", "command", toys.gguf, "--kv-type", "q8_0", "--port", "9000", "--json").document
    assert done["arguments"][:3] == ["llama-server", "--model", str(toys.gguf)]
    assert {"9000", "q8_0"} <= set(done["arguments"])
    arguments = alpaca("models", "command", toys.hf, "-e", "vllm", "--json").document["arguments"]
    assert arguments[arguments.index("serve") + 1] == str(toys.hf)
    assert "HF_HUB_OFFLINE=1" in arguments
    refused = alpaca("models", "command", toys.gguf, "--engine", "vllm", "--json")
    assert (refused.code, refused.error["type"]) == (2, "WrongUsageError")
    assert "llama-server" in refused.error["hint"]


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        (("--window", "64K"), "WindowUnreachableError", "chinese-alpaca-2-7b-64k"),
        (("--engine", "ollama"), "WrongUsageError", "vllm"),
        (("--port", "http"), "WrongUsageError", "8080"),
        (("--port", "99999"), "WrongUsageError", "65535"),
    ],
)
def test_servers_that_cannot_be(alpaca: Alpaca, options: tuple[str, ...], kind: str, hint: str) -> None:
    refused = alpaca("models", "command", "chinese-alpaca-2-7b", *options, "--json")
    assert (refused.code, refused.error["type"]) == (2, kind)
    assert hint in refused.error["hint"]
