"""Beam search and classifier-free guidance, held against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage, SystemMessage
from transformers import LogitsProcessorList, UnbatchedClassifierFreeGuidanceLogitsProcessor

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.sampling import guided, log_softmax
from tests.llms.conftest import OpenModel
from tests.llms.test_answers import long_question

QUESTION = "公司的年假有几天？"
PLAIN: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0}


def generated(model: Any, question: str, **options: Any) -> list[int]:
    """What transformers' ``generate`` writes after the prompt, with the model that ``model`` has loaded."""
    ids = torch.tensor([list(model.render([HumanMessage(question)]).ids)])
    with torch.inference_mode():
        output = model._opened()._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            eos_token_id=sorted(model.tokenizer.end_ids),
            pad_token_id=0,
            **options,
        )
    return [index for index in output[0, ids.shape[1] :].tolist() if index not in model.tokenizer.end_ids]


@pytest.mark.parametrize("beams", [2, 4, 7])
@pytest.mark.parametrize("tokens", [1, 12, 40])
def test_beams_find_what_transformers_finds(open_hf: OpenModel, beams: int, tokens: int) -> None:
    model = open_hf(max_tokens=tokens, num_beams=beams, **PLAIN)
    for question in (QUESTION, "出差住宿的标准是多少？", "你好"):
        expected = generated(model, question, num_beams=beams, max_new_tokens=tokens)
        answer = model.invoke(question)
        assert answer.content == model.tokenizer.decode(expected)
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_tokens"] == len(expected)


def test_a_beams_score_is_the_mean_log_probability_of_its_ids(open_model: OpenModel) -> None:
    model: Any = open_model(max_tokens=10, num_beams=5, **PLAIN)
    _, request = model._prepare([HumanMessage(QUESTION)], None, {})
    best = model._answer_to(request, Cancellation())._search(model._opened())
    ids, logprobs = list(request.ids), []
    for index in best.ids:
        logprobs.append(log_softmax(model.next_token_logits(ids))[index])
        ids.append(index)
    assert best.score == pytest.approx(np.mean(logprobs), abs=0.01)


def test_beams_honour_stop_texts_and_come_in_one_piece(open_model: OpenModel) -> None:
    model = open_model(max_tokens=30, num_beams=3, **PLAIN)
    whole = str(model.invoke(QUESTION).content)
    chunks = [chunk for chunk in model.stream(QUESTION) if chunk.content]
    assert [chunk.content for chunk in chunks] == [whole]
    assert model.invoke(QUESTION, stop=[whole[4:7]]).content == whole[: whole.index(whole[4:7])]


def test_beams_leave_the_model_as_it_was(open_model: OpenModel) -> None:
    model = open_model(max_tokens=20, temperature=0)
    before = model.invoke(QUESTION).content
    model.invoke(QUESTION, num_beams=4)
    again = model.invoke(QUESTION)
    assert again.content == before
    assert again.usage_metadata is not None
    assert again.usage_metadata["input_token_details"]["cache_read"] > 0


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_guidance_is_what_transformers_makes_of_it(open_hf: OpenModel, scale: float) -> None:
    model: Any = open_hf(max_tokens=24, guidance_scale=scale, **PLAIN)
    for negative in ("你是一个粗鲁的助手。", "x"):
        answer = model.invoke(QUESTION, negative_prompt=negative)
        unguided = model.render([SystemMessage(negative), HumanMessage(QUESTION)]).ids
        processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(
            scale, model._opened()._model, unconditional_ids=torch.tensor([list(unguided)])
        )
        expected = generated(model, QUESTION, max_new_tokens=24, logits_processor=LogitsProcessorList([processor]))
        assert answer.content == model.tokenizer.decode(expected)


def test_guidance_follows_its_formula_on_every_backend(open_model: OpenModel) -> None:
    """Step by step from the logits of two whole prompts; also with no negative prompt, and in a stream."""
    model: Any = open_model(max_tokens=10, guidance_scale=2.0, logprobs=True, **PLAIN)
    for negative in ("你是一个粗鲁的助手。", None):
        _, request = model._prepare([HumanMessage(QUESTION)], None, {"negative_prompt": negative})
        answer = model._answer_to(request, Cancellation())
        text = "".join(answer.pieces())
        rows = [list(request.ids), list(request.guidance.ids)]
        for chosen in answer.logprobs:
            scores = guided(model.next_token_logits(rows[0]).copy(), model.next_token_logits(rows[1]), 2.0)
            assert scores[chosen.id] > scores.max() - 0.05
            for row in rows:
                row.append(chosen.id)
        assert text == model.tokenizer.decode([chosen.id for chosen in answer.logprobs])


def test_guidance_of_1_is_none_and_more_changes_the_answer(open_model: OpenModel) -> None:
    model = open_model(max_tokens=20, **PLAIN)
    plain = model.invoke(QUESTION).content
    assert model.invoke(QUESTION, guidance_scale=1.0, negative_prompt="别的").content == plain
    assert model.invoke(QUESTION, guidance_scale=3.0, negative_prompt="别的").content != plain


def test_a_guided_answer_disturbed_by_another_goes_on_as_if_alone(open_model: OpenModel) -> None:
    model = open_model(max_tokens=16, guidance_scale=2.0, negative_prompt="别的", **PLAIN)
    expected = str(model.invoke(QUESTION).content)
    stream = model.stream(QUESTION)
    begun = [str(next(stream).content) for _ in range(4)]
    model.invoke("你好", guidance_scale=1.0)
    assert "".join([*begun, *(str(chunk.content) for chunk in stream)]) == expected


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 1000}, "num_beams"),
        ({"num_beams": 2, "guidance_scale": 2.0}, "guidance_scale"),
        ({"num_beams": 2, "logprobs": True}, "logprobs"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"top_logprobs": 1.5}, "top_logprobs"),
    ],
)
def test_what_cannot_be_meant_is_refused(open_model: OpenModel, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongUsageError, match=named):
        open_model().invoke(QUESTION, **arguments)


def test_rows_that_do_not_fit_the_context_are_refused_or_shortened(open_gguf: OpenModel) -> None:
    model = open_gguf(window=256, max_tokens=100, **PLAIN)
    prompt = model.count_prompt_tokens([HumanMessage(QUESTION)])
    answer = model.invoke(QUESTION, num_beams=8, min_tokens=100)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == (256 - prompt) // 8
    with pytest.raises(ContextOverflowError, match="256"):
        model.invoke(long_question(model, 250), num_beams=8)
