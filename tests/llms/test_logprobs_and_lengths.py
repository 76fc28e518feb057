"""Log-probabilities, and the least length of a reply."""

from __future__ import annotations

import math

import pytest
from langchain_core.messages import HumanMessage

from chinese_alpaca_rag.llms.sampling import log_softmax
from tests.llms.conftest import OpenModel
from tests.llms.test_answers import output_tokens, read

QUESTION = "公司的年假有几天？"


def test_log_probabilities_are_the_models_own(open_model: OpenModel) -> None:
    model = open_model(max_tokens=8, temperature=0.7, seed=3, logprobs=True, top_logprobs=3)
    answer = model.invoke(QUESTION)
    content = answer.response_metadata["logprobs"]["content"]
    assert len(content) == output_tokens(answer)
    assert b"".join(bytes(entry["bytes"]) for entry in content).decode(errors="replace").strip() == answer.text.strip()
    logits = model.next_token_logits(model.render([HumanMessage(QUESTION)]).ids)
    best = sorted(log_softmax(logits), reverse=True)[:3]
    assert [entry["logprob"] for entry in content[0]["top_logprobs"]] == pytest.approx(best, abs=0.01)
    for entry in content:
        assert entry["logprob"] <= 0
        assert entry["logprob"] <= entry["top_logprobs"][0]["logprob"] + 1e-9
        assert sum(math.exp(other["logprob"]) for other in entry["top_logprobs"]) <= 1 + 1e-6


def test_a_stream_tells_the_same_log_probabilities(open_model: OpenModel) -> None:
    model = open_model(max_tokens=20, temperature=1.2, seed=5, logprobs=True)
    whole = model.invoke(QUESTION).response_metadata["logprobs"]
    streamed = read(model.stream(QUESTION)).response_metadata["logprobs"]
    assert [entry["bytes"] for entry in streamed["content"]] == [entry["bytes"] for entry in whole["content"]]


def test_none_are_told_unless_asked_for(open_model: OpenModel) -> None:
    model = open_model(max_tokens=3)
    assert "logprobs" not in model.invoke(QUESTION).response_metadata
    assert "logprobs" in model.invoke(QUESTION, logprobs=True).response_metadata


def test_a_reply_does_not_end_before_its_least_length(open_model: OpenModel) -> None:
    model = open_model(max_tokens=60, temperature=1.5, top_k=0, top_p=1.0)
    free = [output_tokens(model.invoke(QUESTION, seed=seed)) for seed in range(12)]
    assert min(free) < 40  # the toy's end-of-text id is as likely as any other
    held = [output_tokens(model.invoke(QUESTION, seed=seed, min_tokens=40)) for seed in range(12)]
    assert min(held) >= 40


def test_a_stop_text_ends_it_even_before(open_model: OpenModel) -> None:
    model = open_model(max_tokens=40, temperature=0, min_tokens=40)
    whole = str(model.invoke(QUESTION).content)
    answer = model.invoke(QUESTION, stop=[whole[3:6]])
    assert answer.content == whole[: whole.index(whole[3:6])]
