"""What is asked of a model, and what an answer tells of itself: the seam between LangChain and evaluation."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.family.template import Segment

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Constraint:
    """The form an answer must have: JSON of ``schema``, or, with ``or_text``, free text instead.

    Free text never begins with ``opening``, the fixed characters that JSON of the schema begins with
    (``{"tool_calls"``), so that the first characters decide. ``schema`` is a JSON Schema as a dict.
    """

    schema: dict[str, Any] = field(hash=False)
    or_text: bool = False
    opening: str = ""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: ``ids`` is the whole prompt to be led away from, ``scale`` above 1 how far."""

    ids: tuple[int, ...]
    scale: float


@dataclass(frozen=True)
class Request:
    """One answer that is wanted. Lengths are in tokens.

    ``ids`` is the whole prompt. ``sampling.max_tokens`` is already limited by what the window leaves.
    Before ``min_tokens`` no end-of-text id is chosen. ``top_logprobs``: ``None`` for no log-probabilities,
    else how many alternatives to each chosen id (0: the chosen one alone). ``beams`` above 1 searches
    instead of sampling. ``segments`` end in ``ids``: other prompts may begin as this one does up to there.
    ``speculative``: whether ids may be guessed and then checked several at once.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    seed: int | None
    stops: tuple[str, ...]
    min_tokens: int = 0
    top_logprobs: int | None = None
    constraint: Constraint | None = None
    guidance: Guidance | None = None
    beams: int = 1
    segments: tuple[Segment, ...] = ()
    speculative: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen id, its natural log-probability before penalties and constraints, and the likeliest in its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Answer(Protocol):
    """The work on one request; every figure grows true as ``pieces`` goes on."""

    @property
    def request(self) -> Request:
        """What was asked."""

    @property
    def reused(self) -> int:
        """Prompt tokens that were not evaluated again."""

    @property
    def output_tokens(self) -> int:
        """The answer's tokens, without the end-of-text id."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; ``None`` until it has, and for one that was called off."""

    @property
    def logprobs(self) -> Sequence[TokenLogprob]:
        """One entry an output token, where they were asked for."""

    def pieces(self) -> Generator[str]:
        """The answer's text as it comes, never an empty piece and never half a character.

        Nothing is evaluated beyond what was asked for with ``next``; closing the generator ends the
        work. Raises ``ModelError``.
        """
