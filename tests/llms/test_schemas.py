from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.llms.least_tokens import check_budget, least_tokens
from chinese_alpaca_rag.llms.patterns import PatternError, matches
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.schemas import check_schema, tightened
from chinese_alpaca_rag.llms.verifying import broken_bound, conclude, verify
from tests.family.vocabularies import any_named
from tests.llms.random_writer import TREE, Schema, accepts, write


# What the grammar lets through and the check finds, keyword by keyword.
@pytest.mark.parametrize(
    ("schema", "text", "named"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1, 1]", "uniqueItems"),
        ({"type": "integer", "not": {"const": 1}}, "1", "not"),
        ({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}, '{"a": 1}', "required"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"a": 1}', "dependentRequired"),
        ({"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}}, '{"a": 1}', "required"),
        ({"type": "object", "propertyNames": {"pattern": "^a"}}, '{"b": 1}', "pattern"),
        ({"type": "object", "properties": {"a": {}}, "minProperties": 2}, '{"a": 1}', "minProperties"),
        (
            {"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False},
            '{"b": 1}',
            "unevaluatedProperties",
        ),
        ({"type": "array", "contains": {"type": "integer"}}, '["a"]', "contains"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "1", "oneOf"),
        ({"type": "string", "pattern": "^(?!a)[a-z]+$"}, '"ab"', "pattern"),
        ({"type": "string", "format": "date"}, '"2023-02-29"', "format"),
        ({"type": "string", "format": "ipv4"}, '"1"', "format"),
    ],
)
def test_bounds_that_the_grammar_cannot_hold_are_checked_afterwards(schema: Schema, text: str, named: str) -> None:
    tokenizer = any_named("toy")
    if schema.get("format") != "ipv4":  # this one the grammar holds as well
        assert accepts(schema, text, tokenizer)
    with pytest.raises(StructuredOutputError) as broken:
        verify(text, schema)
    assert broken.value.partial == text
    assert named in broken.value.message.en


def test_multiples_are_decimal() -> None:
    assert verify("0.3", {"type": "number", "multipleOf": 0.1}) == 0.3
    assert broken_bound(0.35, {"multipleOf": 0.1})
    assert broken_bound(7, {"multipleOf": 2})


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "http://127.0.0.1:9"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, "other.json"),
        ({"$dynamicRef": "https://example.org/x"}, "example.org"),
        ({"type": "foo"}, "foo"),
        ({"type": "integer", "minimum": "a"}, "minimum"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5)"),
        ({"enum": []}, "anyOf is empty"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible"),
        ({"type": "string", "pattern": "("}, "unterminated"),
        ({"type": "string", "pattern": "(?=a)(a+)+$"}, "look-around"),
        ({"type": "string", "pattern": "(a*)*\\1"}, "backreferences"),
        ({"const": float("nan")}, "JSON compliant"),
        ({"const": {1, 2}}, "serializable"),
        ("string", "str"),
        ({"description": "x" * 300_000}, "300019"),
    ],
)
def test_a_schema_that_cannot_be_held_is_refused_with_the_reason(schema: Any, named: str) -> None:
    with pytest.raises(WrongUsageError) as refused:
        check_schema(schema)
    assert named[:30] in refused.value.message.en


def test_a_reference_to_elsewhere_is_never_followed() -> None:
    # Sockets are forbidden in the tests: opening one would be another error.
    assert "it cannot be checked" in broken_bound(1, {"$ref": "http://127.0.0.1:9/schema.json"})
    harmless = {"const": {"$ref": "http://example.org"}}
    check_schema(harmless)
    assert verify('{"$ref": "http://example.org"}', harmless)


def _doubling(word: str, depth: int) -> Schema:
    definitions: Schema = {
        f"b{number}": {word: [{"$ref": f"#/$defs/b{number + 1}"}] * 2} for number in range(depth)
    } | {f"b{depth}": {"type": "integer"}}
    return {"$defs": definitions, "$ref": "#/$defs/b0"}


