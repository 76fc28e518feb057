"""A lower bound on the length of what a schema asks for, so that a budget it cannot fit is refused at once.

The bound is never above the truth. A text cut into parts takes at least as many tokens as its parts together
less one a cut, when a token may be any stretch of a piece: the cut token then counts twice, in two such stretches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.schemas import Schema, subschemas

# Longest text (bytes) and most alternatives whose tokens are counted; beyond, length alone is the bound.
_COUNTED_BYTES: Final = 2000
_COUNTED_CHOICES: Final = 64
_ROUNDS: Final = 50
_END: Final = b"\xff\xff"  # in no piece: no UTF-8


def check_budget(schema: Schema, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Raise ``WrongUsageError`` where no JSON of ``schema`` has as few tokens as ``max_tokens``."""
    least = least_tokens(schema, tokenizer)
    if least <= max_tokens:
        return
    if math.isinf(least):
        raise WrongUsageError(
            Words(zh="这个 JSON Schema 没有有限的实例。", en="This JSON Schema has no finite instance."),
            hint=Words(
                zh="让递归的 $ref 可以省略或为 null。", en="Let a recursive $ref be left out somewhere, or be null."
            ),
        )
    raise WrongUsageError(
        Words(
            zh=f"最短的合格 JSON 至少有 {least:.0f} 个词元，max_tokens 只有 {max_tokens}。",
            en=f"The shortest JSON of this schema is at least {least:.0f} tokens long; max_tokens is {max_tokens}.",
        ),
        hint=Words(
            zh="请加大 max_tokens，或减少必需的属性和最小长度。",
            en="Raise max_tokens, or ask for fewer required properties and shorter minimums.",
        ),
    )


def least_tokens(schema: Schema, tokenizer: Tokenizer) -> float:
    """A number of tokens that no JSON of ``schema`` goes below; infinite where there is no finite one."""
    return _Estimate(schema, _pieces(tokenizer)).root()


@dataclass(frozen=True)
class _Least:
    """Lower bounds of one text: ``tokens``, and ``characters``."""

    tokens: float
    characters: float


_ANY: Final = _Least(1, 1)
_NONE: Final = _Least(math.inf, math.inf)


class _Pieces:
    """The stretches that one token can stand for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        values = [value for index, value in enumerate(tokenizer.piece_bytes) if index not in tokenizer.control_ids]
        self._joined = _END.join(set(values))
        self.longest = max(len(value.decode("utf-8", "replace")) for value in values)
        self._known: dict[bytes, int] = {}

    def count(self, text: bytes) -> int:
        """The fewest stretches that make up ``text``; always taking the longest is best, as parts of one are one."""
        if text not in self._known:
            count = position = 0
            while position < len(text):
                length = 1
                while position + length < len(text) and text[position : position + length + 1] in self._joined:
                    length += 1
                position += length
                count += 1
            self._known[text] = count
        return self._known[text]


class _Estimate:
    def __init__(self, schema: Schema, pieces: _Pieces) -> None:
        self._schema = schema
        self._pieces = pieces
        self._by_reference: dict[str, _Least] = {
            part["$ref"]: _NONE for part in subschemas(schema) if isinstance(part.get("$ref"), str)
        }

    def root(self) -> float:
        """Knuth's generalisation of Dijkstra's algorithm, by plain rounds: references begin without an end."""
        for _ in range(_ROUNDS):
            found = {target: self._of(self._resolved(target)) for target in self._by_reference}
            if found == self._by_reference:
                break
            self._by_reference = found
        else:
            self._by_reference = dict.fromkeys(self._by_reference, _ANY)
        return self._of(self._schema).tokens

    def _resolved(self, target: str) -> Any:
        found: Any = self._schema
        if target == "#":
            return found
        if not target.startswith("#/"):
            return True
        for step in target[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            else:
                return True
        return found

    def _of(self, schema: Any) -> _Least:
        if schema is False:
            return _NONE
        if not isinstance(schema, dict):
            return _ANY
        bounds = [_ANY]
        if "const" in schema:
            bounds.append(self._written([schema["const"]]))
        if isinstance(schema.get("enum"), list):
            bounds.append(self._written(schema["enum"]))
        if isinstance(schema.get("$ref"), str):
            bounds.append(self._by_reference[schema["$ref"]])
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list):
                bounds.append(_fewest(map(self._of, schema[word])))
        bounds.extend(map(self._of, schema.get("allOf", ())))
        if "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            bounds.append(_fewest(self._of_kind(kind, schema) for kind in kinds))
        return _most(bounds)

    def _of_kind(self, kind: str, schema: Schema) -> _Least:
        if kind == "object":
            return self._of_object(schema)
        if kind == "array":
            return self._of_array(schema)
        if kind == "string":
            return self._of_length(2 + max(0, math.ceil(schema.get("minLength", 0))))
        return _ANY

    def _of_object(self, schema: Schema) -> _Least:
        known = schema.get("properties", {})
        parts: list[_Least] = []
        for number, name in enumerate(schema.get("required", ())):
            before = ", " if number else "{"
            parts += [self._text(f"{before}{json.dumps(name, ensure_ascii=False)}: "), self._of(known.get(name, True))]
        return self._joined(parts, 1) if parts else self._of_length(2)

    def _of_array(self, schema: Schema) -> _Least:
        count = max(0, math.ceil(schema.get("minItems", 0)))
        if not count:
            return self._of_length(2)
        first = [self._of(item) for item in schema.get("prefixItems", ())[:count]]
        rest = self._of(schema.get("items", True)) if count > len(first) else _ANY
        more = count - len(first)
        cuts, characters = 2 * count, 2 * count + sum(item.characters for item in first)
        tokens = 1 + sum(item.tokens for item in first) + more * rest.tokens + count - cuts
        return self._at_least(tokens, characters + more * rest.characters)

    def _joined(self, parts: list[_Least], more_characters: int) -> _Least:
        tokens = sum(part.tokens for part in parts) - (len(parts) - 1)
        return self._at_least(tokens, more_characters + sum(part.characters for part in parts))

    def _of_length(self, characters: float) -> _Least:
        return self._at_least(1, characters)

    def _at_least(self, tokens: float, characters: float) -> _Least:
        if math.isinf(characters):
            return _NONE
        return _Least(max(1, tokens, math.ceil(characters / self._pieces.longest)), characters)

    def _written(self, values: list[Any]) -> _Least:
        # The grammar may write a number in another way than Python, and keys in another order.
        if len(values) > _COUNTED_CHOICES or not all(isinstance(value, str | bool | None) for value in values):
            return _ANY
        return _fewest(self._text(json.dumps(value, ensure_ascii=False)) for value in values)

    def _text(self, text: str) -> _Least:
        value = text.encode()
        tokens = self._pieces.count(value) if len(value) <= _COUNTED_BYTES else 1
        return self._at_least(tokens, len(text))


def _fewest(bounds: Iterable[_Least]) -> _Least:
    every = list(bounds)
    if not every:
        return _NONE
    return _Least(min(one.tokens for one in every), min(one.characters for one in every))


def _most(bounds: Iterable[_Least]) -> _Least:
    every = list(bounds)
    return _Least(max(one.tokens for one in every), max(one.characters for one in every))


_known: WeakKeyDictionary[Tokenizer, _Pieces] = WeakKeyDictionary()


def _pieces(tokenizer: Tokenizer) -> _Pieces:
    pieces = _known.get(tokenizer)
    if pieces is None:
        pieces = _known[tokenizer] = _Pieces(tokenizer)
    return pieces
