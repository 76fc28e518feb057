"""LangChain chat models for the family, and the extractive reader that needs no weights.

The public names load when they are first asked for, so that importing this room costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.endpoint import ChatAlpacaEndpoint
    from chinese_alpaca_rag.llms.extractive import ExtractiveReader
    from chinese_alpaca_rag.llms.factory import chat_alpaca
    from chinese_alpaca_rag.llms.gguf import AlpacaGGUF, ChatAlpacaGGUF
    from chinese_alpaca_rag.llms.huggingface import AlpacaHF, ChatAlpacaHF

__all__ = [
    "AlpacaGGUF",
    "AlpacaHF",
    "ChatAlpacaEndpoint",
    "ChatAlpacaGGUF",
    "ChatAlpacaHF",
    "ExtractiveReader",
    "chat_alpaca",
]

_HOMES = {
    "AlpacaGGUF": "gguf",
    "AlpacaHF": "huggingface",
    "ChatAlpacaEndpoint": "endpoint",
    "ChatAlpacaGGUF": "gguf",
    "ChatAlpacaHF": "huggingface",
    "ExtractiveReader": "extractive",
    "chat_alpaca": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
