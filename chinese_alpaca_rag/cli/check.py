"""One thing that ``alpaca-rag doctor`` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chinese_alpaca_rag.language import Words

State = Literal["ok", "hint", "problem"]
NO_HINT = Words(zh="", en="")


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``hint`` says what to do; a ``problem`` breaks what the user needs, a ``hint`` does not."""

    name: str
    label: Words
    state: State
    detail: Words
    hint: Words = NO_HINT

    def to_json(self) -> dict[str, str]:
        """The check in the user's language."""
        return {"name": self.name, "state": self.state, "detail": str(self.detail), "hint": str(self.hint)}


def same(text: str) -> Words:
    """Words that are no language's."""
    return Words(zh=text, en=text)


def to_run(command: str) -> Words:
    """The hint to run ``command``."""
    return Words(zh=f"请运行：{command}", en=f"Run: {command}")
