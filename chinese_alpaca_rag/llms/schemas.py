"""JSON Schemas before anything is written by them: what is refused, what is left out, what is tightened.

A schema is as trustworthy as whoever wrote it: its size and depth are bounded and a reference never leaves it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.engine import jsonschema, llguidance
from chinese_alpaca_rag.llms.patterns import PatternError, check_pattern, is_linear

Schema = dict[str, Any]

MAX_CHARACTERS: Final = 200_000
MAX_DEPTH: Final = 100
# The whole numbers that every reader of JSON holds exactly (RFC 8259, section 6).
_GREATEST_INTEGER: Final = 2**53 - 1

# Where a schema holds other schemas: under names, in a list, or as the value itself.
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
)
# What adds conditions to a value beside the schema's own words.
_COMBINING: Final = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf")
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"}
    | {"$id", "$defs", "definitions", "x-guidance", "discriminator"}
)
# The compiler's own options: JSON on one line with json.dumps' separators, so that it cannot go on for ever in
# white space; keywords that it does not know are left to ``verify``.
_OPTIONS: Final = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "coerce_one_of": True,
    "lenient": True,
}


def check_schema(schema: Any) -> None:
    """Raise ``WrongUsageError``, with the reason, for what is no JSON Schema or cannot be held by a grammar."""
    try:
        text = json.dumps(schema, sort_keys=False, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise wrong_schema(str(problem)) from problem
    if len(text) > MAX_CHARACTERS or _depth(text) > MAX_DEPTH:
        raise wrong_schema(f"{len(text)} characters, {_depth(text)} levels (limits: {MAX_CHARACTERS}, {MAX_DEPTH})")
    reason = _reason_against(text)
    if reason:
        raise wrong_schema(reason)


def grammar_schema(schema: Schema) -> Schema:
    """The copy of ``schema`` that the grammar's compiler is given: what it would misread is left out."""
    copy = _rewritten(schema, _without_unreadable)
    return {**copy, "x-guidance": _OPTIONS}


def tightened(schema: Schema) -> Schema:
    """``schema``, but objects hold only the properties it names and whole numbers end (at 2^53 - 1).

    Where a schema says nothing, JSON Schema allows anything, and a small model would fill it in. A schema that
    combines conditions is left as it is: what one part does not name another may, and a part that says what
    must not be would, made narrower, let more through.
    """
    if any(map(_combines, subschemas(schema))):
        return schema
    changed: Schema = _rewritten(schema, _tightened_part)
    return changed


