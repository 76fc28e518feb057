"""How sources were laid out in earlier prompts: places and digests, never a text.

A *packing* is one prompt's sources in their order. What a model holds of a prompt serves another one only as far as
both begin alike, so a chain remembers its packings and lets new prompts begin as one of them (``sticky``).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chinese_alpaca_rag.chains.prompts import TaskTexts
from chinese_alpaca_rag.chains.sources import Source
from chinese_alpaca_rag.language import Language

# About as many prompts as 20 GiB hold of a 7B model in half precision.
MOST_IN_MEMORY = 32


@dataclass(frozen=True)
class PackedSource:
    """One source of a packing.

    ``document`` is the digest of the name of what the text is from, ``shown`` that of its label and of every
    character in the prompt; ``start`` and ``end`` are offsets (code points) into the text of page ``page``.
    """

    document: str
    page: int
    start: int
    end: int
    number: int
    shown: str


@dataclass(frozen=True)
class Packing:
    """The sources of one prompt. Only prompts with the same ``under`` (see ``beginning_of``) can begin alike."""

    under: str
    sources: tuple[PackedSource, ...]


class PackingMemory(Protocol):
    """Remembers packings; used by several threads. It forgets of itself what was not used for long."""

    def recall(self, under: str) -> Sequence[Packing]:
        """Those under ``under``, the one used last first."""

    def remember(self, packing: Packing) -> None:
        """``packing`` was used now; what only is a beginning of it goes."""

    def forget(self, packing: Packing) -> None:
        """``packing`` is held no longer, nor is any under the same ``under`` that was used longer ago."""


class RecentPackings:
    """The packings used last, in memory."""

    def __init__(self, most: int = MOST_IN_MEMORY) -> None:
        self._most = most
        self._packings: list[Packing] = []
        self._guard = threading.Lock()

    def recall(self, under: str) -> Sequence[Packing]:
        """See ``PackingMemory``."""
        with self._guard:
            return [packing for packing in self._packings if packing.under == under]

    def remember(self, packing: Packing) -> None:
        """See ``PackingMemory``."""
        with self._guard:
            self._packings = with_packing(self._packings, packing)[: self._most]

    def forget(self, packing: Packing) -> None:
        """See ``PackingMemory``."""
        with self._guard:
            self._packings = without_packing(self._packings, packing)


def with_packing(packings: Sequence[Packing], new: Packing) -> list[Packing]:
    """``packings`` with ``new`` in front, without those that ``new`` begins with."""
    return [new, *(known for known in packings if not _begins_with(new, known))]


def without_packing(packings: Sequence[Packing], stale: Packing) -> list[Packing]:
    """``packings`` without ``stale`` and those behind it with the same ``under``; all of them where it is gone."""
    if stale not in packings:
        return list(packings)
    place = packings.index(stale)
    return [*packings[:place], *(known for known in packings[place:] if known.under != stale.under)]


def beginning_of(model: str, window: int | None, texts: TaskTexts, language: Language) -> str:
    """What decides how prompts begin before their first source, and for which model they are, as a digest."""
    told = [model, window, texts.system, texts.sources_heading, language]
    return _digest(json.dumps(told, ensure_ascii=True))


def packing_of(sources: Sequence[Source], under: str, language: Language) -> Packing:
    """The packing of a prompt's sources."""
    return Packing(under, tuple(packed(source, language) for source in sources))


def packed(source: Source, language: Language) -> PackedSource:
    """What is remembered of a source."""
    excerpt = source.excerpt
    # The document's label names its content: a passage of a file that has changed elsewhere is not the same any more.
    shown = "\n".join((source.label(language), excerpt.document, excerpt.text))
    return PackedSource(
        digest_of_name(excerpt.source), excerpt.page, excerpt.start, excerpt.end, source.number, _digest(shown)
    )


def digest_of_name(source: str) -> str:
    """What is remembered of the name of a document."""
    return _digest(source)


def _begins_with(packing: Packing, beginning: Packing) -> bool:
    return packing.under == beginning.under and packing.sources[: len(beginning.sources)] == beginning.sources


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
