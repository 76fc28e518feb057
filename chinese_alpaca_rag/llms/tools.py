"""Tools told to a model that was trained without any: described in its system text, called in JSON.

A reply that calls tools is exactly ``{"tool_calls": [{"name": NAME, "arguments": {…}}]}``; every other reply
is text. The first characters decide, so that a grammar can hold the model to it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Language, Words
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.schemas import Schema, check_schema, tightened, with_moved_references

OPENING: Final = '{"tool_calls"'
# More calls than these in one reply are a model that goes round in circles.
MOST_CALLS: Final = 8


@dataclass(frozen=True)
class ToolSpec:
    """One tool; ``parameters`` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    parameters: Schema

    def as_openai(self) -> dict[str, Any]:
        """The tool in OpenAI's form, as ``tool_specs`` takes it back."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolChoice:
    """Whether tools may or must be called: ``name`` is the only one that may, ``parallel`` whether several at once."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    parallel: bool = True


def tool_specs(tools: Sequence[Any]) -> tuple[ToolSpec, ...]:
    """Tools in any form that LangChain knows: its tools, functions, pydantic models, dicts of OpenAI's form.

    A tool that is given twice counts once. Raises ``WrongUsageError`` for what is no tool, for two of one name
    and for arguments that are no object.
    """
    specs: tuple[ToolSpec, ...] = ()
    for spec in map(_spec, tools):
        if not any(_same(spec, known) for known in specs):
            specs += (spec,)
    names = [spec.name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong_tool(f"两个工具都叫“{twice}”", f"two tools are called “{twice}”")
    return specs


def read_choice(tool_choice: Any, specs: Sequence[ToolSpec], *, parallel: bool = True) -> ToolChoice:
    """What ``tool_choice`` means: "auto", "none", "any", "required", a boolean, a tool's name or OpenAI's dict.

    A tool that is named is called exactly once. Raises ``WrongUsageError`` for one that is not among ``specs``,
    naming the nearest.
    """
    if tool_choice is None or (tool_choice == "auto" and isinstance(tool_choice, str)):
        return ToolChoice("auto", None, parallel)
    if isinstance(tool_choice, bool):
        tool_choice = "required" if tool_choice else "none"
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function")
        tool_choice = function.get("name") if isinstance(function, Mapping) else tool_choice.get("name")
    names = [spec.name for spec in specs]
    if isinstance(tool_choice, str) and tool_choice in names:
        return ToolChoice("required", tool_choice, parallel=False)
    if tool_choice == "none":
        return ToolChoice("none", None, parallel)
    if tool_choice in ("any", "required") and names:
        return ToolChoice("required", None, parallel)
    raise _unknown_tool(str(tool_choice), names)


def tools_constraint(specs: Sequence[ToolSpec], choice: ToolChoice) -> Constraint | None:
    """The form of a reply that may call ``specs``; ``None`` where none may. Raises ``WrongUsageError``."""
    callable_specs = [spec for spec in specs if choice.name in (None, spec.name)]
    if choice.mode == "none" or not callable_specs:
        return None
    definitions: Schema = {}
    calls: list[Schema] = []
    for number, spec in enumerate(callable_specs):
        place = f"tool_{number}"
        definitions[place] = with_moved_references(tightened(spec.parameters), f"#/$defs/{place}")
        properties = {"name": {"const": spec.name}, "arguments": {"$ref": f"#/$defs/{place}"}}
        calls.append(_closed(properties))
    listed = {
        "type": "array",
        "items": {"anyOf": calls} if len(calls) > 1 else calls[0],
        "minItems": 1,
        "maxItems": MOST_CALLS if choice.parallel else 1,
    }
    schema = {**_closed({"tool_calls": listed}), "$defs": definitions}
    return Constraint(schema, or_text=choice.mode == "auto", opening=OPENING)


def system_text(specs: Sequence[ToolSpec], choice: ToolChoice, language: Language) -> str:
    """What the system text says of the tools; empty where none may be called."""
    shown = [spec for spec in specs if choice.name in (None, spec.name)]
    if choice.mode == "none" or not shown:
        return ""
    lines = [_INTRODUCTION.text(language)]
    for spec in shown:
        told = {"name": spec.name, "description": spec.description, "parameters": _without_titles(spec.parameters)}
        lines.append(json.dumps({key: value for key, value in told.items() if value}, ensure_ascii=False))
    lines.append((_MAY_CALL if choice.mode == "auto" else _MUST_CALL).text(language))
    lines.append(_FORM)
    if not choice.parallel:
        lines.append(_ONE_CALL.text(language))
    if choice.mode == "auto":
        lines.append(_ELSE.text(language))
    return "\n".join(lines)


_FORM: Final = '{"tool_calls": [{"name": "…", "arguments": {…}}]}'
_INTRODUCTION: Final = Words(zh="你可以使用下列工具，每行一个：", en="You can use these tools, one a line:")
_MAY_CALL: Final = Words(
    zh="需要使用工具时，只输出这种 JSON，不要输出别的内容：",
    en="To use tools, reply with JSON of this form and nothing else:",
)
_MUST_CALL: Final = Words(
    zh="请使用工具：只输出这种 JSON，不要输出别的内容：",
    en="Use the tools: reply with JSON of this form and nothing else:",
)
_ONE_CALL: Final = Words(zh="每次只调用一个工具。", en="Call one tool at a time.")
_ELSE: Final = Words(zh="不需要工具时，直接用文字回答。", en="When no tool is needed, answer in plain text.")


def _spec(tool: Any) -> ToolSpec:
    if isinstance(tool, ToolSpec):
        return tool
    try:
        function = convert_to_openai_tool(tool).get("function")
        # LangChain writes references out, and so loses what a recursive model says of itself.
        model = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
        if isinstance(function, dict) and isinstance(model, type) and issubclass(model, BaseModel):
            function = {**function, "parameters": _parameters(model)}
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise _wrong_tool(str(problem)[:300], str(problem)[:300]) from problem
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        kind = tool.get("type") if isinstance(tool, dict) else type(tool).__name__
        raise _wrong_tool(f"“{kind}”不是可以在这里调用的工具", f"“{kind}” is no tool that can be called here")
    parameters = function.get("parameters") or {}
    name = function["name"]
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise _wrong_tool(f"工具“{name}”的参数不是对象", f"the arguments of “{name}” are no object")
    if "$ref" not in parameters:
        parameters = {"type": "object", "properties": {}, **parameters}
    check_schema(parameters)
    return ToolSpec(name, str(function.get("description") or ""), parameters)


def _parameters(model: type[BaseModel]) -> Schema:
    """The JSON Schema of a pydantic class, without the class's own name and description."""
    return {key: value for key, value in model.model_json_schema().items() if key not in ("title", "description")}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _same(one: ToolSpec, other: ToolSpec) -> bool:
    """Whether two tools differ in titles at most."""
    return one.name == other.name and _without_titles(one.parameters) == _without_titles(other.parameters)


def _without_titles(schema: Any) -> Any:
    """``schema`` without the titles that pydantic makes from names; a property called title stays."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "properties" and not value)
    }


def nearest_tool(name: str, names: Sequence[str]) -> str:
    """The one of ``names`` that is spelt most like ``name``; empty where there is none."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.0)), "")


def _wrong_tool(zh: str, en: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"工具无法使用：{zh}。", en=f"These tools cannot be used: {en}."),
        hint=Words(
            zh="请给出名称各不相同的函数、pydantic 模型、LangChain 工具或 OpenAI 格式的工具。",
            en="Give functions, pydantic models, LangChain tools or tools in OpenAI's form, each of its own name.",
        ),
    )


def _unknown_tool(name: str, names: Sequence[str]) -> WrongUsageError:
    near = nearest_tool(name, names)
    listed = ", ".join(names)
    return WrongUsageError(
        Words(zh=f"tool_choice 中的“{name}”不是已绑定的工具。", en=f"tool_choice “{name}” is none of the tools bound."),
        hint=Words(
            zh=(f"是不是 {near}？已绑定：{listed}" if near else "请先用 bind_tools 绑定工具。"),
            en=(f"Did you mean {near}? Bound: {listed}" if near else "Bind tools first, with bind_tools."),
        ),
    )
