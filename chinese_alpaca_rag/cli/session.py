"""What every command is given."""

from __future__ import annotations

from dataclasses import dataclass

from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.settings import Settings


@dataclass(frozen=True)
class Session:
    """The user's settings for this run, and where to write."""

    settings: Settings
    output: Output
