"""Tool calls in a model's reply: told from text, read, and checked against the tools' own schemas.

A reply is hostile input: reading one never fails. What calls no known tool, or calls one with arguments that
its schema does not allow, is an invalid call with the reason, and nothing that an agent would carry out.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall
from langchain_core.messages.tool import (
    ToolCall,
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)

from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.tools import OPENING, ToolSpec, nearest_tool
from chinese_alpaca_rag.llms.verifying import broken_bound

_KEY: Final = "tool_calls"
Reply = tuple[str, list[ToolCall], list[InvalidToolCall]]


def write_calls(calls: Iterable[tuple[str, Any]]) -> str:
    """The JSON with which a model calls tools; ``calls`` are names and arguments."""
    listed = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return json.dumps({_KEY: listed}, ensure_ascii=False)


def parse_reply(text: str, specs: Sequence[ToolSpec]) -> Reply:
    """Content, calls and invalid calls of a whole reply; never raises. Text that calls nothing is all content."""
    if not text.lstrip().startswith(OPENING):
        return text, [], []
    try:
        value = json.loads(text)
        json.dumps(value)  # what can be read but is nested too deeply to be written again
    except (ValueError, RecursionError) as problem:
        return "", [], [_invalid(None, text, _words("不是完整的 JSON", "no whole JSON", problem))]
    listed = value[_KEY]
    if set(value) != {_KEY} or not isinstance(listed, list) or not listed:
        return "", [], [_invalid(None, text, _words("不是工具调用的格式", "not the form of tool calls"))]
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for item in listed:
        one = _read_call(item, specs)
        if one["type"] == "tool_call":
            calls.append(one)
        else:
            invalid.append(one)
    return "", calls, invalid


def as_message(text: str, specs: Sequence[ToolSpec], **fields: Any) -> AIMessage:
    """The message of a whole reply; ``fields`` (usage, metadata) are the message's own."""
    content, calls, invalid = parse_reply(text, specs)
    return AIMessage(content=content, tool_calls=calls, invalid_tool_calls=invalid, **fields)


class ReplyStream:
    """Tells calls from text while a reply comes: text is let through, a reply that calls tools is held to its end."""

    def __init__(self, specs: Sequence[ToolSpec]) -> None:
        self._specs = specs
        self._held = ""
        self._is_text = False

    def push(self, piece: str) -> str:
        """The text that can be shown now; empty as long as the reply may be a call."""
        if self._is_text:
            return piece
        self._held += piece
        start = self._held.lstrip()
        if start.startswith(OPENING) or OPENING.startswith(start):
            return ""
        self._is_text = True
        return self._held

    def finish(self) -> AIMessageChunk:
        """The rest of the reply, when no more comes: text held back, or the calls."""
        if self._is_text:
            return AIMessageChunk(content="")
        content, calls, invalid = parse_reply(self._held, self._specs)
        chunks = [
            tool_call_chunk(
                name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=index
            )
            for index, call in enumerate(calls)
        ]
        chunks += [_invalid_chunk(call, len(calls) + index) for index, call in enumerate(invalid)]
        return AIMessageChunk(content=content, tool_call_chunks=chunks)


def _invalid_chunk(call: InvalidToolCall, index: int) -> ToolCallChunk:
    # LangChain reads chunks again when it joins them, and would take arguments that are an object for valid:
    # a JSON text in quotes is none.
    reason = f"{call['args']} ({call['error']})"
    return tool_call_chunk(name=call["name"], args=json.dumps(reason, ensure_ascii=False), id=call["id"], index=index)


def _read_call(item: Any, specs: Sequence[ToolSpec]) -> Any:
    """One entry of the list: a ``ToolCall`` or an ``InvalidToolCall``."""
    written = json.dumps(item, ensure_ascii=False)
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return _invalid(None, written, _words("没有工具名", "no name of a tool"))
    name, arguments = item["name"], item.get("arguments")
    written = json.dumps(arguments, ensure_ascii=False)
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None:
        near = nearest_tool(name, [spec.name for spec in specs])
        return _invalid(name, written, _words(f"没有这个工具（最接近：{near}）", f"no such tool (nearest: {near})"))
    if not isinstance(arguments, dict):
        return _invalid(name, written, _words("参数不是对象", "the arguments are no object"))
    reason = broken_bound(arguments, spec.parameters)
    if reason:
        return _invalid(name, written, _words("参数不符合要求", "the arguments break their schema", reason))
    return tool_call(name=name, args=arguments, id=_new_id())


def _invalid(name: str | None, written: str, error: str) -> InvalidToolCall:
    return invalid_tool_call(name=name, args=written, id=_new_id(), error=error)


def _words(zh: str, en: str, detail: object = "") -> str:
    words = Words(zh=f"{zh}：{detail}" if detail else zh, en=f"{en}: {detail}" if detail else en)
    return str(words)


def _new_id() -> str:
    return f"call_{secrets.token_hex(12)}"
