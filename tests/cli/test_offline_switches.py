"""The environment that keeps dependencies from phoning home."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chinese_alpaca_rag.offline import QUIET, TRACING, stay_offline


def prepared(environment: dict[str, str], *, keep_tracing: bool | None = None) -> dict[str, str]:
    stay_offline(environment=environment, keep_tracing=keep_tracing)
    return environment


def test_everything_is_switched_off_in_an_empty_environment() -> None:
    environment = prepared({})
    assert environment["HF_HUB_OFFLINE"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["LANGCHAIN_TRACING_V2"] == environment["LANGSMITH_TRACING"] == "false"
    assert set(QUIET) < set(environment)


def test_what_the_user_set_stays() -> None:
    environment = prepared({"HF_HUB_OFFLINE": "0", "TOKENIZERS_PARALLELISM": "true"})
    assert (environment["HF_HUB_OFFLINE"], environment["TOKENIZERS_PARALLELISM"]) == ("0", "true")


@pytest.mark.parametrize("name", TRACING)
def test_tracing_goes_off_even_where_the_user_has_it_on(name: str) -> None:
    environment = prepared({name: "true"})
    assert {environment[each] for each in TRACING if each in environment} == {"false"}


@pytest.mark.parametrize("name", TRACING)
def test_tracing_stays_where_the_user_allows_it(name: str) -> None:
    environment = prepared({name: "true", "ALPACA_RAG_ALLOW_TRACING": "1"})
    assert [each for each in TRACING if each in environment] == [name]
    assert environment[name] == "true"


def test_allowing_tracing_does_not_switch_it_on() -> None:
    environment = prepared({"ALPACA_RAG_ALLOW_TRACING": "1"})
    assert environment["LANGSMITH_TRACING"] == "false"


def test_a_program_can_keep_its_own_choice() -> None:
    assert prepared({"LANGSMITH_TRACING": "true"}, keep_tracing=True)["LANGSMITH_TRACING"] == "true"


@pytest.mark.parametrize(("allowed", "answer"), [("", "False"), ("1", "True")])
def test_langsmith_agrees(allowed: str, answer: str) -> None:
    program = (
        "from chinese_alpaca_rag.offline import stay_offline; stay_offline()\n"
        "from langsmith.utils import tracing_is_enabled; print(bool(tracing_is_enabled()))"
    )
    environment = {**os.environ, "LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true"}
    environment["ALPACA_RAG_ALLOW_TRACING"] = allowed
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == answer
