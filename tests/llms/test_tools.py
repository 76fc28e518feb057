from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import InjectedToolArg, tool
from pydantic import BaseModel, Field

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.llms.tool_calls import ReplyStream, as_message, parse_reply, write_calls
from chinese_alpaca_rag.llms.tools import (
    MOST_CALLS,
    OPENING,
    ToolChoice,
    ToolSpec,
    read_choice,
    system_text,
    tool_specs,
    tools_constraint,
)
from tests.family.vocabularies import any_named
from tests.llms.random_writer import RandomChat, write


class Leave(BaseModel):
    """登记年假。"""

    days: int = Field(description="天数", ge=1, le=15)
    dates: list[str] = Field(default=[], max_length=2, json_schema_extra={"uniqueItems": True})
    kind: str = Field(default="年假", max_length=6)


class Branch(BaseModel):
    """A branch of the firm."""

    name: str = Field(max_length=4)
    under: list[Branch] = Field(default=[], max_length=2)


@tool
def clock() -> str:
    """What time it is."""
    return "9"


def weather(place: Annotated[str, "a town"], days: int = 1) -> str:
    """The weather."""
    return place * days


@tool
def secret(question: str, key: Annotated[str, InjectedToolArg]) -> str:
    """Ask."""
    return question + key


ANTHROPIC = {"name": "colour", "input_schema": {"type": "object", "properties": {"c": {"enum": ["red", "蓝"]}}}}
OPENAI = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
KINDS: dict[str, type[BaseModel]] = {"Leave": Leave, "Branch": Branch}
SPECS = tool_specs([Leave, Branch, clock, weather, ANTHROPIC, OPENAI])


def test_tools_of_every_form_become_specs() -> None:
    assert [spec.name for spec in SPECS] == ["Leave", "Branch", "clock", "weather", "colour", "search"]
    assert SPECS[0].description == "登记年假。"
    assert SPECS[0].parameters["properties"]["days"]["maximum"] == 15
    assert SPECS[2].parameters == {"type": "object", "properties": {}}
    assert SPECS[3].parameters["required"] == ["place"]
    assert list(tool_specs([secret])[0].parameters["properties"]) == ["question"]
    assert tool_specs([spec.as_openai() for spec in SPECS]) == SPECS


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        ([clock, {"name": "clock", "parameters": {"properties": {"zone": {"type": "string"}}}}], "clock"),
        ([5], "5"),
        ([{"type": "web_search"}], "web_search"),
        ([{"name": "", "parameters": {}}], "no tool"),
        ([{"name": "f", "parameters": {"type": "string"}}], "no object"),
        ([{"name": "f", "parameters": {"properties": {"a": {"type": "foo"}}}}], "foo"),
        ([{"name": "f", "parameters": {"properties": {"a": {"$ref": "http://x.test/"}}}}], "x.test"),
    ],
)
def test_what_is_no_tool_is_refused(tools: list[Any], named: str) -> None:
    with pytest.raises(WrongUsageError) as refused:
        tool_specs(tools)
    assert named in refused.value.message.en


@pytest.mark.parametrize(
    ("given_choice", "choice"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        (False, ToolChoice("none")),
        ("any", ToolChoice("required")),
        ("required", ToolChoice("required")),
        (True, ToolChoice("required")),
        ("clock", ToolChoice("required", "clock", parallel=False)),
        ({"type": "function", "function": {"name": "clock"}}, ToolChoice("required", "clock", parallel=False)),
        ({"type": "tool", "name": "clock"}, ToolChoice("required", "clock", parallel=False)),
    ],
)
def test_every_way_to_say_a_choice(given_choice: Any, choice: ToolChoice) -> None:
    assert read_choice(given_choice, SPECS) == choice


@pytest.mark.parametrize("wrong", ["clok", {"type": "function", "function": {"name": "clok"}}])
def test_a_choice_of_an_unknown_tool_is_refused_with_the_nearest(wrong: Any) -> None:
    with pytest.raises(WrongUsageError) as refused:
        read_choice(wrong, SPECS)
    assert "clock?" in refused.value.hint.en
    with pytest.raises(WrongUsageError):
        read_choice("any", ())
    with pytest.raises(WrongUsageError):
        read_choice(5, SPECS)


def test_a_tool_called_like_a_choice_is_that_tool() -> None:
    specs = tool_specs([{"name": "none", "parameters": {}}, {"name": "any", "parameters": {}}])
    assert read_choice("none", specs) == ToolChoice("required", "none", parallel=False)
    assert read_choice("any", specs) == ToolChoice("required", "any", parallel=False)


