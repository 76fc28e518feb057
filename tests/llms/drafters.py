"""Drafters that know the answer, more or less, and asking a model with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage

from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.drafting import Drafter, Guess
from chinese_alpaca_rag.llms.generation import Generation
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.speculation import Speculation


class Scripted:
    """Guesses ``answer``, each id of it with probability ``right`` and otherwise one of ``wrong``."""

    source = "scripted"

    def __init__(
        self, answer: Sequence[int], right: float, *, wrong: Sequence[int] = (300, 301, 302), costly: bool = False
    ) -> None:
        self.costly = costly
        self.closed = False
        self._answer = answer
        self._right = right
        self._wrong = wrong
        self._chance = random.Random(7)

    def get_ready(self) -> None:
        """Nothing is opened."""

    def guess(self, written: Sequence[int], most: int) -> Guess:
        """The next ids of the answer, or others."""
        guessed = [
            index if self._chance.random() < self._right else self._other(index)
            for index in self._answer[len(written) : len(written) + most]
        ]
        return Guess(guessed, self.source)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def _other(self, index: int) -> int:
        return self._chance.choice([other for other in self._wrong if other != index])


@dataclass
class Written:
    """What came of a request: the ids, the text in its pieces, and how it ended."""

    ids: list[int]
    pieces: list[str]
    answer: Generation

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def told(self) -> tuple[Any, ...]:
        """All that must not depend on guesses."""
        answer = self.answer
        return self.ids, self.pieces, answer.finish_reason, answer.logprobs, answer.output_tokens


def request_of(model: LocalChat, question: str, **arguments: Any) -> Request:
    """The request that a call would make."""
    return model._prepare([HumanMessage(question)], arguments.pop("stop", None), arguments)[1]


def generation_of(model: LocalChat, request: Request, cancelled: Cancellation | None = None) -> Generation:
    """The work on ``request``, nothing of it begun."""
    answer = model._answer_to(request, cancelled or Cancellation())
    assert isinstance(answer, Generation)
    return answer


def written(model: LocalChat, request: Request) -> Written:
    """The whole answer to ``request``."""
    answer = generation_of(model, request)
    pieces = list(answer.pieces())
    assert answer._writing is not None
    return Written(answer._writing.ids, pieces, answer)


def plain(model: LocalChat, request: Request) -> Written:
    """As ``written``, without any guess."""
    return written_with(model, request, lambda *_: None)


def written_with(
    model: LocalChat, request: Request, speculation: Callable[[Request, Pace], Speculation | None]
) -> Written:
    """As ``written``, with what ``speculation`` makes."""
    before, model._speculation_for = model._speculation_for, speculation
    try:
        return written(model, request)
    finally:
        model._speculation_for = before


def always(
    model: LocalChat, *drafters: Drafter, count: int | None = 5
) -> Callable[[Request, Pace], Speculation | None]:
    """Takes ``count`` ids of each guess, whatever that costs; ``None``: as many as pay."""
    return lambda request, pace: Speculation(request, drafters, pace, model.tokenizer.end_ids, always=count)
