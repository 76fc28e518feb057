"""Answering a question from what a retriever finds, with every citation checked."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list, patch_config

from chinese_alpaca_rag.chains.asking import Asked, Question, finished, question_of
from chinese_alpaca_rag.chains.calls import ModelCalls
from chinese_alpaca_rag.chains.events import Event, Finished, PlanMade
from chinese_alpaca_rag.chains.folding import fold
from chinese_alpaca_rag.chains.markers import find_markers
from chinese_alpaca_rag.chains.measuring import ForeignMeasure, Measure, NoMeasure, measure_model
from chinese_alpaca_rag.chains.packings import PackingMemory, RecentPackings
from chinese_alpaca_rag.chains.planner import Plan, StrategyChoice, plan_answer
from chinese_alpaca_rag.chains.prompts import (
    DEFAULT_PROMPTS,
    Prompts,
    TaskTexts,
    fill,
    language_of,
    note_messages,
    source_messages,
)
from chinese_alpaca_rag.chains.reducing import Counter, NotesPrompt, condense, read_parts
from chinese_alpaca_rag.chains.results import Answer
from chinese_alpaca_rag.chains.retrieving import Retriever, find, find_more
from chinese_alpaca_rag.chains.running import (
    EventChain,
    Events,
    check_choices,
    from_a_thread,
    name_of_model,
    plan_made,
    reader_input,
    say,
)
from chinese_alpaca_rag.chains.sources import Excerpt, documents_of
from chinese_alpaca_rag.chains.sticky import MOST_RANKED, WIDER, Beginning, Stickiness
from chinese_alpaca_rag.chains.together import AT_ONCE, Company, Outcome, Seat, wait
from chinese_alpaca_rag.language import Language, Words


def create_qa_chain(
    model: BaseChatModel,
    retriever: Retriever,
    *,
    window: int | None = None,
    max_tokens: int | None = None,
    strategy: StrategyChoice = "auto",
    language: Literal["auto"] | Language = "auto",
    prompts: Prompts = DEFAULT_PROMPTS,
    packings: PackingMemory | None = None,
) -> QuestionAnswering:
    """A Runnable from a question (text, or a mapping with ``question``) to an ``Answer``.

    ``window`` (tokens) is needed for a model that does not know its own and narrows that of one that
    does; ``max_tokens`` are the tokens kept for the reply of a model that does not say. Strategy "auto"
    counts and decides; language "auto" follows the question. ``packings`` remembers how earlier prompts began, so that
    later ones begin alike where they can: in memory unless another is given, such as a ``PackingFile``.
    ``stream`` yields ``AnswerEvent``s. Raises WrongUsageError where no window is known, here; EmptyQuestionError and
    QuestionTooLongError when run.
    """
    measure = measure_model(model, window=window, reply=max_tokens)
    return QuestionAnswering(
        model, measure, retriever, strategy=strategy, language=language, prompts=prompts, packings=packings
    )


class QuestionAnswering(EventChain[Question, Answer]):
    """Made by ``create_qa_chain``."""

    name = "QuestionAnswering"

    def __init__(
        self,
        model: Runnable[Any, Any],
        measure: Measure,
        retriever: Retriever,
        *,
        strategy: StrategyChoice,
        language: Literal["auto"] | Language,
        prompts: Prompts,
        packings: PackingMemory | None = None,
    ) -> None:
        super().__init__(model, measure)
        self.retriever = retriever
        check_choices(strategy, language)
        self.strategy = strategy
        self.language = language
        self.prompts = prompts
        self._sticky = Stickiness(packings or RecentPackings(), name_of_model(model), measure)

    def _work(self, given: Question, calls: ModelCalls) -> Events:
        asked = self._look_up(given, calls.config)
        if not asked.found:
            yield from _nothing_found(asked.texts, calls)
            return
        plan = self._plan(asked)
        yield from self._answer(asked, plan, self._begin(asked, plan), calls)

    def batch(
        self,
        inputs: Sequence[Question],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """The answers to ``inputs``, in their order; see ``batch_as_completed``."""
        if isinstance(self.measure, ForeignMeasure):
            return super().batch(list(inputs), config, return_exceptions=return_exceptions, **kwargs)
        outcomes = dict(self.batch_as_completed(inputs, config, return_exceptions=return_exceptions, **kwargs))
        return [outcomes[number] for number in range(len(inputs))]

    def batch_as_completed(
        self,
        inputs: Sequence[Question],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Generator[tuple[int, Any], None, None]:
        """Each input's place and answer, as they are finished.

        Questions for which much the same was found are asked over one prompt, that is evaluated once: side by side
        where the model does that, else one after another. All that was found for a question is in its prompt, as if
        it was asked alone. With ``return_exceptions`` a question that fails has its exception instead of an answer;
        otherwise it is raised, and what is not finished is given up.
        """
        if isinstance(self.measure, ForeignMeasure):
            kwargs["return_exceptions"] = return_exceptions
            yield from super().batch_as_completed(inputs, config, **kwargs)
            return
        stop = threading.Event()
        yield from self._together(inputs, config, stop, return_exceptions=return_exceptions, watched=False, **kwargs)

    async def abatch(
        self,
        inputs: Sequence[Question],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """As ``batch``; cancelling it stops the work."""
        if isinstance(self.measure, ForeignMeasure):
            return await super().abatch(list(inputs), config, return_exceptions=return_exceptions, **kwargs)
        outcomes = {}
        finished_ones = self.abatch_as_completed(inputs, config, return_exceptions=return_exceptions, **kwargs)
        async with aclosing(finished_ones) as finished_ones:
            async for number, outcome in finished_ones:
                outcomes[number] = outcome
        return [outcomes[number] for number in range(len(inputs))]

    async def abatch_as_completed(
        self,
        inputs: Sequence[Question],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[tuple[int, Any], None]:
        """As ``batch_as_completed``; cancelling it, or closing it, stops the work."""
        if isinstance(self.measure, ForeignMeasure):
            kwargs["return_exceptions"] = return_exceptions
            async for one in super().abatch_as_completed(inputs, config, **kwargs):
                yield one
            return
        stop = threading.Event()
        work = self._together(inputs, config, stop, return_exceptions=return_exceptions, watched=True, **kwargs)
        async with aclosing(from_a_thread(work, stop)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    def _together(
        self,
        inputs: Sequence[Question],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        stop: threading.Event,
        *,
        return_exceptions: bool,
        watched: bool,
        **kwargs: Any,
    ) -> Generator[tuple[int, Outcome], None, None]:
        configs = get_config_list(config, len(inputs)) if inputs else []
        company = Company(self, stop, watched=watched)
        for start in range(0, len(inputs), AT_ONCE):
            seats = [Seat(number) for number in range(start, min(start + AT_ONCE, len(inputs)))]
            for seat in seats:
                work = partial(self._work_in, seat)
                seat.events = self._events(inputs[seat.number], configs[seat.number], stop, work, **kwargs)
            with closing(company.answer(seats)) as outcomes:
                for number, outcome in outcomes:
                    if isinstance(outcome, Exception) and not return_exceptions:
                        raise outcome
                    yield number, outcome

    def _work_in(self, seat: Seat, given: Question, calls: ModelCalls) -> Events:
        """As ``_work``, in step with other questions."""
        asked = self._look_up(given, calls.config)
        if not asked.found:
            yield from _nothing_found(asked.texts, calls)
            return
        seat.asked, seat.plan = asked, self._plan(asked)
        since = time.monotonic()
        yield from wait()
        # The time that others took is not this question's.
        calls.began += time.monotonic() - since
        if seat.shared is None:
            yield from self._answer(asked, seat.plan, self._begin(asked, seat.plan), calls)
        elif not seat.side_by_side:
            yield from self._answer(asked, seat.shared, seat.begun, calls)
        else:
            yield from self._answer_side_by_side(asked, seat, seat.shared, calls)

    def _answer_side_by_side(self, asked: Asked, seat: Seat, plan: Plan, calls: ModelCalls) -> Events:
        yield plan_made(plan, self.measure.window)
        seat.prompt, seat.config = asked.prompt(plan.sources), patch_config(calls.config, run_name="answer")
        yield from wait()
        if isinstance(seat.reply, Exception):
            raise seat.reply
        assert seat.reply is not None  # noqa: S101 - whoever goes on with the run has set it
        answer = yield from say([calls.take(seat.prompt, seat.reply)])
        self._sticky.learn(plan, asked.texts, asked.language, begun=seat.begun, reused=calls.reused_tokens)
        yield finished(answer, plan, calls)

    def begin_together(self, plan: Plan, company: Sequence[Asked]) -> Beginning | None:
        """See ``together.Host``."""
        longest = company[0]
        return self._sticky.begin(
            plan,
            longest.texts,
            longest.language,
            rank=lambda: [excerpt for asked in company for excerpt in self._still_ranking(asked)],
            count=lambda sources: self.measure.count(longest.prompt(sources)),
        )

    def _still_ranking(self, asked: Asked) -> list[Excerpt]:
        return find_more(self.retriever, asked.question, asked.found, wider=WIDER, most=MOST_RANKED)

    def _look_up(self, given: Question, config: RunnableConfig) -> Asked:
        question = question_of(given)
        language = language_of(question, self.language)
        found = find(self.retriever, question, config)
        return Asked(question, language, self.prompts.texts(language), tuple(found))

    def _plan(self, asked: Asked) -> Plan:
        return plan_answer(
            asked.found, asked.question, self.measure, asked.texts, language=asked.language, strategy=self.strategy
        )

    def _begin(self, asked: Asked, plan: Plan) -> Beginning | None:
        """``plan`` behind the beginning of an earlier prompt, if there is one that helps."""
        return self._sticky.begin(
            plan,
            asked.texts,
            asked.language,
            rank=lambda: self._still_ranking(asked),
            count=lambda sources: self.measure.count(asked.prompt(sources)),
        )

    def _answer(self, asked: Asked, plan: Plan, begun: Beginning | None, calls: ModelCalls) -> Events:
        """From the plan to the result; ``begun`` is the plan as it is carried out, where there is one."""
        plan = plan if begun is None else begun.plan
        yield plan_made(plan, self.measure.window)
        if plan.strategy == "stuff":
            answer = yield from self._answer_at_once(asked, plan, begun, calls)
        else:
            answer = yield from self._answer_in_parts(asked, plan, calls)
        yield finished(answer, plan, calls)

    def _answer_at_once(
        self, asked: Asked, plan: Plan, begun: Beginning | None, calls: ModelCalls
    ) -> Generator[Event, None, str]:
        reader = reader_input(asked.question, plan.sources) if isinstance(self.measure, NoMeasure) else None
        reused = None
        try:
            answer = yield from say(calls.final(asked.prompt(plan.sources), "answer", reader))
            reused = calls.reused_tokens
        finally:
            # A prompt that was read is held even if nobody waited for the end of the answer.
            if calls.first_token_after is not None:
                self._sticky.learn(plan, asked.texts, asked.language, begun=begun, reused=reused)
        return answer

    def _answer_in_parts(self, asked: Asked, plan: Plan, calls: ModelCalls) -> Generator[Event, None, str]:
        """Extracts from every part, merged where they are many, and the answer from them."""
        texts, question = asked.texts, asked.question
        documents = documents_of(source.excerpt for source in plan.sources)

        def from_notes(task: str) -> NotesPrompt:
            filled = fill(task, question=question)
            return lambda notes: note_messages(texts, notes, filled, documents=documents)

        extracting = fill(texts.extract, question=question)
        counter = Counter(len(plan.batches))
        prompts = [source_messages(texts, sources, extracting, language=asked.language) for sources in plan.batches]
        replies = yield from read_parts(calls, prompts, "extract", counter)
        notes = [reply for reply in replies if not _says_nothing(reply, texts)]
        if not notes:
            calls.note_first_token()
            return (yield from say([texts.nothing_relevant]))
        final = from_notes(texts.answer_from_extracts)
        notes = yield from condense(
            calls, notes, merging=from_notes(texts.merge_extracts), final=final, counter=counter
        )
        answer = yield from say(calls.final(final(notes), "answer"))
        yield counter.step()
        return answer


def _nothing_found(texts: TaskTexts, calls: ModelCalls) -> Events:
    reason = Words(zh="没有检索到任何段落，不调用模型。", en="No passage was found: the model is not called.")
    yield PlanMade("stuff", calls.measure.window, 0, 0, 0, 0, reason)
    calls.note_first_token()
    answer = yield from say([texts.nothing_found])
    yield Finished(Answer(answer, (), calls.receipt("stuff", 0)))


def _says_nothing(reply: str, texts: TaskTexts) -> bool:
    """Whether a part's reply is only that it holds nothing on the question."""
    return not reply or (fold(texts.nothing).text in fold(reply).text and not find_markers(reply))