def test_the_system_text_describes_each_tool_on_a_line_in_the_conversations_language() -> None:
    chinese = system_text(SPECS, ToolChoice(), "zh")
    english = system_text(SPECS, ToolChoice(parallel=False), "en")
    lines = [json.loads(line) for line in chinese.splitlines() if line.startswith('{"name"')]
    assert [line["name"] for line in lines] == [spec.name for spec in SPECS]
    assert lines[0]["parameters"]["properties"]["days"]["description"] == "天数"
    assert "title" not in lines[0]["parameters"]["properties"]["days"]
    assert "直接用文字回答" in chinese and "plain text" in english
    assert "One" not in chinese and "one tool at a time" in english
    assert "plain text" not in system_text(SPECS, ToolChoice("required"), "en")
    assert "weather" not in system_text(SPECS, ToolChoice("required", "clock"), "en")
    assert system_text(SPECS, ToolChoice("none"), "en") == system_text((), ToolChoice(), "en") == ""


def test_without_a_callable_tool_there_is_no_constraint() -> None:
    assert tools_constraint(SPECS, ToolChoice("none")) is None
    assert tools_constraint((), ToolChoice()) is None


def written_calls(specs: tuple[ToolSpec, ...], choice: ToolChoice, seed: int, begin: str = "") -> str:
    constraint = tools_constraint(specs, choice)
    assert constraint is not None and constraint.opening == OPENING
    return write(constraint, any_named("toy"), max_tokens=600, seed=seed, begin=begin).text


@pytest.mark.parametrize("seed", range(8))
def test_required_calls_are_always_of_known_tools_with_arguments_of_their_schema(seed: int) -> None:
    specs = (*SPECS[:3], *SPECS[4:])  # the town of weather() may be as long as it likes
    content, calls, invalid = parse_reply(written_calls(specs, ToolChoice("required"), seed), specs)
    assert content == ""
    assert 1 <= len(calls) + len(invalid) <= MOST_CALLS
    for wrong in invalid:
        assert wrong["name"] == "Leave" and "uniqueItems" in (wrong["error"] or "")
    for call in calls:
        assert call["type"] == "tool_call" and str(call["id"]).startswith("call_") and len(str(call["id"])) == 29
        if call["name"] in KINDS:
            KINDS[call["name"]].model_validate(call["args"])


@pytest.mark.parametrize("name", ["Leave", "clock", "colour"])
def test_a_named_tool_is_the_one_that_is_called(name: str) -> None:
    for seed in range(3):
        reply = parse_reply(written_calls(SPECS, ToolChoice("required", name, parallel=False), seed), SPECS)
        assert [call["name"] for call in [*reply[1], *reply[2]]] == [name]
        if name == "clock":
            assert reply[1][0]["args"] == {}


def test_when_tools_may_be_called_the_first_characters_decide() -> None:
    for seed in range(4):
        text = written_calls(SPECS[2:3], ToolChoice(), seed)
        assert not text.startswith(OPENING)
        assert parse_reply(text, SPECS) == (text, [], [])
        called = written_calls(SPECS[2:3], ToolChoice(), seed, begin='{"')
        content, calls, _ = parse_reply(called, SPECS)
        assert bool(calls) == called.startswith(OPENING)
        assert bool(content) != bool(calls)


def test_two_tools_may_have_definitions_of_one_name() -> None:
    def one(name: str, kind: str) -> dict[str, Any]:
        inner = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "required": ["x"]}
        return {"name": name, "parameters": {**inner, "$defs": {"x": {"type": kind}}}}

    specs = tool_specs([one("yes", "boolean"), one("nothing", "null")])
    for seed in range(6):
        _, calls, invalid = parse_reply(written_calls(specs, ToolChoice("required"), seed), specs)
        assert not invalid
        for call in calls:
            assert (call["args"]["x"] is None) == (call["name"] == "nothing")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"name": "Leave", "arguments": {"days": 99}}', "99"),
        ('{"name": "Leave", "arguments": {"days": 1, "dates": ["a", "a"]}}', "uniqueItems"),
        ('{"name": "Leave", "arguments": {}}', "required"),
        ('{"name": "Leave", "arguments": "5"}', "no object"),
        ('{"name": "Leave"}', "no object"),
        ('{"name": "Leaf", "arguments": {}}', "nearest: Leave"),
        ('{"name": 5}', "no name"),
        ("5", "no name"),
    ],
)
def test_a_call_that_breaks_its_schema_is_invalid_with_the_reason(arguments: str, reason: str) -> None:
    text = f'{{"tool_calls": [{{"name": "clock", "arguments": {{}}}}, {arguments}]}}'
    content, calls, invalid = parse_reply(text, SPECS)
    assert (content, len(calls), len(invalid)) == ("", 1, 1)
    assert reason in (invalid[0]["error"] or "")
    # A stream says the same: what is invalid never becomes a call when chunks are joined.
    message, joined = as_message(text, SPECS), streamed(text)
    assert [call["name"] for call in joined.tool_calls] == [call["name"] for call in message.tool_calls] == ["clock"]
    assert [call["name"] for call in joined.invalid_tool_calls] == [call["name"] for call in message.invalid_tool_calls]
    assert reason in (joined.invalid_tool_calls[0]["args"] or "")