def _nested(depth: int) -> Schema:
    schema: Schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        _nested(500),
        _nested(30),
        {"enum": [f"choice {number}" for number in range(9000)]},
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "(.*a.{200}b)*c.{300}"},
        {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        _doubling("anyOf", 40),
        _doubling("oneOf", 40),
        _doubling("allOf", 40),
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {
            "allOf": [
                {"anyOf": [{"properties": {f"p{i}{j}": {"type": "integer"}}, "required": [f"p{i}{j}"]} for j in "abc"]}
                for i in range(12)
            ]
        },
    ],
)
def test_a_hostile_schema_is_refused_or_dealt_with_in_bounded_time(schema: Schema) -> None:
    tokenizer = any_named("toy")
    started = time.perf_counter()
    try:
        check_schema(schema)
        constraint = Constraint(tightened(schema))
        written = write(constraint, tokenizer, max_tokens=8, seed=1)
        conclude(written.text, constraint, written.finish_reason, 8)
        check_budget(constraint.schema, tokenizer, 8)
    except (WrongUsageError, StructuredOutputError) as error:
        assert error.hint.zh
    broken_bound("a" * 50 + "!", schema)
    assert time.perf_counter() - started < 10


def test_patterns_are_matched_in_linear_time_or_not_at_all() -> None:
    started = time.perf_counter()
    assert not matches("^(a+)+$", "a" * 3000 + "!")
    assert matches("^(a|aa)+$", "a" * 3000)
    assert matches("^(?!b)[+-]?0*\\d*\\.?\\d*$", "0012.50")
    with pytest.raises(PatternError):
        matches("^(?!b)a*$", "a" * 1000)
    assert time.perf_counter() - started < 2
    assert matches("工.$", "x工程") and not matches("^\\d$", "１")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "NaN", "[1e999]", "1" * 5000, "nul", "'a'"])
def test_what_is_no_json_is_the_error_and_no_other(text: str) -> None:
    with pytest.raises(StructuredOutputError):
        verify(text, {})


def test_a_schema_that_cannot_finish_in_the_budget_is_refused_before_anything_is_written() -> None:
    tokenizer = any_named("toy")
    keys = [f"property_{number}" for number in range(10)]
    schema = tightened({"type": "object", "properties": {key: {"const": "年假"} for key in keys}, "required": keys})
    shortest = json.dumps(dict.fromkeys(keys, "年假"), ensure_ascii=False)
    with pytest.raises(WrongUsageError) as refused:
        check_budget(schema, tokenizer, 20)
    assert "20" in refused.value.message.en
    least = least_tokens(schema, tokenizer)
    assert 0.6 * tokenizer.count(shortest) <= least <= tokenizer.count(shortest)
    for endless in ({"$ref": "#"}, {"type": "array", "minItems": 1, "items": {"$ref": "#"}}):
        with pytest.raises(WrongUsageError, match="finite"):
            check_budget(endless, tokenizer, 10**6)
    check_budget(TREE, tokenizer, tokenizer.count('{"value": 1, "children": []}'))


def test_what_a_schema_leaves_open_is_closed_but_never_where_conditions_combine() -> None:
    given_schema: Schema = {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "A"},
            "b": {"$ref": "#/$defs/b"},
        },
        "$defs": {"b": {"type": "object", "properties": {}}},
    }
    closed = tightened(given_schema)
    assert closed["additionalProperties"] is False and closed["$defs"]["b"]["additionalProperties"] is False
    assert closed["properties"]["a"]["anyOf"][0]["maximum"] == 2**53 - 1
    assert "additionalProperties" not in given_schema
    left_open: list[Schema] = [
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"required": ["b"]}, {"required": ["a"]}]},
        {"oneOf": [{"properties": {}}, {"properties": {"a": {"type": "boolean"}}}]},
        {"not": {"properties": {"a": {"type": "integer"}}}},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"properties": {"a": {}}, "required": ["b"]},
        {"type": "integer", "enum": [2**60]},
    ]
    for open_schema in left_open:
        assert tightened(open_schema) == open_schema
    told_apart = {"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {}}], "discriminator": {}}
    assert all(branch["additionalProperties"] is False for branch in tightened(told_apart)["oneOf"])
    assert tightened({"type": "integer", "minimum": 2**60}) == {"type": "integer", "minimum": 2**60}
