"""The form of an answer in llama.cpp's grammar notation (GBNF), for servers that take no JSON Schema."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any, Final

from chinese_alpaca_rag.errors import MissingExtraError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.request import Constraint

# Rules of our own: names that the converter does not make of a property's.
_JSON: Final = "answer--json"
_FREE: Final = "answer--free"
_ANY: Final = "answer--any ::= [^\\x00]"
_ANY_CHARACTER: Final = r'char ::= [^"\\] |'
_NO_CONTROL_CHARACTER: Final = r'char ::= [^"\\\x00-\x1F\x7F] |'
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def grammar_text(constraint: Constraint) -> str:
    """The grammar of ``constraint``; bounds that it cannot hold (of numbers, for example) are left out.

    Raises ``MissingExtraError`` without llama-cpp-python, whose converter is used; ``WrongUsageError``
    for a schema that it cannot convert.
    """
    grammar = _of_schema(constraint.schema)
    if not constraint.or_text:
        return grammar
    renamed = re.sub(r"^root ::=", f"{_JSON} ::=", grammar, count=1, flags=re.MULTILINE)
    return f"root ::= {_JSON} | {_FREE}\n{_text_without(constraint.opening)}\n{renamed}"


def _of_schema(schema: dict[str, Any]) -> str:
    try:
        from llama_cpp.llama_grammar import SchemaConverter
    except ImportError as missing:
        raise MissingExtraError.for_package("llama-cpp-python", "gguf") from missing

    class Converter(SchemaConverter):  # type: ignore[misc]
        """llama-cpp-python's own leaves backslashes as they are: a quote in a constant breaks its grammar."""

        def _format_literal(self, literal: str) -> str:
            with suppress(ValueError):  # one character of a literal is no JSON
                literal = json.dumps(json.loads(literal), ensure_ascii=False)
            return str(super()._format_literal(literal.replace("\\", "\\\\")))

    # Nothing is fetched: a reference that leaves the schema is an error.
    converter = Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
    try:
        converter.visit(converter.resolve_refs(json.loads(json.dumps(schema)), "schema"), "")
        # Its texts may hold raw line ends and other control characters, which JSON's may not.
        return str(converter.format_grammar()).replace(_ANY_CHARACTER, _NO_CONTROL_CHARACTER)
    except Exception as problem:  # a converter with many ways to fail, given a foreign document
        raise WrongUsageError(
            Words(
                zh=f"无法把这个 JSON Schema 转换成语法：{problem}",
                en=f"This JSON Schema cannot be turned into a grammar: {problem}",
            ),
            hint=Words(
                zh="请使用更简单的模式，或 vLLM、本地模型。", en="Use a simpler schema, or vLLM, or a local model."
            ),
        ) from problem


def _text_without(opening: str) -> str:
    """Rules for any text that does not begin with ``opening``: it ends inside it, or leaves it at some character."""
    if not opening:
        return f"{_FREE} ::= answer--any*\n{_ANY}"
    rules = []
    for place, character in enumerate(opening):
        name = _FREE if place == 0 else f"{_FREE}-{place}"
        on = f' | "{_ESCAPES.get(character, character)}" {_FREE}-{place + 1}' if place + 1 < len(opening) else ""
        rules.append(f'{name} ::= "" | [^{_in_class(character)}] answer--any*{on}')
    return "\n".join([*rules, _ANY])


def _in_class(character: str) -> str:
    return f"\\x{ord(character):02X}" if ord(character) < 128 else character