@pytest.mark.parametrize(
    "text",
    [
        '{"tool_calls"',
        '{"tool_calls": []}',
        '{"tool_calls": 5}',
        '{"tool_calls": [{"name": "clock", "arguments": {}}], "more": 1}',
        '{"tool_calls": ' + "[" * 5000,
    ],
)
def test_half_a_call_is_an_invalid_call_and_never_text(text: str) -> None:
    content, calls, invalid = parse_reply(text, SPECS)
    assert (content, calls) == ("", [])
    assert len(invalid) == 1 and invalid[0]["error"]
    assert streamed(text).invalid_tool_calls and not streamed(text).tool_calls


def streamed(text: str, size: int = 3) -> AIMessageChunk:
    """``text`` as the joined chunks of a stream in pieces of ``size`` characters."""
    reply = ReplyStream(SPECS)
    chunks = [AIMessageChunk(content=reply.push(text[start : start + size])) for start in range(0, len(text), size)]
    joined = AIMessageChunk(content="")
    for chunk in [*chunks, reply.finish()]:
        joined += chunk
    return joined


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "arguments", "x"]), inner),
    max_leaves=8,
)


@given(st.text() | _json.map(lambda value: json.dumps({"tool_calls": value})) | st.text().map(OPENING.__add__))
@settings(max_examples=200, deadline=None)
def test_reading_a_reply_never_fails_and_loses_nothing_of_a_text(text: str) -> None:
    content, calls, invalid = parse_reply(text, SPECS)
    assert content == text or calls or invalid
    joined = streamed(text, 2)
    assert joined.content == content
    assert [call["args"] for call in joined.tool_calls] == [call["args"] for call in calls]
    assert len(joined.invalid_tool_calls) == len(invalid)


def test_a_text_is_shown_as_soon_as_it_is_no_call() -> None:
    reply = ReplyStream(SPECS)
    assert reply.push('{"tool') == ""
    assert reply.push('box": 1}') == '{"toolbox": 1}'
    assert reply.push(" x") == " x"
    assert reply.finish().content == ""
    held = ReplyStream(SPECS)
    assert held.push('{"too') == ""
    assert held.finish().content == '{"too'


def test_calls_are_written_as_they_are_read() -> None:
    text = write_calls([("colour", {"c": "蓝"}), ("clock", {})])
    assert "蓝" in text and text.startswith(OPENING)
    _, calls, invalid = parse_reply(text, SPECS)
    assert [(call["name"], call["args"]) for call in calls] == [("colour", {"c": "蓝"}), ("clock", {})]
    assert not invalid


def test_a_chat_model_put_together_from_these_parts_calls_tools() -> None:
    model = RandomChat(max_tokens=600)
    called = model.bind_tools([Leave, clock], tool_choice="any").invoke("请假")
    assert isinstance(called, AIMessage) and (called.tool_calls or called.invalid_tool_calls)
    assert model.systems[-1].startswith("default\n\n你可以使用")
    full: Any = None
    for chunk in model.bind_tools([Leave, clock], tool_choice="any").stream([HumanMessage("Leave, please")]):
        full = chunk if full is None else full + chunk
    assert "You can use" in model.systems[-1]
    assert [call["args"] for call in full.tool_calls] == [call["args"] for call in called.tool_calls]
    talked = RandomChat(max_tokens=30).bind_tools([clock]).invoke("你好")
    assert talked.content and not talked.tool_calls
    with pytest.raises(StructuredOutputError, match="max_tokens=3"):
        RandomChat(max_tokens=3).bind_tools([clock], tool_choice="any").invoke("你好")
