from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.template import Turn, render_prompt
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.messages import as_turns, count_fragments
from tests.toy_family import ToyCheckpoint
from tests.toy_tokenizer import toy_tokenizer_model

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_each_message_is_one_turn() -> None:
    messages = [
        SystemMessage("规则"),
        HumanMessage(["你", {"type": "text", "text": "好"}]),
        AIMessage("在"),
        ChatMessage(content="再见", role="user"),
        ChatMessage(content="好", role="assistant"),
    ]
    assert as_turns(messages) == [
        Turn("system", "规则"),
        Turn("user", "你好"),
        Turn("assistant", "在"),
        Turn("user", "再见"),
        Turn("assistant", "好"),
    ]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (ToolMessage("42", tool_call_id="1"), "tool"),
        (FunctionMessage(content="42", name="f"), "function"),
        (ChatMessage(content="42", role="critic"), "critic"),
        (RemoveMessage(id="1"), "remove"),
        (HumanMessage([{"type": "text", "text": "看图"}, IMAGE]), "image_url"),
        (HumanMessage([{"type": "text"}]), "text"),
        (AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]), "tools"),
    ],
)
def test_what_the_model_cannot_read_is_refused_by_name(message: BaseMessage, named: str) -> None:
    with pytest.raises(WrongUsageError) as refused:
        as_turns([HumanMessage("你好"), message])
    assert named in refused.value.message.en
    assert refused.value.hint.zh


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SystemMessage("规则")],
        [HumanMessage("你好"), AIMessage("在")],
        [AIMessage("在"), HumanMessage("你好")],
        [HumanMessage("你好"), SystemMessage("规则"), HumanMessage("在吗")],
        [HumanMessage("你好"), ToolMessage("42", tool_call_id="1")],
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(messages: list[BaseMessage], toy: ToyCheckpoint) -> None:
    model = ChatAlpacaGGUF(model_path=toy.gguf)
    with pytest.raises(WrongUsageError):
        model.invoke(messages)
    assert model._backend is None


def test_two_messages_of_one_speaker_are_read_as_one(toy: ToyCheckpoint) -> None:
    model = ChatAlpacaGGUF(model_path=toy.gguf)
    apart = [SystemMessage("一"), SystemMessage("二"), HumanMessage("三"), HumanMessage("四")]
    assert model.render(apart) == model.render([SystemMessage("一\n二"), HumanMessage("三\n四")])


DIALOGUE: list[BaseMessage] = [
    SystemMessage("你是助手。只用资料回答。"),
    HumanMessage("年假有几天？"),
    AIMessage("五天。工作满十年的员工有十天。"),
    HumanMessage("出差住宿的标准是多少？"),
    AIMessage("一线城市每晚五百元。"),
    HumanMessage("谢谢，还有呢？"),
]


def test_trimming_a_conversation_by_the_models_own_count_makes_it_fit(toy: ToyCheckpoint) -> None:
    model = ChatAlpacaGGUF(model_path=toy.gguf)
    whole = model.count_prompt_tokens(DIALOGUE)
    seen = set()
    for budget in range(40, whole + 80, 5):
        kept = trim_messages(
            DIALOGUE, max_tokens=budget, token_counter=model, strategy="last", include_system=True, start_on="human"
        )
        if isinstance(kept[-1], HumanMessage):
            assert model.count_prompt_tokens(kept) <= budget
            seen.add(len(kept))
    assert seen == {2, 4, 6}


@given(st.lists(st.sampled_from(as_turns(DIALOGUE)), max_size=6), st.sampled_from(["alpaca-2", "ziya2"]))
@settings(max_examples=60, deadline=None)
def test_fragments_never_count_for_less_than_any_conversation_made_of_them(turns: list[Turn], template: str) -> None:
    tokenizer = FamilyTokenizer.from_bytes(toy_tokenizer_model())
    counted = count_fragments(template, turns, tokenizer)
    for order in set(permutations(turns)):
        try:
            exact = len(render_prompt(template, order, tokenizer).ids)
        except WrongUsageError:
            continue
        assert counted >= exact


def test_tools_are_refused_in_counting(toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match="tools"):
        ChatAlpacaGGUF(model_path=toy.gguf).get_num_tokens_from_messages([HumanMessage("你好")], tools=[{"name": "f"}])
