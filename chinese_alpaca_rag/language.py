"""The two languages in which the kit speaks to a person: Chinese and English.

Everything that a user reads (errors, command help, reports) is written as a pair, side by side, and
the pair is resolved when it is shown. The choice follows ``ALPACA_RAG_LANGUAGE`` (``zh`` or ``en``),
then the locale variables in POSIX order; without any of them it is English.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]


def user_language(environment: Mapping[str, str] | None = None) -> Language:
    """The language to speak to this user, read from ``environment`` (the process's own by default)."""
    variables = os.environ if environment is None else environment
    for name in ("ALPACA_RAG_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = variables.get(name, "").strip()
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


@dataclass(frozen=True)
class Words:
    """One text in both languages; ``str()`` gives the user's own."""

    zh: str
    en: str

    def text(self, language: Language | None = None) -> str:
        """The text in ``language``, or in the user's own language when none is given."""
        return self.zh if (language or user_language()) == "zh" else self.en

    def __str__(self) -> str:
        return self.text()
