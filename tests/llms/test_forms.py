"""Tools and a response format on a real model: held while written, judged afterwards, told in streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError
from pydantic import BaseModel, Field

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.test_answers import read
from tests.toy_family import ToyCheckpoint


class Leave(BaseModel):
    """A request for leave."""

    name: str = Field(max_length=8)
    days: int = Field(ge=1, le=30)


@tool
def holidays(year: int) -> str:
    """The public holidays of a year."""
    return f"{year}: 11"


FORMAT = {"type": "json_schema", "json_schema": {"name": "leave", "schema": Leave.model_json_schema()}}


@pytest.fixture(params=["gguf", "hf"])
def open_closing(
    request: pytest.FixtureRequest, toy_closing: ToyCheckpoint, closing: Callable[[LocalChat], LocalChat]
) -> Callable[..., LocalChat]:
    def open_it(**fields: Any) -> LocalChat:
        place: dict[str, Any] = {"max_tokens": 300, "temperature": 0, **fields}
        if request.param == "gguf":
            return closing(ChatAlpacaGGUF(model_path=toy_closing.gguf, n_threads=1, **place))
        return closing(ChatAlpacaHF(model_path=toy_closing.hf, device="cpu", **place))

    return open_it


@pytest.mark.parametrize("temperature", [0, 0.8, 1.5])
def test_an_answer_is_json_of_its_schema(open_closing: Callable[..., LocalChat], temperature: float) -> None:
    model = open_closing(temperature=temperature, seed=5)
    for question in ("张三请假五天。", "李四想休息。", "x"):
        leave = Leave.model_validate(model.with_structured_output(Leave).invoke(question))
        assert 1 <= leave.days <= 30
        raw = model.invoke(question, response_format=FORMAT)
        assert set(json.loads(str(raw.content))) == {"name", "days"}
        assert read(model.stream(question, response_format=FORMAT)).content == raw.content
        assert raw.response_metadata["finish_reason"] == "stop"


def test_a_batch_of_answers_is_held_row_by_row(open_closing: Callable[..., LocalChat]) -> None:
    model = open_closing(seed=1)
    for leave in model.with_structured_output(Leave).batch(["张三请假五天。", "李四想休息。", "王五"]):
        assert Leave.model_validate(leave)


def test_a_schema_that_cannot_end_within_the_budget_is_an_error(open_closing: Callable[..., LocalChat]) -> None:
    model = open_closing()
    with pytest.raises(WrongUsageError, match="tokens"):
        model.with_structured_output(Leave).bind(max_tokens=3).invoke("张三")
    long = {"type": "object", "properties": {"text": {"type": "string", "minLength": 60}}, "required": ["text"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "long", "schema": long}}
    with pytest.raises(StructuredOutputError) as cut:
        model.invoke("写长一点", response_format=wanted, max_tokens=20)
    assert cut.value.partial.lstrip().startswith("{")
    with pytest.raises(StructuredOutputError):
        list(model.stream("写长一点", response_format=wanted, max_tokens=20))


def test_a_forced_call_is_of_the_tools_own_schema(open_closing: Callable[..., LocalChat]) -> None:
    answer = open_closing().bind_tools([holidays], tool_choice="holidays").invoke("2030 年有几天假？")
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert call["name"] == "holidays"
    assert isinstance(call["args"]["year"], int)
    assert answer.content == ""


def test_with_tools_a_response_format_holds_the_answer_that_calls_none(open_closing: Callable[..., LocalChat]) -> None:
    model = open_closing(temperature=1.2)
    kinds = set()
    for seed in range(12):
        answer = model.bind_tools([holidays]).invoke("张三请假五天。", response_format=FORMAT, seed=seed)
        if answer.tool_calls or answer.invalid_tool_calls:
            kinds.add("called")
        else:
            assert Leave.model_validate_json(str(answer.content))
            kinds.add("answered")
    assert kinds == {"called", "answered"}
    with pytest.raises(WrongUsageError, match="response_format"):
        model.bind_tools([holidays], tool_choice="any").invoke("x", response_format=FORMAT)


def test_an_agent_with_tools_and_a_response_format_comes_to_its_end(open_closing: Callable[..., LocalChat]) -> None:
    ended = 0
    for seed in range(6):
        model = open_closing(temperature=1.2, seed=seed)
        agent = create_agent(model, tools=[holidays], response_format=Leave)
        # Random weights may call for ever; the graph then says so.
        with suppress(GraphRecursionError):
            state = agent.invoke({"messages": [HumanMessage("张三请假五天。")]}, {"recursion_limit": 12})
            assert isinstance(state["structured_response"], Leave)
            ended += 1
    assert ended
