"""What both chains are: a Runnable that does its work as a stream of events.

``stream`` yields the events, ``invoke`` the result that the last of them carries. The asynchronous
methods drive the same stream in a thread, step by step, so that a cancelled task stops the work at
the model's next token and not at its end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar, cast

from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import run_in_executor

from chinese_alpaca_rag.chains.calls import ModelCalls, ReaderInput
from chinese_alpaca_rag.chains.events import Event, Finished, PlanMade, ResultT, Token
from chinese_alpaca_rag.chains.measuring import Measure
from chinese_alpaca_rag.chains.planner import Plan
from chinese_alpaca_rag.chains.sources import Source
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.interface import SourceText

InputT = TypeVar("InputT")
T = TypeVar("T")
Events = Generator[Event, None, None]


class EventChain(Runnable[InputT, ResultT]):
    """A chain over a chat model. Subclasses write ``_work``, which ends with ``Finished``."""

    def __init__(self, model: Runnable[Any, Any], measure: Measure) -> None:
        self.model = model
        self.measure = measure

    @abstractmethod
    def _work(self, given: InputT, calls: ModelCalls) -> Events:
        """The events of one run."""

    def invoke(self, input: InputT, config: RunnableConfig | None = None, **kwargs: Any) -> ResultT:
        """Run to the end and give the result."""
        return self._call_with_config(self._to_the_end, input, config, **kwargs)

    # The events are not of the output's type, but they add up to it: see `events`.
    def stream(  # type: ignore[override]
        self, input: InputT, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Events:
        """The events of a run, as they come. Closing the stream stops the work."""
        yield from self._events(input, config, threading.Event(), **kwargs)

    async def ainvoke(self, input: InputT, config: RunnableConfig | None = None, **kwargs: Any) -> ResultT:
        """Run to the end and give the result; cancelling stops the work."""
        return self._result([event async for event in self.astream(input, config, **kwargs)])

    async def astream(  # type: ignore[override]
        self, input: InputT, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncGenerator[Event, None]:
        """The events of a run, as they come. Cancelling, or closing the stream, stops the work."""
        stop = threading.Event()
        async with aclosing(from_a_thread(self._events(input, config, stop, **kwargs), stop)) as events:
            async for event in events:
                yield event

    def _events(
        self,
        given: InputT,
        config: RunnableConfig | None,
        stop: threading.Event,
        work_on: Callable[[InputT, ModelCalls], Events] | None = None,
        **kwargs: Any,
    ) -> Events:
        """The events of one run; ``work_on`` stands in for ``_work``."""
        working = work_on or self._work

        def work(
            inputs: Iterator[InputT], run_manager: CallbackManagerForChainRun, config: RunnableConfig
        ) -> Iterator[Any]:
            for one in inputs:
                yield from working(one, self._calls(config, stop))

        yield from cast("Iterator[Event]", self._transform_stream_with_config(iter([given]), work, config, **kwargs))

    def _to_the_end(self, given: InputT, run_manager: CallbackManagerForChainRun, config: RunnableConfig) -> ResultT:
        return self._result(list(self._work(given, self._calls(config, threading.Event()))))

    @staticmethod
    def _result(events: list[Event]) -> ResultT:
        """What the last event of a whole run carries."""
        return cast("Finished[ResultT]", events[-1]).result

    def _calls(self, config: RunnableConfig, stop: threading.Event) -> ModelCalls:
        return ModelCalls(self.model, name_of_model(self.model), self.measure, config, stop, time.monotonic())


async def from_a_thread(steps: Generator[T, None, None], stop: threading.Event) -> AsyncGenerator[T, None]:
    """What ``steps`` give, each made in a thread. Whoever stops reading sets ``stop``, and they are closed."""
    taken = _Steps(steps, stop)
    try:
        while (step := await run_in_executor(None, taken.next)) is not None:
            yield step
    finally:
        stop.set()
        closing = asyncio.get_running_loop().run_in_executor(None, taken.close)
        if not taken.busy:
            await closing


class _Steps(Generic[T]):
    """Steps taken one by one from any thread, and closed as soon as none is under way."""

    def __init__(self, steps: Generator[T, None, None], stop: threading.Event) -> None:
        self._steps = steps
        self._stop = stop
        self._lock = threading.Lock()
        self.busy = False

    def next(self) -> T | None:
        """The next step; None at the end and once stopped."""
        with self._lock:
            if self._stop.is_set():
                return None
            self.busy = True
            try:
                return next(self._steps, None)
            finally:
                self.busy = False

    def close(self) -> None:
        with self._lock:
            self._steps.close()


def name_of_model(model: Any) -> str:
    """What a chat model calls itself, else its class's name."""
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    for attribute in ("model_name", "model"):
        name = getattr(model, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(model).__name__


def say(pieces: Iterable[str]) -> Generator[Event, None, str]:
    """The final reply's pieces as events; returns the whole text."""
    said: list[str] = []
    for piece in pieces:
        said.append(piece)
        yield Token(piece)
    return "".join(said)


def plan_made(plan: Plan, window: int | None) -> PlanMade:
    """The event that tells a plan."""
    return PlanMade(
        strategy=plan.strategy,
        window=window,
        prompt_tokens=plan.prompt_tokens,
        parts=len(plan.batches),
        passages_used=plan.used,
        passages_dropped=len(plan.dropped),
        reason=plan.reason,
        passages_kept=plan.kept,
    )


def reader_input(question: str, sources: Sequence[Source]) -> ReaderInput:
    """What a model that reads sources itself is given."""
    return ReaderInput(question, tuple(SourceText(source.number, source.excerpt.text) for source in sources))


def check_choices(strategy: str, language: str) -> None:
    """Raise WrongUsageError for a strategy or language that does not exist."""
    for name, value, known in (
        ("strategy", strategy, ("auto", "stuff", "map_reduce")),
        ("language", language, ("auto", "zh", "en")),
    ):
        if value not in known:
            raise WrongUsageError(
                Words(zh=f"没有 {name}={value!r} 这种选择。", en=f"There is no {name}={value!r}."),
                hint=Words(zh=f"可以选：{'、'.join(known)}", en=f"Choose one of: {', '.join(known)}"),
            )
