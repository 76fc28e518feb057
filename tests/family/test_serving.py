"""The command that starts a model server: every figure of the RoPE plan in it, and nothing reachable from outside."""

from __future__ import annotations

import json
import math

import pytest

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard, find_model
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.family.serving import ENGINES, serving_command

PLAIN = find_model("chinese-alpaca-2-7b")
LINEAR = find_model("chinese-alpaca-2-7b-16k")
YARN = find_model("chinese-alpaca-2-7b-64k")
CASES = [(PLAIN, 4096), (PLAIN, 12288), (LINEAR, 16384), (LINEAR, 32768), (YARN, 65536), (YARN, 20000)]


def value(command: list[str], option: str) -> str:
    """What follows ``option``, which stands once."""
    assert command.count(option) == 1, option
    return command[command.index(option) + 1]


def vllm_longest(overrides: dict[str, object]) -> float:
    """The longest sequence that vLLM derives (vllm/config/model.py, ``_get_and_verify_max_len``)."""
    rope = overrides["rope_parameters"]
    assert isinstance(rope, dict)
    longest = float(str(overrides["max_position_embeddings"]))
    if rope["rope_type"] == "yarn":
        longest = rope["original_max_position_embeddings"]
    return float(longest * rope.get("factor", 1.0))


@pytest.mark.parametrize(("card", "window"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_vllm(card: ModelCard, window: int) -> None:
    command = serving_command(card, window, engine="vllm")
    plan = plan_rope(card, window)
    overrides = json.loads(value(command, "--hf-overrides"))
    assert overrides["rope_parameters"] == plan.for_transformers()
    assert vllm_longest(overrides) >= window
    assert value(command, "--max-model-len") == str(window)
    assert command[command.index("serve") + 1] == card.hub
    assert value(command, "--served-model-name") == card.name
    assert value(command, "--generation-config") == "vllm"
    assert "VLLM_NO_USAGE_STATS=1" in command


@pytest.mark.parametrize(("card", "window"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_llama_server(card: ModelCard, window: int) -> None:
    command = serving_command(card, window, engine="llama-server", kv_type="q8_0")
    plan = plan_rope(card, window)
    context = math.ceil(window / 256) * 256
    assert value(command, "--ctx-size") == str(context)
    assert value(command, "--override-kv") == f"llama.context_length=int:{context}"
    assert value(command, "--parallel") == "1"
    assert value(command, "--rope-scaling") == {"default": "none", "linear": "linear", "yarn": "yarn"}[plan.kind]
    assert float(value(command, "--rope-freq-base")) == plan.theta
    assert float(value(command, "--rope-freq-scale")) == plan.for_llama_cpp()["rope_freq_scale"]
    assert float(value(command, "--yarn-ext-factor")) == (1.0 if card is YARN else 0.0)
    assert value(command, "--yarn-orig-ctx") == "4096"
    assert (value(command, "--cache-type-k"), value(command, "--cache-type-v")) == ("q8_0", "q8_0")
    assert value(command, "--flash-attn") == "on"
    assert {"--no-context-shift", "--no-webui", "--offline"} <= set(command)


@pytest.mark.parametrize(("card", "window"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_llama_cpp_python(card: ModelCard, window: int) -> None:
    command = serving_command(card, window, engine="llama-cpp-python", kv_type="q4_0")
    for name, figure in plan_rope(card, window).for_llama_cpp().items():
        assert float(value(command, f"--{name}")) == figure
    assert (value(command, "--type_k"), value(command, "--flash_attn")) == ("2", "true")
    assert value(command, "--logits_all") == "false"
    assert value(command, "--interrupt_requests") == "false"


def test_llama_cpp_pythons_own_parser_takes_it() -> None:
    settings = pytest.importorskip("llama_cpp.server.settings")
    cli = pytest.importorskip("llama_cpp.server.cli")
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_args_from_model(parser, settings.ModelSettings)
    cli.add_args_from_model(parser, settings.ServerSettings)
    arguments = parser.parse_args(serving_command(YARN, engine="llama-cpp-python", path="/m/a.gguf")[3:])
    parsed = cli.parse_model_from_args(settings.ModelSettings, arguments)
    assert (parsed.model, parsed.n_ctx, parsed.rope_scaling_type, parsed.logits_all) == ("/m/a.gguf", 65536, 2, False)
    assert parsed.rope_freq_scale == 1 / 16


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_every_model_has_a_command_that_stays_on_this_machine(card: ModelCard, engine: str) -> None:
    command = serving_command(card, engine=engine)
    assert value(command, "--host") == "127.0.0.1"
    assert all(isinstance(word, str) and word for word in command)
    assert value(serving_command(card, engine=engine, port=1234, host="::1"), "--port") == "1234"


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"engine": "ollama"}, WrongUsageError, "llama-server"),
        ({"engine": "vllm", "kv_type": "q8_0"}, WrongUsageError, "f16"),
        ({"engine": "llama-server", "kv_type": "q2_k"}, WrongUsageError, "q4_0"),
        ({"engine": "vllm", "port": 0}, WrongUsageError, "65535"),
        ({"engine": "vllm", "port": 70000}, WrongUsageError, "65535"),
        ({"engine": "vllm", "path": "/models/a.gguf"}, WrongUsageError, "--engine llama-server"),
        ({"engine": "llama-server", "path": "/models/folder"}, WrongUsageError, "--engine vllm"),
        ({"engine": "vllm", "window": 20000}, WindowUnreachableError, "chinese-alpaca-2-7b-64k"),
    ],
)
def test_what_cannot_be_meant(fields: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        serving_command(PLAIN, **fields)  # type: ignore[arg-type]
