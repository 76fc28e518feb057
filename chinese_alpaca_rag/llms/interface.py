"""What chains may know of a model: counting, and reading sources without a prompt. Never a backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from langchain_core.messages import BaseMessage

#: The key of ``additional_kwargs`` under which a human message tells where its segments end: a list of
#: ``[end, label]``, ends in characters of its content, in order. Other prompts may begin as this one does up to
#: such a place, and what was computed up to there is kept for them. ``label`` names the document that the stretch
#: is from (``document_label``), so that what was computed from it can go when it goes; it may be empty.
SEGMENTS: Final = "segments"


@runtime_checkable
class CountsPrompts(Protocol):
    """A chat model that knows its window and counts exactly what it would send."""

    @property
    def window(self) -> int:
        """The context window, in tokens: prompt and reply together."""

    @property
    def max_tokens(self) -> int:
        """The tokens kept for the reply."""

    def count_prompt_tokens(self, messages: Sequence[BaseMessage]) -> int:
        """The length in tokens of the prompt that ``messages`` become, template and BOS included."""


@dataclass(frozen=True)
class SourceText:
    """One numbered source as it was put before the model: ``number`` counts from 1."""

    number: int
    text: str


@runtime_checkable
class ReadsSources(Protocol):
    """A chat model that takes the sources themselves (keyword ``sources``) beside the messages.

    Such a model has no window. Its ``invoke`` and ``stream`` accept ``question: str`` (empty for a
    summary) and ``sources: Sequence[SourceText]``; its answer marks what it quotes with ``[n]``.
    """

    @property
    def reads_sources(self) -> bool:
        """Always true; the name is what the protocol is recognised by."""
