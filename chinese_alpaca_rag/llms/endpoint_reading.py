"""Reading what a model server answers: every field checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chinese_alpaca_rag.llms.endpoint_dialects import LogprobForm
from chinese_alpaca_rag.llms.endpoint_failures import damaged
from chinese_alpaca_rag.llms.request import FinishReason, TokenLogprob

# What servers call the two ways in which an answer ends.
_FINISHES: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}
_TOKEN_ID: Final = "token_id:"  # noqa: S105
# A model's last layer may be padded beyond its vocabulary.
_PADDING: Final = 128


@dataclass(frozen=True)
class Figures:
    """Tokens, as the server counts them; ``None`` where it does not say."""

    prompt: int | None = None
    answer: int | None = None
    cached: int | None = None


@dataclass(frozen=True)
class Part:
    """One event of an answer, or the whole of one. ``ids`` is ``None`` where the server gives none."""

    text: str
    ids: list[int] | None
    logprobs: list[TokenLogprob]
    finish: FinishReason | None
    figures: Figures | None


def read_part(event: dict[str, Any], *, form: LogprobForm, vocabulary: int, top: int) -> Part:
    """The parts of a ``text_completion`` object. Raises ``EndpointError`` for what has another form."""
    choices = event.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise damaged("", "choices is no list of objects")
    choice: dict[str, Any] = choices[0] if choices else {}
    text = choice.get("text") or ""
    if not isinstance(text, str):
        raise damaged("", f"text is {type(text).__name__}")
    ids = choice.get("token_ids")
    return Part(
        text=text.encode("utf-8", "replace").decode() if not text.isascii() else text,
        ids=None if ids is None else [_token(index, vocabulary) for index in _list(ids)],
        logprobs=_READERS[form](choice["logprobs"], vocabulary, top) if choice.get("logprobs") else [],
        finish=_finish(choice.get("finish_reason")),
        figures=_figures(event),
    )


def _finish(reason: object) -> FinishReason | None:
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str) or reason not in _FINISHES:
        raise damaged("", f"finish_reason is {reason!r:.80}")
    return _FINISHES[reason]


def _figures(event: dict[str, Any]) -> Figures | None:
    """OpenAI's ``usage``, and for the cached tokens also llama-server's ``timings``."""
    usage = event.get("usage")
    if usage is None:
        return None
    details = _mapping(usage).get("prompt_tokens_details") or {}
    timings = event.get("timings") or {}
    cached = _mapping(details).get("cached_tokens", _mapping(timings).get("cache_n"))
    return Figures(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _token_id_lists(logprobs: object, vocabulary: int, top: int) -> list[TokenLogprob]:
    """The three parallel lists of ``/v1/completions``, with "token_id:N" for a token."""
    fields = _mapping(logprobs)
    tokens, values = _list(fields.get("tokens")), _list(fields.get("token_logprobs"))
    others = fields.get("top_logprobs")
    others = [None] * len(tokens) if others is None else _list(others)
    if not len(tokens) == len(values) == len(others):
        raise damaged("", f"{len(tokens)} tokens with {len(values)} log-probabilities")
    return [
        TokenLogprob(
            _named_token(token, vocabulary),
            _logprob(value),
            _best(
                [(_named_token(name, vocabulary), _logprob(other)) for name, other in _mapping(near or {}).items()], top
            ),
        )
        for token, value, near in zip(tokens, values, others, strict=True)
    ]


def _entries(logprobs: object, vocabulary: int, top: int) -> list[TokenLogprob]:
    """A list of entries under ``content``, each with its ``id`` and alternatives of the same form."""

    def pair(entry: object) -> tuple[int, float]:
        fields = _mapping(entry)
        return _token(fields.get("id"), vocabulary), _logprob(fields.get("logprob"))

    return [
        TokenLogprob(
            *pair(entry), _best([pair(near) for near in _list(_mapping(entry).get("top_logprobs") or [])], top)
        )
        for entry in _list(_mapping(logprobs).get("content"))
    ]


def _nothing(*_: object) -> list[TokenLogprob]:
    return []


_READERS: Final[Mapping[LogprobForm, Callable[[object, int, int], list[TokenLogprob]]]] = {
    "token-id-lists": _token_id_lists,
    "entries": _entries,
    "none": _nothing,
}


def _best(pairs: list[tuple[int, float]], top: int) -> tuple[tuple[int, float], ...]:
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:top])


def _named_token(name: object, vocabulary: int) -> int:
    digits = name.removeprefix(_TOKEN_ID) if isinstance(name, str) else ""
    if name == digits or not digits.isdecimal() or len(digits) > 9:
        raise damaged("", f"a token called {name!r:.80}")
    return _token(int(digits), vocabulary)


def _token(index: object, vocabulary: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < vocabulary + _PADDING:
        raise damaged("", f"the token id {index!r:.80} of a vocabulary of {vocabulary}")
    return index


def _logprob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > 0.01:
        raise damaged("", f"the log-probability {value!r:.80}")
    return float(value)


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise damaged("", f"a count of {value!r:.80} tokens")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise damaged("", f"{type(value).__name__} in place of a list")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise damaged("", f"{type(value).__name__} in place of an object")
    return value
