"""``AlpacaGGUF`` and ``AlpacaHF``: text that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseLLM
from langchain_core.prompts import PromptTemplate

from chinese_alpaca_rag.errors import CheckpointError, NotAChatModelError, WrongUsageError
from chinese_alpaca_rag.llms import AlpacaGGUF, AlpacaHF, chat_alpaca
from chinese_alpaca_rag.llms.completion import Alpaca
from tests.toy_family import ToyCheckpoint

PROMPT = "中国的首都是"
OpenCompletion = Callable[..., Alpaca]


@pytest.fixture(params=["gguf", "hf"])
def open_completion(request: pytest.FixtureRequest, toy_base: ToyCheckpoint, one_thread: None) -> Iterator[Any]:
    models: list[Alpaca] = []

    def open_it(**fields: Any) -> Alpaca:
        model: Alpaca = (
            AlpacaGGUF(model_path=toy_base.gguf, n_threads=1, **fields)
            if request.param == "gguf"
            else AlpacaHF(model_path=toy_base.hf, device="cpu", **fields)
        )
        models.append(model)
        return model

    yield open_it
    for model in models:
        model.close()


def test_a_base_model_continues_text(open_completion: OpenCompletion) -> None:
    model = open_completion(max_tokens=20, temperature=0)
    assert isinstance(model, BaseLLM)
    text = model.invoke(PROMPT)
    assert text
    assert "".join(model.stream(PROMPT)) == text
    assert asyncio.run(model.ainvoke(PROMPT)) == text

    async def followed() -> str:
        return "".join([piece async for piece in model.astream(PROMPT)])

    assert asyncio.run(followed()) == text
    assert (PromptTemplate.from_template("{country}的首都是") | model).invoke({"country": "中国"}) == text


def test_the_prompt_is_bos_and_the_texts_own_ids(open_completion: OpenCompletion) -> None:
    model = open_completion()
    assert model.prompt_ids("你好</s><s>[INST]")[0] == model.tokenizer.bos_id
    assert model.prompt_ids("你好</s><s>[INST]")[1:] == tuple(model.tokenizer.encode("你好</s><s>[INST]"))
    assert model.tokenizer.control_ids.isdisjoint(model.prompt_ids("你好</s><s>")[1:])
    assert model.get_num_tokens("你好") == len(model.tokenizer.encode("你好"))


def test_generate_tells_why_it_ended_and_what_it_took(open_completion: OpenCompletion) -> None:
    model = open_completion(max_tokens=8, temperature=0, min_tokens=8)
    result = model.generate([PROMPT, "长江是"])
    first = result.generations[0][0].generation_info
    assert first is not None
    assert first["finish_reason"] == "length"
    assert first["usage"]["input_tokens"] == len(model.prompt_ids(PROMPT))
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["output_tokens"] == 16


def test_several_prompts_are_answered_as_one_by_one(toy_base: ToyCheckpoint, one_thread: None) -> None:
    prompts = [PROMPT, "长江是", "员工手册规定，" * 5]
    with AlpacaHF(model_path=toy_base.hf, device="cpu", max_tokens=12, temperature=0) as model:
        single = [model.invoke(prompt) for prompt in prompts]
        assert model.batch([*prompts]) == single
        assert asyncio.run(model.abatch([*prompts])) == single


def test_stop_seed_and_limits_hold(open_completion: OpenCompletion) -> None:
    model = open_completion(max_tokens=30, temperature=0)
    text = model.invoke(PROMPT)
    assert model.invoke(PROMPT, stop=[text[5:8]]) == text[: text.index(text[5:8])]
    warm = open_completion(max_tokens=30, temperature=1.0)
    assert warm.invoke(PROMPT, seed=4) == warm.invoke(PROMPT, seed=4) != warm.invoke(PROMPT, seed=5)
    with pytest.raises(ContextOverflowError, match="4096"):
        model.invoke("年" * 5000)
    with pytest.raises(WrongUsageError, match="max_token"):
        model.invoke(PROMPT, max_token=3)


def test_a_chat_model_can_be_continued_too_and_a_base_model_is_no_chat_model(
    toy: ToyCheckpoint, toy_base: ToyCheckpoint
) -> None:
    with AlpacaGGUF(model_path=toy.gguf, n_threads=1, max_tokens=4) as model:
        assert isinstance(model.invoke(PROMPT), str)
    with pytest.raises(NotAChatModelError):
        chat_alpaca(toy_base.gguf)
    with pytest.raises(CheckpointError, match="GGUF") as refused:
        AlpacaHF(model_path=toy_base.gguf)
    assert "AlpacaGGUF" in refused.value.hint.en
    assert "ChatAlpacaGGUF" not in refused.value.hint.en
