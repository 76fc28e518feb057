"""What a chain tells while it works: the plan, its progress, the reply's text as it comes, the result.

Events add up as LangChain's chunks do: the sum of all events of a run is its result. That is what makes
``chain | next_step`` stream: the next step is given the ``Answer``, not the last event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from chinese_alpaca_rag.chains.results import Answer, StrategyName, Summary
from chinese_alpaca_rag.language import Words

ResultT = TypeVar("ResultT", bound=Answer | Summary)


class Event:
    """One of the events below."""

    def __add__(self, later: object) -> object:
        if isinstance(later, Finished):
            return later.result
        return later if isinstance(later, Event) else NotImplemented


@dataclass(frozen=True)
class PlanMade(Event):
    """How the work will be done, told before the model is first called.

    ``prompt_tokens`` are those of the prompts over the sources (one, or one a part), 0 where nothing is
    counted. ``parts`` is how many prompts that is, ``passages_*`` count passages (parts of those too
    long for the window) as the receipt does, and ``reason`` says why this strategy.
    """

    strategy: StrategyName
    window: int | None
    prompt_tokens: int
    parts: int
    passages_used: int
    passages_dropped: int
    reason: Words
    passages_kept: int = 0


@dataclass(frozen=True)
class Progress(Event):
    """``done`` of ``total`` calls of the model have ended; ``total`` can grow while notes are merged."""

    done: int
    total: int


@dataclass(frozen=True)
class Token(Event):
    """More text of the final reply."""

    text: str


@dataclass(frozen=True)
class Finished(Event, Generic[ResultT]):
    """The end of the run."""

    result: ResultT


AnswerEvent = PlanMade | Progress | Token | Finished[Answer]
SummaryEvent = PlanMade | Progress | Token | Finished[Summary]
