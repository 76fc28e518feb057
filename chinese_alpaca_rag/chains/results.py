"""What a chain returns: an answer or a summary, its checked citations, and the receipt of the work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

StrategyName = Literal["stuff", "map_reduce"]


@dataclass(frozen=True)
class Citation:
    """A place that the answer points to, and whether the claim was found there.

    ``n`` is the number the model wrote. ``start`` and ``end`` are offsets (code points) into the text
    of page ``page`` of ``source``. When ``verified``, ``quote`` is that exact stretch of the page; when
    not, ``quote`` is the claim as the model wrote it and the place is the whole cited passage. A number
    that names no source has ``source`` empty and page, start and end 0.
    """

    n: int
    source: str
    page: int
    start: int
    end: int
    quote: str
    verified: bool


@dataclass(frozen=True)
class Place:
    """A passage's place, for naming what was left out: offsets in code points."""

    source: str
    page: int
    start: int
    end: int


@dataclass(frozen=True)
class Receipt:
    """What was read and what it took. Token counts sum over all calls of the run; seconds are wall time.

    ``window`` is None and the token counts are 0 for the extractive reader, which evaluates no tokens.
    ``prompt_tokens`` counts every prompt token, ``reused_tokens`` those of them that were not evaluated
    again because their keys and values were still held, as the model itself reports; ``evaluated_tokens`` are the
    others. ``passages_used`` counts every passage that was read, ``passages_kept`` those of them that were not found
    for this question and stood in its prompt so that more of it could be reused. ``dropped`` are the places of the
    passages that did not fit; ``remarks`` say, in the user's language, what else was cut on the way (a reply that
    reached its length, notes shortened while merging).
    """

    model: str
    strategy: StrategyName
    window: int | None
    prompt_tokens: int
    reused_tokens: int
    evaluated_tokens: int
    output_tokens: int
    passages_used: int
    passages_kept: int
    passages_dropped: int
    seconds_to_first_token: float
    seconds: float
    dropped: tuple[Place, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer to one question. ``citations`` come in the order in which the answer makes them."""

    answer: str
    citations: tuple[Citation, ...]
    receipt: Receipt

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for ``json.dumps``."""
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """A summary of one or more documents."""

    summary: str
    citations: tuple[Citation, ...]
    receipt: Receipt

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for ``json.dumps``."""
        return asdict(self)
