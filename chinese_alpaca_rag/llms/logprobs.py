"""Log-probabilities in the form that OpenAI's chat completions give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.request import TokenLogprob


def as_openai(logprobs: Sequence[TokenLogprob], tokenizer: Tokenizer) -> dict[str, Any]:
    """``{"content": [{"token", "bytes", "logprob", "top_logprobs"}]}``; ``bytes`` tell halves of characters apart."""
    return {
        "content": [
            _entry(entry.id, entry.logprob, tokenizer)
            | {"top_logprobs": [_entry(index, logprob, tokenizer) for index, logprob in entry.top]}
            for entry in logprobs
        ]
    }


def _entry(index: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    value = tokenizer.piece_bytes[index] if index < len(tokenizer.piece_bytes) else b""
    return {"token": value.decode(errors="replace"), "bytes": list(value), "logprob": logprob}