def subschemas(schema: Any) -> Iterator[Schema]:
    """``schema`` and every schema inside it that is an object, in no order that matters."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for name in _NAMED:
            if isinstance(part.get(name), dict):
                waiting.extend(part[name].values())
        for name in _LISTED:
            if isinstance(part.get(name), list):
                waiting.extend(part[name])
        waiting.extend(part[name] for name in _SINGLE if name in part)


def with_moved_references(schema: Schema, place: str) -> Schema:
    """``schema`` as it reads when it stands at the JSON pointer ``place`` (``#/$defs/x``) of a larger one."""

    def moved(part: Schema) -> Schema:
        target = part.get("$ref")
        if isinstance(target, str) and (target == "#" or target.startswith("#/")):
            return {**part, "$ref": place + target[1:]}
        return part

    changed: Schema = _rewritten(schema, moved)
    return changed


def wrong_schema(reason: str) -> WrongUsageError:
    """The error for a schema that cannot be used, because of ``reason``."""
    return WrongUsageError(
        Words(zh=f"这个 JSON Schema 无法使用：{reason}", en=f"This JSON Schema cannot be used: {reason}"),
        hint=Words(
            zh="请修改它：只引用自身的 $defs，给出能够满足的类型和范围。",
            en="Change it: refer only to its own $defs, and give types and bounds that can be met.",
        ),
    )


def _combines(part: Schema) -> bool:
    """Whether ``part`` holds a value to several schemas at once, or to the contrary of one."""
    if any(word in part for word in ("not", "if", "dependentSchemas", "maxContains")):
        return True
    # Of alternatives that are told apart by a property no value meets two; of others, narrower ones, it might.
    if len(part.get("oneOf", ())) > 1 and "discriminator" not in part:
        return True
    combining = [word for word in _COMBINING if word in part]
    return len(part.get("allOf", ())) > 1 or (bool(combining) and not set(part) <= {*_ANNOTATIONS, combining[0]})


def _depth(text: str) -> int:
    """The brackets open at once at most, those in strings included: never less than the real depth."""
    deepest = level = 0
    for character in text:
        if character in "{[":
            level += 1
            deepest = max(deepest, level)
        elif character in "}]":
            level -= 1
    return deepest


@lru_cache(maxsize=64)
def _reason_against(text: str) -> str:
    """Why the schema written in ``text`` is refused; empty where it is not."""
    schema = json.loads(text)
    if not isinstance(schema, dict):
        return f"it is {type(schema).__name__}, not an object"
    package = jsonschema()
    try:
        package.Draft202012Validator.check_schema(schema, format_checker=package.FormatChecker(formats=()))
    except package.SchemaError as problem:
        return f"{problem.json_path}: {problem.message[:300]}"
    for part in subschemas(schema):
        for word in ("$ref", "$dynamicRef", "$recursiveRef"):
            if not str(part.get(word, "#")).startswith("#"):
                return f"{word} {str(part[word])[:200]!r} is outside of it"
        if "unevaluatedProperties" in part and "patternProperties" in part:
            return "unevaluatedProperties beside patternProperties"
        patterns = [part["pattern"]] if "pattern" in part else []
        for pattern in [*patterns, *part.get("patternProperties", ())]:
            try:
                check_pattern(pattern)
            except PatternError as problem:
                return f"pattern {pattern[:100]!r}: {problem}"
    return _grammar_error(schema)


def _grammar_error(schema: Schema) -> str:
    matcher = llguidance().LLMatcher
    failed, messages = matcher.validate_grammar_with_warnings(
        matcher.grammar_from_json_schema(json.dumps(grammar_schema(schema)))
    )
    return messages[0].strip().splitlines()[0][:300] if failed else ""


def _without_unreadable(part: Schema) -> Schema:
    """Without patterns of another engine, and without counts of properties that llguidance reads too narrowly."""
    kept = dict(part)
    kept.pop("x-guidance", None)
    if "pattern" in kept and not is_linear(kept["pattern"]):
        del kept["pattern"]
    if "patternProperties" in kept and not all(map(is_linear, kept["patternProperties"])):
        # With them gone, nothing says which other properties they would have let in.
        del kept["patternProperties"]
        kept.pop("additionalProperties", None)
    if set(kept.get("properties", ())) - set(kept.get("required", ())):
        kept.pop("minProperties", None)
        kept.pop("maxProperties", None)
    return kept


def _tightened_part(part: Schema) -> Schema:
    kept = dict(part)
    open_words = ("additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties")
    named = kept.get("properties", {})
    if (
        "properties" in kept
        and not any(word in kept for word in open_words)
        and set(kept.get("required", ())) <= set(named)
    ):
        kept["additionalProperties"] = False
    kinds = kept.get("type")
    if (kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds and "number" not in kinds)) and not (
        "enum" in kept or "const" in kept
    ):
        least = kept.get("minimum", kept.get("exclusiveMinimum"))
        greatest = kept.get("maximum", kept.get("exclusiveMaximum"))
        if greatest is None and (least is None or least < _GREATEST_INTEGER):
            kept["maximum"] = _GREATEST_INTEGER
        if least is None and (greatest is None or greatest > -_GREATEST_INTEGER):
            kept["minimum"] = -_GREATEST_INTEGER
    return kept


def _rewritten(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """A copy of ``schema`` in which ``change`` was done to it and to every schema inside it."""
    if not isinstance(schema, dict):
        return schema
    copy = change(schema)
    copy = dict(copy)
    for name in _NAMED:
        if isinstance(copy.get(name), dict):
            copy[name] = {key: _rewritten(value, change) for key, value in copy[name].items()}
    for name in _LISTED:
        if isinstance(copy.get(name), list):
            copy[name] = [_rewritten(value, change) for value in copy[name]]
    for name in _SINGLE:
        if name in copy:
            copy[name] = _rewritten(copy[name], change)
    return copy
