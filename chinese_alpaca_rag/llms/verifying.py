"""Whether a text is JSON of a schema, in everything that the schema says (JSON Schema, draft 2020-12).

What the grammar cannot hold (unique items, conditions, dependencies, dates that exist) is found here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from chinese_alpaca_rag.errors import StructuredOutputError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.engine import jsonschema
from chinese_alpaca_rag.llms.patterns import PatternError, matches
from chinese_alpaca_rag.llms.request import Constraint, FinishReason
from chinese_alpaca_rag.llms.schemas import Schema

# References that may be followed for one text: a schema whose branches refer to one another could ask for 2^n.
_MOST_REFERENCES: Final = 10_000
_followed: ContextVar[int] = ContextVar("followed", default=0)


def conclude(text: str, constraint: Constraint, finish_reason: FinishReason | None, max_tokens: int) -> Any:
    """The value that a finished answer says, or ``None`` where it is free text.

    Raises ``StructuredOutputError`` for an answer that was cut off inside its JSON (``max_tokens`` is the
    limit that cut it, in tokens) or that ``constraint.schema`` does not allow.
    """
    if constraint.or_text and not text.lstrip(" ").startswith(constraint.opening):
        return None
    value, problem = _read(text)
    # A number alone is whole wherever it is cut.
    if finish_reason == "length" and (problem or isinstance(value, int | float)):
        raise cut_off(text, max_tokens)
    return verify(text, constraint.schema)


def refuse_cut(text: str, constraint: Constraint, finish_reason: FinishReason | None, max_tokens: int) -> None:
    """Raise ``StructuredOutputError`` for an answer that was cut off inside its JSON, and for nothing else."""
    free = constraint.or_text and not text.lstrip(" ").startswith(constraint.opening)
    if finish_reason == "length" and not free and _read(text)[1]:
        raise cut_off(text, max_tokens)


def verify(text: str, schema: Schema) -> Any:
    """The value that ``text`` says. Raises ``StructuredOutputError`` naming the first bound that it breaks."""
    value, problem = _read(text)
    if problem:
        raise StructuredOutputError(
            Words(zh=f"回答不是完整的 JSON：{problem}", en=f"The answer is no whole JSON: {problem}"),
            hint=Words(
                zh="检查 stop 是否出现在 JSON 里；服务器上的模型需支持按结构输出。",
                en="See that no stop text occurs in the JSON, and that a server holds its model to the schema.",
            ),
            partial=text,
        )
    reason = broken_bound(value, schema)
    if reason:
        raise StructuredOutputError(
            Words(zh=f"回答不符合 JSON Schema：{reason}", en=f"The answer breaks its JSON Schema: {reason}"),
            hint=Words(
                zh="这一条件无法在生成时保证：请重试（换 seed），或放宽它。",
                en="This bound cannot be held while writing: try again with another seed, or loosen it.",
            ),
            partial=text,
        )
    return value


def broken_bound(value: Any, schema: Schema) -> str:
    """Where in ``value`` which bound of ``schema`` is broken; empty where none is."""
    package = jsonschema()
    from referencing.exceptions import Unresolvable

    token = _followed.set(0)
    try:
        error = next(_validator(package, schema).iter_errors(value), None)
    except (PatternError, RecursionError, Unresolvable, _TooManyReferencesError) as problem:
        return f"it cannot be checked ({str(problem) or type(problem).__name__})"
    finally:
        _followed.reset(token)
    if error is None:
        return ""
    bound = f"{error.validator}: {_short(error.validator_value)}"
    return f"{error.json_path} = {_short(error.instance)} ({bound})"


def cut_off(text: str, max_tokens: int) -> StructuredOutputError:
    """The error for an answer of ``max_tokens`` tokens that ended inside its JSON."""
    return StructuredOutputError(
        Words(
            zh=f"回答到 max_tokens={max_tokens} 时 JSON 还没有结束。",
            en=f"The answer reached max_tokens={max_tokens} inside its JSON.",
        ),
        hint=Words(
            zh="请加大 max_tokens，或在 schema 里限制字符串和数组的长度（maxLength、maxItems）。",
            en="Raise max_tokens, or bound strings and arrays in the schema (maxLength, maxItems).",
        ),
        partial=text,
    )


class _TooManyReferencesError(Exception):
    """More references were followed than a schema of good faith needs."""


def _read(text: str) -> tuple[Any, str]:
    """The value of ``text`` and an empty reason, or ``None`` and why it is none."""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as problem:
        return None, str(problem) or type(problem).__name__
    return value, ""


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond what a number holds")
    return value


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."


def _validator(package: Any, schema: Schema) -> Any:
    import referencing

    # The package's own default registry would fetch references over the network.
    return _kind()(schema, registry=referencing.Registry(), format_checker=_formats(package))


@lru_cache(maxsize=1)
def _kind() -> Any:
    """Draft 2020-12 with patterns in bounded time and exact multiples."""
    package = jsonschema()
    known = package.Draft202012Validator.VALIDATORS

    def pattern(validator: Any, wanted: str, instance: Any, _: Any) -> Iterator[Any]:
        if validator.is_type(instance, "string") and not matches(wanted, instance):
            yield package.ValidationError(f"{instance!r} does not match {wanted!r}")

    def pattern_properties(validator: Any, wanted: Schema, instance: Any, _: Any) -> Iterator[Any]:
        if validator.is_type(instance, "object"):
            for expression, inner in wanted.items():
                for key, value in instance.items():
                    if matches(expression, key):
                        yield from validator.descend(value, inner, path=key, schema_path=expression)

    def additional_properties(validator: Any, wanted: Any, instance: Any, schema: Schema) -> Iterator[Any]:
        if validator.is_type(instance, "object"):
            for key, value in instance.items():
                named = key in schema.get("properties", ())
                if named or any(matches(one, key) for one in schema.get("patternProperties", ())):
                    continue
                if wanted is False:
                    yield package.ValidationError(f"{key!r} is none of its properties")
                else:
                    yield from validator.descend(value, wanted, path=key)

    def multiple_of(validator: Any, wanted: float, instance: Any, _: Any) -> Iterator[Any]:
        # As decimal numbers: 0.3 is a multiple of 0.1.
        if validator.is_type(instance, "number") and Fraction(repr(instance)) % Fraction(repr(wanted)):
            yield package.ValidationError(f"{instance!r} is not a multiple of {wanted}")

    def reference(validator: Any, wanted: str, instance: Any, schema: Schema) -> Iterator[Any]:
        _followed.set(_followed.get() + 1)
        if _followed.get() > _MOST_REFERENCES:
            raise _TooManyReferencesError(f"more than {_MOST_REFERENCES} references")
        yield from known["$ref"](validator, wanted, instance, schema) or ()

    return package.validators.extend(
        package.Draft202012Validator,
        {
            "pattern": pattern,
            "patternProperties": pattern_properties,
            "additionalProperties": additional_properties,
            "multipleOf": multiple_of,
            "$ref": reference,
        },
    )


@lru_cache(maxsize=1)
def _formats(package: Any) -> Any:
    checker = package.FormatChecker(formats=("date", "ipv4", "ipv6", "email", "uuid"))

    def date_time(value: object) -> bool:
        return not isinstance(value, str) or bool(datetime.fromisoformat(value.replace("z", "Z")))

    checker.checks("date-time", raises=ValueError)(date_time)
    return checker
