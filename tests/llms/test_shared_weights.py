"""Copies, pickles and several objects over one set of weights; what breaks in, and what a cache may keep."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import ConfigurableField

from chinese_alpaca_rag.errors import ModelError, WrongUsageError
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.conftest import OpenModel
from tests.toy_family import ToyCheckpoint

QUESTION = "公司的年假有几天？"


@pytest.fixture
def cache() -> Iterator[InMemoryCache]:
    kept = InMemoryCache()
    set_llm_cache(kept)
    yield kept
    set_llm_cache(None)


def loads(model: LocalChat, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time that weights are opened from now on."""
    seen: list[str] = []
    load = type(model)._load

    def counted(self: LocalChat, *arguments: Any) -> Any:
        seen.append(self.model_name)
        return load(self, *arguments)

    monkeypatch.setattr(type(model), "_load", counted)
    return seen


def test_objects_that_would_open_the_same_share_it(open_model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    one = open_model(max_tokens=8, temperature=0)
    opened = loads(one, monkeypatch)
    other = open_model(max_tokens=8, temperature=1.0, seed=1)
    wider = open_model(max_tokens=8, window=2048)
    expected = one.invoke(QUESTION).content
    other.invoke(QUESTION)
    assert len(opened) == 1
    wider.invoke(QUESTION)
    assert len(opened) == 2
    one.close()
    other.invoke(QUESTION)
    assert len(opened) == 2
    other.close()
    assert one._backend is None
    assert one.invoke(QUESTION).content == expected
    assert len(opened) == 3


def test_a_copy_outlives_the_original(open_model: OpenModel) -> None:
    model = open_model(max_tokens=8, temperature=0)
    expected = model.invoke(QUESTION).content
    for other in (model.model_copy(), copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.invoke(QUESTION).content == expected
        other.close()
    warmer = model.model_copy(update={"temperature": 1.5, "seed": 3})
    model.close()
    assert warmer.invoke(QUESTION).content == open_model(max_tokens=8, temperature=1.5, seed=3).invoke(QUESTION).content
    narrow = model.model_copy(update={"window": 256})
    assert narrow.rope.window == 256
    with pytest.raises(WrongUsageError, match="temperature"):
        model.model_copy(update={"temperature": -1})


def test_configured_calls_load_once(open_model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(max_tokens=6, temperature=0)
    opened = loads(model, monkeypatch)
    configurable = model.configurable_fields(temperature=ConfigurableField(id="t"))
    for temperature in (0.0, 0.5, 1.0):
        configurable.with_config(configurable={"t": temperature}).invoke(QUESTION)
    assert len(opened) == 1


def test_forty_streams_at_once_do_not_wait_for_one_another_in_circles(open_model: OpenModel) -> None:
    model = open_model(max_tokens=6, temperature=0)
    expected = model.invoke(QUESTION).content

    async def follow() -> str:
        return "".join([str(chunk.content) async for chunk in model.astream(QUESTION)])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(follow() for _ in range(40)))

    began = time.monotonic()
    assert asyncio.run(all_of_them()) == [expected] * 40
    assert time.monotonic() - began < 20  # it was a second for each when they shared the loop's few threads


def test_half_an_answer_is_never_kept(open_model: OpenModel, cache: InMemoryCache) -> None:
    model = open_model(max_tokens=3000, min_tokens=3000, temperature=0)

    async def called_off() -> None:
        for work in (model.abatch([QUESTION, "你好"]), model.ainvoke(QUESTION)):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work, 0.2)

    asyncio.run(called_off())
    model.next_token_logits([1, 300])  # once the threads that were called off have gone
    assert cache._cache == {}


def test_a_cache_tells_settings_apart(open_model: OpenModel, cache: InMemoryCache) -> None:
    answers = [
        open_model(max_tokens=tokens, temperature=0, repetition_penalty=penalty).invoke(QUESTION).content
        for tokens, penalty in ((4, 1.0), (8, 1.0), (8, 3.0))
    ]
    assert len(cache._cache) == 3
    assert len(set(answers)) == 3


def test_what_breaks_in_leaves_nothing_half_done(open_model: OpenModel) -> None:
    """An interruption between the backend's own lines: what was held is not trusted afterwards."""
    model = open_model(max_tokens=6, temperature=0)
    expected = model.invoke(QUESTION).content
    backend = model._opened()
    for name in ("keep", "evaluate", "extend", "fork", "reorder", "logits"):
        work = getattr(backend, name)

        def interrupted(*arguments: Any, work: Any = work) -> Any:
            work(*arguments)
            raise KeyboardInterrupt

        vars(backend)[name] = interrupted
        for options in ({}, {"num_beams": 3}, {"guidance_scale": 2.0, "negative_prompt": "别的"}):
            with suppress(KeyboardInterrupt):
                model.invoke("员工手册规定了什么？", **options)
        del vars(backend)[name]
        assert model.invoke(QUESTION).content == expected, name


def test_one_bad_row_spoils_no_other(open_model: OpenModel) -> None:
    model = open_model(max_tokens=4, temperature=0)
    questions = ["你好", "员工", "年假"]
    expected = [model.invoke(question).content for question in questions]
    backend = model._opened()
    row_logits = backend.row_logits
    read: list[int] = []

    def poisoned(row: int) -> Any:
        """The second row of the first step is no number."""
        read.append(row)
        return np.full_like(row_logits(row), np.nan) if len(read) == 2 else row_logits(row)

    vars(backend)["row_logits"] = poisoned
    answers = model.batch([*questions], return_exceptions=True)
    assert sum(isinstance(answer, ModelError) for answer in answers) == 1
    for answer, text in zip(answers, expected, strict=True):
        assert isinstance(answer, ModelError) or answer.content == text


def test_a_model_asked_from_its_own_loading_says_so(toy: ToyCheckpoint) -> None:
    model: ChatAlpacaGGUF = ChatAlpacaGGUF(
        model_path=toy.gguf, n_threads=1, window=512, on_progress=lambda _: model.close()
    )
    with pytest.raises(WrongUsageError, match="on_progress"):
        model.invoke(QUESTION)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"window": "abc"}, "window"),
        ({"window": 4096.5}, "window"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": "x"}, "stop"),
        ({"n_threads": 0}, "n_threads"),
        ({"n_threads": 10**9}, "n_threads"),
        ({"batch_size": 99}, "batch_size"),
        ({"kv_type": "q5"}, "kv_type"),
        ({"logprobs": 5}, "logprobs"),
        ({"num_beams": 10**6}, "num_beams"),
        ({"num_beams": 2, "guidance_scale": 2.0}, "guidance_scale"),
    ],
)
def test_every_wrong_field_is_named_in_the_kits_own_words(
    toy: ToyCheckpoint, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(WrongUsageError) as refused:
        ChatAlpacaGGUF.model_validate({"model_path": toy.gguf, **fields})
    assert named in refused.value.text("en")
    assert "pydantic" not in refused.value.text("en")


@pytest.mark.parametrize("arguments", [{"stop": 5}, {"guidance_scale": 2.0, "negative_prompt": 5}, {"logprobs": "yes"}])
def test_every_wrong_argument_is_too(open_model: OpenModel, arguments: dict[str, Any]) -> None:
    with pytest.raises(WrongUsageError, match=list(arguments)[-1]):
        open_model().invoke(QUESTION, **arguments)
