"""Many questions in one go: looked up first, then asked in groups over one prompt's beginning.

Each question keeps a run of its own, with its callbacks, its plan, its citations and its receipt. The runs are
generators, taken from step to step in turn: at ``Waiting`` a run stands until something was done for several at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from chinese_alpaca_rag.chains.asking import Asked
from chinese_alpaca_rag.chains.calls import Prompt, StoppedError
from chinese_alpaca_rag.chains.events import Event, Finished
from chinese_alpaca_rag.chains.grouping import group_questions
from chinese_alpaca_rag.chains.measuring import Measure
from chinese_alpaca_rag.chains.planner import Plan
from chinese_alpaca_rag.chains.results import Answer
from chinese_alpaca_rag.chains.running import Events
from chinese_alpaca_rag.chains.sources import Excerpt, lay_out, size_of
from chinese_alpaca_rag.chains.sticky import MOST_EXTRA, Beginning
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.interface import CountsPrompts

Outcome = Answer | Exception

#: So many questions are looked up before the first of them is asked.
AT_ONCE = 256
#: The most questions over one prompt where the model is asked one after another.
MOST_IN_TURN = 16
# How often, in seconds, is looked whether anybody still waits for answers that are made side by side.
_LOOK_AGAIN = 0.05


class Waiting(Event):
    """The run stands until its seat has what it waits for. Never shown to anybody outside."""


@dataclass(eq=False)
class Seat:
    """One question's run and what is handed to and fro.

    The run sets ``asked`` and ``plan`` and waits; then ``shared`` is set where it has company. In company that is
    answered ``side_by_side`` it sets ``prompt`` and ``config`` and waits for ``reply``.
    """

    number: int
    asked: Asked | None = None
    plan: Plan | None = None
    shared: Plan | None = None
    begun: Beginning | None = None
    side_by_side: bool = False
    prompt: Prompt = ()
    config: RunnableConfig | None = None
    reply: BaseMessage | Exception | None = None
    outcome: Outcome | None = None
    events: Events | None = None

    def go_on(self) -> bool:
        """Go on to the next place to wait at; False at the end, with the ``outcome``."""
        assert self.events is not None  # noqa: S101 - set right after it was made
        try:
            for event in self.events:
                if isinstance(event, Waiting):
                    return True
                if isinstance(event, Finished):
                    self.outcome = event.result
        except Exception as problem:
            self.outcome = problem
        return False

    def close(self) -> None:
        """Give up what is left of the run."""
        if self.events is not None:
            self.events.close()


class Host(Protocol):
    """The chain whose questions are asked together."""

    model: Runnable[Any, Any]
    measure: Measure

    def begin_together(self, plan: Plan, company: Sequence[Asked]) -> Beginning | None:
        """``plan`` for all of ``company`` behind the beginning of an earlier prompt, None where that saves nothing.

        The first of them has the longest question.
        """


class Company:
    """The questions of one call, and who answers them."""

    def __init__(self, host: Host, stop: threading.Event, *, watched: bool) -> None:
        """``watched`` says that ``stop`` can be set by another thread while this one waits for the model."""
        self._host = host
        self._stop = stop
        self._watched = watched
        rows = _rows(host.model)
        self._side_by_side = rows > 1
        self._most = rows if rows > 1 else MOST_IN_TURN

    def answer(self, seats: Sequence[Seat]) -> Generator[tuple[int, Outcome], None, None]:
        """Every seat's number and outcome, as they are finished."""
        try:
            waiting = []
            for seat in seats:
                self._check_stop()
                if seat.go_on():
                    waiting.append(seat)
                else:
                    yield _outcome(seat)
            for group in self._groups(waiting):
                yield from self._answer_group(group)
        finally:
            for seat in seats:
                seat.close()

    def _answer_group(self, group: Sequence[Seat]) -> Iterator[tuple[int, Outcome]]:
        company = self._seated_together(group)
        for seat in company if self._side_by_side else ():
            self._check_stop()
            seat.side_by_side = True
            seat.go_on()
        side_by_side = [seat for seat in company if seat.config is not None]
        if side_by_side:
            replies = self._replies(side_by_side)
            for seat, reply in zip(side_by_side, replies, strict=True):
                seat.reply = reply
        for seat in group:
            self._check_stop()
            if seat.outcome is None:
                seat.go_on()
            yield _outcome(seat)

    def _groups(self, seats: Sequence[Seat]) -> list[list[Seat]]:
        def fits(places: Sequence[int], passages: Sequence[Excerpt]) -> bool:
            members = [seats[place] for place in places]
            return _asked(members[0]).language == _asked(members[-1]).language and self._host.measure.fits(
                _longest(members, self._host.measure).prompt(lay_out(passages))
            )

        needed = [_needed(seat) for seat in seats] if self._host.measure.limit is not None else [()] * len(seats)
        return [[seats[place] for place in places] for places in group_questions(needed, self._most, fits)]

    def _seated_together(self, group: Sequence[Seat]) -> list[Seat]:
        """Give a group its common plan; those of it whose own prompt fits, none where that is not several."""
        measure = self._host.measure
        if len(group) < 2 or measure.limit is None:
            return []
        longest = _longest(group, measure)
        passages = tuple(dict.fromkeys(excerpt for seat in group for excerpt in _needed(seat)))
        sources = lay_out(passages)
        tokens = measure.count(longest.prompt(sources))
        plan = Plan("stuff", (sources,), len(passages), (), tokens, _reason(len(group), len(passages)), passages)
        others = [_asked(seat) for seat in group if _asked(seat) is not longest]
        begun = self._host.begin_together(plan, [longest, *others])
        if begun is not None and all(_is_worth_it(begun.plan, _needed(seat)) for seat in group):
            plan = begun.plan
        else:
            begun = None
        counts = {seat: measure.count(_asked(seat).prompt(plan.sources)) for seat in group}
        company = [seat for seat in group if counts[seat] <= measure.limit]
        if len(company) < 2:
            return []
        for place, seat in enumerate(company):
            own = len(_needed(seat))
            reason = _reason(len(company), plan.used)
            seat.shared = replace(plan, kept=plan.used - own, prompt_tokens=counts[seat], reason=reason)
            # What the first finds held tells whether the beginning was; the others find what the first had read.
            seat.begun = replace(begun, plan=seat.shared) if begun is not None and place == 0 else None
        return company

    def _replies(self, seats: Sequence[Seat]) -> list[BaseMessage | Exception]:
        model = self._host.model
        prompts = [list(seat.prompt) for seat in seats]
        configs = [seat.config or {} for seat in seats]
        if not self._watched:
            return model.batch(prompts, configs, return_exceptions=True)
        return asyncio.run(_until_stopped(model, prompts, configs, self._stop))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError


