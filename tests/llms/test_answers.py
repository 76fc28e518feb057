"""What every chat model of the kit keeps, whichever backend is below it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage

from chinese_alpaca_rag.errors import AlpacaRagError, WrongUsageError
from chinese_alpaca_rag.llms.interface import CountsPrompts
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.conftest import OpenModel
from tests.llms.evaluations import Evaluations

QUESTION = "公司的年假有几天？"


def read(stream: Iterator[AIMessageChunk]) -> AIMessageChunk:
    chunks = list(stream)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def cache_read(answer: AIMessage) -> int:
    assert answer.usage_metadata is not None
    return answer.usage_metadata["input_token_details"]["cache_read"]


def output_tokens(answer: AIMessage) -> int:
    assert answer.usage_metadata is not None
    return answer.usage_metadata["output_tokens"]


def long_question(model: LocalChat, tokens: int) -> str:
    """A question whose prompt is exactly ``tokens`` long (one more word is one token more)."""
    bare = model.count_prompt_tokens([HumanMessage("")])
    question = "年" * (tokens - bare)
    assert model.count_prompt_tokens([HumanMessage(question)]) == tokens
    return question


def test_the_stream_joins_to_the_answer(open_model: OpenModel) -> None:
    for fields in ({"temperature": 0}, {"seed": 3, "temperature": 1.5}, {"seed": 4, "top_k": 0, "top_p": 1.0}):
        # How much is guessed, which the metadata tell, depends on the time that evaluations take.
        model = open_model(max_tokens=60, speculation="off", **fields)
        answer = model.invoke(QUESTION)
        streamed = read(model.stream(QUESTION))
        assert isinstance(answer, AIMessage)
        assert streamed.content == answer.content != ""
        assert output_tokens(streamed) == output_tokens(answer)
        assert streamed.response_metadata == answer.response_metadata


def test_a_stream_comes_piece_by_piece_and_ends_with_the_figures(open_model: OpenModel) -> None:
    chunks = list(open_model(max_tokens=30, seed=1).stream(QUESTION))
    assert len(chunks) > 10
    assert all(chunk.content for chunk in chunks[:-1])
    assert [chunk.usage_metadata for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].chunk_position == "last"
    assert chunks[-1].usage_metadata is not None


def test_pieces_are_never_half_a_character(open_model: OpenModel) -> None:
    """Only bytes that are no text at all, which random weights do produce, become U+FFFD: the same as at once."""
    model = open_model(max_tokens=200, temperature=2.0, top_k=0, top_p=1.0, seed=11)
    pieces = [str(chunk.content) for chunk in model.stream(QUESTION)]
    assert "".join(pieces) == model.invoke(QUESTION).content
    assert any(ord(character) > 127 for character in "".join(pieces))


def test_usage_and_metadata_say_what_was_done(open_model: OpenModel) -> None:
    model = open_model(max_tokens=12, temperature=0)
    answer = model.invoke(QUESTION)
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["input_tokens"] == model.count_prompt_tokens([HumanMessage(QUESTION)])
    assert usage["output_tokens"] == 12
    assert usage["total_tokens"] == usage["input_tokens"] + 12
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.response_metadata["model_name"] == "chinese-alpaca-2-toy"
    assert answer.response_metadata["window"] == 4096
    assert answer.response_metadata["rope"]["theta"] == 10000.0


def test_a_prompt_that_begins_as_the_last_one_is_evaluated_from_where_it_differs(open_model: OpenModel) -> None:
    model = open_model(max_tokens=4, temperature=0)
    evaluations = Evaluations(model)
    sources = SystemMessage("资料：正式员工每年享有年假，工作满一年的员工有五天年假。" * 8)
    first = model.invoke([sources, HumanMessage("年假有几天？")])
    prompt = model.count_prompt_tokens([sources, HumanMessage("年假有几天？")])
    assert evaluations.tokens == prompt + 3
    assert cache_read(first) == 0

    evaluations.batches.clear()
    second = model.invoke([sources, HumanMessage("出差住宿的标准是多少？")])
    prompt = model.count_prompt_tokens([sources, HumanMessage("出差住宿的标准是多少？")])
    assert cache_read(second) > 0.8 * prompt
    assert evaluations.tokens == prompt - cache_read(second) + 3
    model.close()
    fresh = model.invoke([sources, HumanMessage("出差住宿的标准是多少？")])
    assert fresh.content == second.content
    assert cache_read(fresh) == 0


def test_a_conversation_reuses_what_was_said(open_model: OpenModel) -> None:
    model = open_model(max_tokens=20, temperature=0)
    question = HumanMessage("请介绍员工手册。" * 5)
    answer = model.invoke([question])
    following = model.invoke([question, answer, HumanMessage("还有呢？")])
    assert cache_read(following) >= model.count_prompt_tokens([question])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(open_model: OpenModel, streaming: bool) -> None:
    model = open_model(max_tokens=80, temperature=0)
    full = str(model.invoke(QUESTION).content)
    # Stretches from the middle of the answer, which span several tokens.
    for start, length in ((5, 1), (9, 6), (20, 12)):
        stop = full[start : start + length]
        expected = full[: full.index(stop)]
        answer = (
            read(model.stream(QUESTION, stop=["not in it", stop])) if streaming else model.invoke(QUESTION, stop=[stop])
        )
        assert answer.content == expected
        assert answer.response_metadata["finish_reason"] == "stop"


def test_a_stop_text_ends_the_evaluation_too(open_model: OpenModel) -> None:
    model = open_model(max_tokens=80, temperature=0, speculation="off")
    stop = str(model.invoke(QUESTION).content)[4:8]
    evaluations = Evaluations(model)
    answer = model.invoke(QUESTION, stop=[stop])
    assert output_tokens(answer) < 30
    assert evaluations.tokens <= output_tokens(answer)


def test_the_models_own_stop_texts_hold_unless_a_call_has_others(open_model: OpenModel) -> None:
    full = str(open_model(max_tokens=40, temperature=0).invoke(QUESTION).content)
    model = open_model(max_tokens=40, temperature=0, stop=[full[10:13]])
    assert model.invoke(QUESTION).content == full[: full.index(full[10:13])]
    assert model.invoke(QUESTION, stop=[full[3:5]]).content == full[: full.index(full[3:5])]
    assert model.invoke(QUESTION, stop=[]).content == full


def test_what_looked_like_a_stop_text_to_the_very_end_is_shown(open_model: OpenModel) -> None:
    model = open_model(max_tokens=40, temperature=0)
    full = str(model.invoke(QUESTION).content)
    stop = full[-4:] + "and more that never comes"
    assert read(model.stream(QUESTION, stop=[stop])).content == full


def test_a_seed_makes_answers_repeatable(open_model: OpenModel) -> None:
    model = open_model(max_tokens=40, temperature=1.0)
    seeded = [model.invoke(QUESTION, seed=seed).content for seed in (5, 5, 6)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert open_model(max_tokens=40, temperature=1.0, seed=5).invoke(QUESTION).content == seeded[0]
    assert len({model.invoke(QUESTION).content for _ in range(3)}) > 1


def test_a_call_can_say_otherwise_than_the_model(open_model: OpenModel) -> None:
    model = open_model(max_tokens=40, temperature=1.0, seed=1)
    greedy = open_model(max_tokens=10, temperature=0)
    assert model.invoke(QUESTION, temperature=0, max_tokens=10).content == greedy.invoke(QUESTION).content
    assert model.bind(temperature=0, max_tokens=10).invoke(QUESTION).content == greedy.invoke(QUESTION).content
    penalised = greedy.invoke(QUESTION, repetition_penalty=5.0, max_tokens=40).content
    assert penalised != greedy.invoke(QUESTION, repetition_penalty=1.0, max_tokens=40).content


@pytest.mark.parametrize(
    ("argument", "near"),
    [("max_token", "max_tokens"), ("repeat_penalty", "repetition_penalty"), ("max_new_tokens", "max_tokens")],
)
def test_unknown_arguments_of_a_call_are_refused(open_model: OpenModel, argument: str, near: str) -> None:
    model = open_model()
    bound = model.bind(**{argument: 3})
    for call in (lambda: bound.invoke("你好"), lambda: list(bound.stream("你好"))):
        with pytest.raises(WrongUsageError, match=argument) as refused:
            call()
        assert near in refused.value.hint.en
    assert model._backend is None


@pytest.mark.parametrize(
    "argument", [{"temperature": -1}, {"top_p": 0}, {"top_k": 1.5}, {"max_tokens": 0}, {"seed": -1}, {"top_p": "high"}]
)
def test_arguments_that_cannot_be_meant_are_refused(open_model: OpenModel, argument: dict[str, object]) -> None:
    with pytest.raises(WrongUsageError, match=next(iter(argument))):
        open_model().bind(**argument).invoke("你好")


@pytest.mark.parametrize("stop", ["。", [""], [3]])
def test_stop_texts_that_are_none_are_refused(open_model: OpenModel, stop: list[str]) -> None:
    with pytest.raises(WrongUsageError, match="stop"):
        open_model().invoke("你好", stop=stop)


def test_a_prompt_longer_than_the_window_is_refused_before_anything_is_evaluated(open_model: OpenModel) -> None:
    model = open_model(window=300, max_tokens=20)
    question = long_question(model, 300)
    with pytest.raises(ContextOverflowError, match="300") as refused:
        model.invoke(question)
    assert isinstance(refused.value, AlpacaRagError)
    assert "window=" in refused.value.hint.en
    assert pickle.loads(pickle.dumps(refused.value)).text("zh") == refused.value.text("zh")
    with pytest.raises(ContextOverflowError):
        list(model.stream(question))
    assert model._backend is None


def test_a_reply_ends_where_the_window_does(open_model: OpenModel) -> None:
    """The last token of the window is usable, and no context beyond it is."""
    model = open_model(window=300, max_tokens=50, temperature=0)
    for room in (1, 2, 30):
        answer = model.invoke(long_question(model, 300 - room))
        assert output_tokens(answer) == room
        assert answer.response_metadata["finish_reason"] == "length"


def test_counting_is_counting_what_is_sent_and_loads_no_weights(open_model: OpenModel) -> None:
    model = open_model()
    messages = [SystemMessage("只用资料回答。"), HumanMessage("年假有几天？")]
    counted = model.count_prompt_tokens(messages)
    assert counted == len(model.render(messages).ids) == model.get_num_tokens_from_messages(messages)
    assert model.get_num_tokens("你好，世界") == len(model.tokenizer.encode("你好，世界"))
    assert model._backend is None
    answer = model.invoke(messages, max_tokens=1)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == counted


def test_it_is_what_chains_ask_for(open_model: OpenModel) -> None:
    model = open_model()
    assert isinstance(model, BaseChatModel)
    assert isinstance(model, CountsPrompts)
    assert model.window == 4096
    assert model.max_tokens == 400


def test_closing_frees_and_the_next_call_loads_again(open_model: OpenModel) -> None:
    with open_model(max_tokens=5, temperature=0) as model:
        before = model.invoke(QUESTION).content
        model.close()
        assert model._backend is None
        model.close()
        assert model.invoke(QUESTION).content == before
    assert model._backend is None


def test_lists_of_text_blocks_are_read(open_model: OpenModel) -> None:
    model = open_model()
    blocks = [HumanMessage(["年假", {"type": "text", "text": "有几天？"}])]
    assert model.render(blocks).ids == model.render([HumanMessage("年假有几天？")]).ids
