"""Answers as objects: ``with_structured_output`` for the chat models, and OpenAI's ``response_format``.

The schema is held while the answer is written, whatever the method; ``method`` only says whether it is asked
for as the form of the answer ("json_schema", "json_mode") or as the arguments of a tool ("function_calling").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final, Literal, TypeGuard

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_function
from langchain_core.utils.json import parse_partial_json
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.schemas import Schema, check_schema, tightened

Method = Literal["json_schema", "function_calling", "json_mode"]
_METHODS: Final = ("json_schema", "function_calling", "json_mode")
_ANY_OBJECT: Final[Schema] = {"type": "object"}


def constraint_from(response_format: Any) -> Constraint | None:
    """The form that OpenAI's ``response_format`` asks for; ``None`` for plain text.

    ``strict: false`` takes the schema as it stands; otherwise objects hold only the properties that it names
    (``schemas.tightened``). Raises ``WrongUsageError`` for another form and for a schema that cannot be held.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Constraint(_ANY_OBJECT)
    named = response_format.get("json_schema") if kind == "json_schema" else None
    if not isinstance(named, Mapping) or "schema" not in named:
        raise _wrong_format(response_format)
    schema = named["schema"]
    check_schema(schema)
    return Constraint(dict(schema) if named.get("strict") is False else tightened(dict(schema)))


def with_structured_output(
    model: BaseChatModel,
    schema: Any,
    *,
    include_raw: bool = False,
    method: Method = "json_schema",
    strict: bool | None = None,
    **kwargs: Any,
) -> Runnable[Any, Any]:
    """``model``, answering with objects of ``schema``: see LangChain's ``BaseChatModel.with_structured_output``.

    A pydantic class gives its instances, a TypedDict, JSON Schema or tool gives dicts. With ``include_raw`` the
    result has the keys raw, parsed and parsing_error, and an answer cut off is told there instead of raised.
    ``kwargs`` are bound to the model. Raises ``WrongUsageError`` for a schema that cannot be held.
    """
    if method not in _METHODS:
        raise WrongUsageError(
            Words(zh=f"没有 method={method!r} 这种方式。", en=f"There is no method {method!r}."),
            hint=Words(zh=f"可用的：{', '.join(_METHODS)}", en=f"There are: {', '.join(_METHODS)}"),
        )
    told = {"kwargs": {"method": method}, "schema": schema}
    bound: Runnable[Any, Any]
    parser: Runnable[Any, Any]
    if method == "function_calling":
        name, description, parameters = _named(schema)
        function = {"name": name, "description": description, "parameters": parameters}
        bound = model.bind_tools(
            [{"type": "function", "function": function}],
            tool_choice=name,
            parallel_tool_calls=False,
            ls_structured_output_format=told,
            **kwargs,
        )
        parser = (
            CalledObjectParser(tools=[schema], first_tool_only=True)
            if _is_class(schema)
            else (CalledDictParser(key_name=name, first_tool_only=True))
        )
    else:
        response_format = _response_format(schema, method, strict)
        constraint_from(response_format)
        if schema is not None:
            kwargs["ls_structured_output_format"] = told
        bound = model.bind(response_format=response_format, **kwargs)
        parser = ObjectParser(pydantic_object=schema) if _is_class(schema) else DictParser()
    return _with_raw(bound, parser) if include_raw else bound | parser


class DictParser(JsonOutputParser):
    """The value that an answer says; while it comes, what can be read of it so far."""

    pydantic_object: Any = None

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Raises ``StructuredOutputError`` for an answer that is no JSON; ``None`` while nothing can be read yet."""
        text = result[0].text.strip()
        try:
            return parse_partial_json(text) if partial else json.loads(text)
        except (ValueError, RecursionError) as problem:
            if partial:
                return None
            raise _not_parsed(text, problem) from problem


class ObjectParser(JsonOutputParser):
    """The instance of a pydantic class that an answer says, once it is whole."""

    pydantic_object: Any = None

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Raises ``StructuredOutputError`` for an answer that is no such object; ``None`` while it comes."""
        text = result[0].text.strip()
        kind: Any = self.pydantic_object
        try:
            # What can be read of half an answer may already be an object, but not the one that is meant.
            value = json.loads(text)
            return kind.model_validate(value) if issubclass(kind, BaseModel) else kind.parse_obj(value)
        except (ValueError, RecursionError) as problem:
            if partial:
                return None
            raise _not_parsed(text, problem) from problem


