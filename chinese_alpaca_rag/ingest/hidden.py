"""Text that no reader of a document sees: left out, and told. It may be there to instruct a model."""

from __future__ import annotations

from chinese_alpaca_rag.language import Words


def hidden_words(count: int) -> Words:
    """In words, that so many characters of hidden text were left out."""
    return Words(zh=f"隐藏文字 {count} 个字，没有收入", en=f"{count} hidden characters left out")


def told_hidden(count: int) -> str:
    """The same for a document's ``hidden``; "" where there are none."""
    return str(hidden_words(count)) if count else ""