async def _until_stopped(
    model: Runnable[Any, Any], prompts: list[Any], configs: list[RunnableConfig], stop: threading.Event
) -> list[Any]:
    """The replies; the model is called off when ``stop`` is set."""
    replies = asyncio.ensure_future(model.abatch(prompts, configs, return_exceptions=True))
    while not replies.done():
        await asyncio.wait([replies], timeout=_LOOK_AGAIN)
        if stop.is_set() and not replies.done():
            replies.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await replies
            raise StoppedError
    return replies.result()


def wait() -> Generator[Event, None, None]:
    """Stand until the others are as far."""
    yield Waiting()


def _rows(model: Any) -> int:
    """How many prompts the model evaluates side by side, what they share only once; 1 for one that does not."""
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    rows = getattr(model, "batch_size", 1)
    return rows if isinstance(model, CountsPrompts) and isinstance(rows, int) else 1


def _needed(seat: Seat) -> tuple[Excerpt, ...]:
    """The passages that a question may share a prompt for; none where its own prompt is not all it needs."""
    plan = seat.plan
    return () if plan is None or plan.strategy != "stuff" or plan.left else plan.taken


def _asked(seat: Seat) -> Asked:
    assert seat.asked is not None  # noqa: S101 - only seats that wait are asked for
    return seat.asked


def _is_worth_it(plan: Plan, needed: Sequence[Excerpt]) -> bool:
    """Whether a question finds no more beside what it needs than it may in any prompt."""
    own = sum(map(size_of, needed))
    return sum(size_of(source.excerpt) for source in plan.sources) <= (1 + MOST_EXTRA) * own


def _longest(seats: Sequence[Seat], measure: Measure) -> Asked:
    """The question that takes most tokens."""
    return max(map(_asked, seats), key=lambda asked: measure.count(asked.prompt(())))


def _outcome(seat: Seat) -> tuple[int, Outcome]:
    if seat.outcome is None:
        raise RuntimeError("a question's run ended without a result")
    return seat.number, seat.outcome


def _reason(questions: int, passages: int) -> Words:
    return Words(
        zh=f"与另外 {questions - 1} 个问题共用一份提示，共 {passages} 段，只读一遍。",
        en=f"One prompt with {questions - 1} more questions: {passages} passages, read once.",
    )