class CalledObjectParser(PydanticToolsParser):
    """As LangChain's, but a call whose arguments break the schema is an error and not ``None``."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Raises ``StructuredOutputError`` for an invalid call or none."""
        _check_call(result, partial)
        return super().parse_result(result, partial=partial)


class CalledDictParser(JsonOutputKeyToolsParser):
    """As LangChain's, but a call whose arguments break the schema is an error and not ``None``."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Raises ``StructuredOutputError`` for an invalid call or none."""
        _check_call(result, partial)
        return super().parse_result(result, partial=partial)


def _with_raw(bound: Runnable[Any, Any], parser: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """``bound | parser`` whose errors stand in the result. (In a stream, those of the model itself are raised.)"""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    not_parsed = RunnablePassthrough.assign(parsed=lambda _: None)
    answered = RunnableMap(raw=bound) | parsed.with_fallbacks([not_parsed], exception_key="parsing_error")
    return RunnableLambda(_as_entry) | (RunnableLambda(_asked) | answered).with_fallbacks(
        [RunnableLambda(_raw_of_error)], exceptions_to_handle=(StructuredOutputError,), exception_key="error"
    )


def _as_entry(asked: Any) -> dict[str, Any]:
    return {"asked": asked}


def _asked(entry: dict[str, Any]) -> Any:
    return entry["asked"]


def _raw_of_error(entry: dict[str, Any]) -> dict[str, Any]:
    error = entry["error"]
    return {"raw": AIMessage(error.partial), "parsed": None, "parsing_error": error}


def _response_format(schema: Any, method: Method, strict: bool | None) -> dict[str, Any]:
    if schema is None and method == "json_mode":
        return {"type": "json_object"}
    name, description, wanted = _named(schema)
    named = {"name": name, "schema": wanted} | ({"description": description} if description else {})
    return {"type": "json_schema", "json_schema": named if strict is None else {**named, "strict": strict}}


def _named(schema: Any) -> tuple[str, str, Schema]:
    """Name, description and JSON Schema of whatever LangChain takes for a schema. Raises ``WrongUsageError``."""
    if _is_class(schema):
        wanted = schema.model_json_schema() if issubclass(schema, BaseModel) else schema.schema()
        return schema.__name__ if not wanted.get("title") else wanted["title"], wanted.get("description", ""), wanted
    if isinstance(schema, Mapping):
        named = schema.get("function", schema)
        for key in ("parameters", "schema", "input_schema"):
            if "name" in named and isinstance(named.get(key), Mapping):
                return str(named["name"]), str(named.get("description", "")), dict(named[key])
        return str(schema.get("title", "answer")), str(schema.get("description", "")), dict(schema)
    try:
        function = convert_to_openai_function(schema)
    except (ValueError, TypeError, AttributeError) as problem:
        raise _wrong_format(schema) from problem
    return function["name"], function.get("description", ""), dict(function.get("parameters", _ANY_OBJECT))


def _is_class(schema: Any) -> TypeGuard[type[Any]]:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def _check_call(result: list[Generation], partial: bool) -> None:
    message = result[0].message if isinstance(result[0], ChatGeneration) else None
    if partial or not isinstance(message, AIMessage) or message.tool_calls:
        return
    invalid = message.invalid_tool_calls
    reason = str(invalid[0].get("error") or invalid[0].get("args")) if invalid else "no tool_calls"
    raise _not_parsed(message.text, reason)


def _not_parsed(text: str, reason: object) -> StructuredOutputError:
    return StructuredOutputError(
        Words(zh=f"回答不是要求的对象：{reason}", en=f"The answer is not the object that was asked for: {reason}"),
        hint=Words(
            zh="请重试（换 seed），或放宽条件；include_raw=True 可以得到原文。",
            en="Try again with another seed or loosen the bounds; include_raw=True gives the answer as it is.",
        ),
        partial=text,
    )


def _wrong_format(given: Any) -> WrongUsageError:
    shown = repr(given)[:200]
    return WrongUsageError(
        Words(zh=f"不能按这个格式回答：{shown}", en=f"This is no form that an answer can have: {shown}"),
        hint=Words(
            zh='可用：{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}、{"type": "json_object"}、'
            '{"type": "text"}；或 pydantic 类、TypedDict、JSON Schema。',
            en='There are {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}, {"type": "json_object"} '
            'and {"type": "text"}; and pydantic classes, TypedDicts and JSON Schemas.',
        ),
    )
