"""Regular expressions of JSON Schemas, matched in bounded time: they come from whoever wrote the schema.

llguidance's engine is linear and reads nearly all of them. What it cannot read (lookaround, back references)
is left to Python's, which can take exponential time: only expressions whose work is bounded are let through.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from chinese_alpaca_rag.llms.engine import llguidance

# Python's engine tries at most about length^quantifiers ways.
_LONGEST_TEXT: Final = 200
_MOST_QUANTIFIERS: Final = 3
_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)
_CHARACTERS: Final = re.compile(r"\[[^\]]*\]")
_LOOKAROUND: Final = re.compile(r"\(\?<?[=!]([^()]*)\)")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_QUANTIFIER: Final = re.compile(r"[*+]|\{\d+,\d*\}")


class PatternError(Exception):
    """A pattern that cannot be used, or a text too long for one."""


@lru_cache(maxsize=256)
def is_linear(pattern: str) -> bool:
    """Whether the grammar's own engine reads ``pattern``."""
    return not _grammar_error(pattern)


def check_pattern(pattern: str) -> None:
    """Raise ``PatternError``, with the reason, for a pattern that neither engine can be given."""
    reason = _grammar_error(pattern)
    if not reason:
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as problem:
        raise PatternError(str(problem)) from problem
    shape = _CHARACTERS.sub("x", _ESCAPE.sub("x", pattern))
    parts = [_LOOKAROUND.sub("", shape), *_LOOKAROUND.findall(shape)]
    if _REPEATED_GROUP.search(shape) or any(len(_QUANTIFIER.findall(part)) > _MOST_QUANTIFIERS for part in parts):
        raise PatternError(reason)


def matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` is found in ``text``, as JSON Schema's ``pattern`` means it. Raises ``PatternError``."""
    if is_linear(pattern):
        engine = llguidance()
        matcher = engine.LLMatcher(_bytes_tokenizer(), _grammar(pattern), log_level=0)
        consumed = matcher.consume_tokens(list(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")))
        return bool(consumed and matcher.is_accepting())
    check_pattern(pattern)
    if len(text) > _LONGEST_TEXT:
        raise PatternError(f"{len(text)} > {_LONGEST_TEXT} characters for {pattern}")
    return re.search(pattern, text) is not None


def _grammar(pattern: str) -> str:
    grammar: str = llguidance().LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern})
    return grammar


@lru_cache(maxsize=256)
def _grammar_error(pattern: str) -> str:
    """Why the grammar's engine does not take ``pattern``, on one line; empty where it does."""
    reason: str = llguidance().LLMatcher.validate_grammar(_grammar(pattern))
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error:")), lines[0]) if lines else ""


@lru_cache(maxsize=1)
def _bytes_tokenizer() -> Any:
    """Every byte is its own id."""
    return llguidance().LLTokenizer("byte")
