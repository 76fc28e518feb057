from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import Field as FieldV1

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.structured import DictParser, ObjectParser, constraint_from
from tests.llms.random_writer import RandomChat

METHODS = ["json_schema", "function_calling", "json_mode"]


class Joke(BaseModel):
    """Joke to tell user."""

    setup: str = Field(description="question", max_length=10)
    punchline: str = Field(description="answer", max_length=10)
    rating: int | None = None


class OldJoke(BaseModelV1):
    """Joke to tell user."""

    setup: str = FieldV1(description="question", max_length=10)
    punchline: str = FieldV1(description="answer", max_length=10)


class JokeDict(TypedDict):
    """Joke to tell user."""

    funny: Annotated[bool, ..., "whether it is"]
    rating: Annotated[int | None, None, "how much"]


def is_new(result: Any) -> bool:
    return isinstance(result, Joke)


def is_old(result: Any) -> bool:
    return isinstance(result, OldJoke)


def is_dict(result: Any) -> bool:
    return isinstance(result, dict) and set(result) <= {"setup", "punchline", "rating", "funny"}


SCHEMAS = [
    (Joke, is_new),
    (OldJoke, is_old),
    (JokeDict, is_dict),
    (Joke.model_json_schema(), is_dict),
    (OldJoke.schema(), is_dict),
    ({"type": "function", "function": {"name": "joke", "parameters": Joke.model_json_schema()}}, is_dict),
    ({key: value for key, value in Joke.model_json_schema().items() if key != "title"}, is_dict),
]
NAMES = ["pydantic", "pydantic-v1", "typed-dict", "json-schema", "json-schema-v1", "openai-tool", "untitled"]


class Options(BaseCallbackHandler):
    """Notes what a model was started with."""

    def __init__(self) -> None:
        self.options: list[Any] = []

    def on_chat_model_start(self, *args: Any, options: Any = None, **kwargs: Any) -> None:
        self.options.append(options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("schema", "check"), SCHEMAS, ids=NAMES)
def test_answers_are_objects_of_the_schema_whole_and_streamed(schema: Any, check: Any, method: str) -> None:
    structured = RandomChat(max_tokens=300).with_structured_output(schema, method=method)
    result = structured.invoke("讲个笑话")
    assert check(result)
    chunks = list(structured.stream("讲个笑话"))
    assert chunks and all(map(check, chunks))
    assert chunks[-1] == result
    if check is not is_dict:
        assert len(chunks) == 1  # half an object would be another one
    elif method != "function_calling":
        assert len(chunks) > 1


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_same_asynchronously(method: str) -> None:
    structured = RandomChat(max_tokens=300).with_structured_output(Joke, method=method)

    async def streamed() -> list[Any]:
        return [chunk async for chunk in structured.astream("讲个笑话")]

    assert asyncio.run(streamed()) == [asyncio.run(structured.ainvoke("讲个笑话"))]


@pytest.mark.parametrize("method", METHODS)
def test_callbacks_are_told_the_schema(method: str) -> None:
    seen = Options()
    RandomChat().with_structured_output(Joke, method=method).invoke("讲个笑话", config={"callbacks": [seen]})
    (options,) = seen.options
    told = options["ls_structured_output_format"]
    assert told == {"kwargs": {"method": method}, "schema": convert_to_json_schema(Joke)}


@pytest.mark.parametrize("method", METHODS)
def test_include_raw_gives_the_answer_and_its_object(method: str) -> None:
    structured = RandomChat().with_structured_output(Joke, method=method, include_raw=True)
    result = structured.invoke("讲个笑话")
    assert set(result) == {"raw", "parsed", "parsing_error"}
    assert isinstance(result["raw"], AIMessage)
    assert isinstance(result["parsed"], Joke) and result["parsing_error"] is None
    streamed: dict[str, Any] = {}
    for chunk in structured.stream("讲个笑话"):
        streamed |= chunk
    assert streamed["parsed"] == result["parsed"]


@pytest.mark.parametrize("method", METHODS)
def test_a_cut_answer_is_raised_or_told_with_include_raw(method: str) -> None:
    model = RandomChat(max_tokens=4)
    with pytest.raises(StructuredOutputError, match="max_tokens=4"):
        model.with_structured_output(Joke, method=method).invoke("讲个笑话")
    structured = model.with_structured_output(Joke, method=method, include_raw=True)
    for result in (structured.invoke("讲个笑话"), asyncio.run(structured.ainvoke("讲个笑话"))):
        assert result["parsed"] is None
        assert isinstance(result["parsing_error"], StructuredOutputError)
        assert result["raw"].content == result["parsing_error"].partial != ""


class Strict(BaseModel):
    """What no grammar holds."""

    pair: Annotated[list[bool], Field(min_length=2, max_length=2, json_schema_extra={"uniqueItems": True})]


@pytest.mark.parametrize("method", METHODS)
def test_a_bound_broken_after_all_is_never_an_answer(method: str) -> None:
    outcomes = set()
    for seed in range(10):
        structured = RandomChat(seed=seed).with_structured_output(Strict, method=method)
        try:
            result = structured.invoke("?")
            assert set(result.pair) == {True, False}
            outcomes.add("right")
        except StructuredOutputError as error:
            assert "uniqueItems" in error.message.en
            outcomes.add("error")
    assert outcomes == {"right", "error"}


def test_json_mode_without_a_schema_gives_any_object() -> None:
    model = RandomChat(max_tokens=60)
    objects = 0
    for seed in range(10):
        model.seed = seed
        try:
            objects += isinstance(model.with_structured_output(None, method="json_mode").invoke("?"), dict)
        except StructuredOutputError:
            continue
    assert objects


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (Joke, {"method": "grammar"}),
        (None, {}),
        (5, {}),
        ({"type": "foo"}, {}),
        ({"title": "x", "properties": {"a": {"$ref": "http://x.test/"}}}, {}),
        ({"title": "x", "type": "string"}, {"method": "function_calling"}),
    ],
)
def test_what_is_no_schema_is_refused_when_it_is_bound(schema: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(WrongUsageError):
        RandomChat().with_structured_output(schema, **arguments)


OPEN = {"type": "object", "properties": {"a": {"type": "boolean"}}}


@pytest.mark.parametrize(
    ("response_format", "constraint"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint({"type": "object"})),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": OPEN}},
            Constraint({**OPEN, "additionalProperties": False}),
        ),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": OPEN, "strict": False}}, Constraint(OPEN)),
    ],
)
def test_openais_response_formats_are_understood(response_format: Any, constraint: Constraint | None) -> None:
    assert constraint_from(response_format) == constraint


@pytest.mark.parametrize(
    "response_format",
    ["json", {}, {"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "x"}}],
)
def test_other_response_formats_are_refused(response_format: Any) -> None:
    with pytest.raises(WrongUsageError, match="json_object"):
        constraint_from(response_format)


def test_parsers_take_nothing_but_json() -> None:
    fenced = [Generation(text='```json\n{"a": 1}\n```')]
    for parser in (DictParser(), ObjectParser(pydantic_object=Joke)):
        with pytest.raises(StructuredOutputError) as refused:
            parser.parse_result(fenced)
        assert refused.value.partial == fenced[0].text
    assert DictParser().parse_result([Generation(text='{"a": [1, {"b')], partial=True) == {"a": [1, {}]}
    assert ObjectParser(pydantic_object=Joke).parse_result([Generation(text='{"setup": "a"')], partial=True) is None
