"""Summarising documents, or parts of them, in reading order."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from chinese_alpaca_rag.chains.calls import ModelCalls
from chinese_alpaca_rag.chains.citations import check_citations
from chinese_alpaca_rag.chains.events import Event, Finished
from chinese_alpaca_rag.chains.measuring import Measure, NoMeasure, measure_model
from chinese_alpaca_rag.chains.planner import Plan, StrategyChoice, plan_summary
from chinese_alpaca_rag.chains.prompts import (
    DEFAULT_PROMPTS,
    Prompts,
    TaskTexts,
    fill,
    main_language_of,
    note_messages,
    source_messages,
)
from chinese_alpaca_rag.chains.reducing import Counter, NotesPrompt, condense, read_parts
from chinese_alpaca_rag.chains.results import Summary
from chinese_alpaca_rag.chains.running import EventChain, Events, check_choices, plan_made, reader_input, say
from chinese_alpaca_rag.chains.sources import Excerpt, Source, documents_of, excerpts_of
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Language, Words

# So many titles are named in the task; each source's first line holds its own anyway.
MOST_TITLES = 8


def create_summarize_chain(
    model: BaseChatModel,
    *,
    window: int | None = None,
    max_tokens: int | None = None,
    strategy: StrategyChoice = "auto",
    language: Literal["auto"] | Language = "auto",
    prompts: Prompts = DEFAULT_PROMPTS,
) -> Summarizing:
    """A Runnable from passages in reading order to a ``Summary``.

    The arguments are those of ``create_qa_chain``; language "auto" follows the documents. Passages of
    several documents stand in the order given. ``stream`` yields ``SummaryEvent``s.
    """
    measure = measure_model(model, window=window, reply=max_tokens)
    return Summarizing(model, measure, strategy=strategy, language=language, prompts=prompts)


class Summarizing(EventChain[Sequence[Document], Summary]):
    """Made by ``create_summarize_chain``."""

    name = "Summarizing"

    def __init__(
        self,
        model: Runnable[Any, Any],
        measure: Measure,
        *,
        strategy: StrategyChoice,
        language: Literal["auto"] | Language,
        prompts: Prompts,
    ) -> None:
        super().__init__(model, measure)
        check_choices(strategy, language)
        self.strategy = strategy
        self.language = language
        self.prompts = prompts

    def _work(self, given: Sequence[Document], calls: ModelCalls) -> Events:
        excerpts = excerpts_of(given)
        if not excerpts:
            raise _nothing_given()
        language = main_language_of([excerpt.text for excerpt in excerpts], self.language)
        task = _Task(self.prompts.texts(language), language, excerpts)
        plan = plan_summary(
            excerpts,
            self.measure,
            lambda sources: self.measure.count(task.whole(sources)),
            lambda sources: self.measure.count(task.part(sources)),
            max(self.measure.count(prompt(["", ""])) for prompt in (task.merging, task.final)),
            strategy=self.strategy,
        )
        yield plan_made(plan, self.measure.window)
        if plan.strategy == "stuff":
            reader = reader_input("", plan.sources) if isinstance(self.measure, NoMeasure) else None
            summary = yield from say(calls.final(task.whole(plan.sources), "summarize", reader))
        else:
            summary = yield from _summarize_in_parts(plan, task, calls)
        receipt = calls.receipt(plan.strategy, plan.used, plan.dropped)
        result = Summary(summary, check_citations(summary, plan.sources), receipt)
        yield Finished(result)


class _Task:
    """The prompts of one summary."""

    def __init__(self, texts: TaskTexts, language: Language, excerpts: Sequence[Excerpt]) -> None:
        self._texts = texts
        self._language = language
        self._titles = _titles(excerpts, language)
        self._documents = documents_of(excerpts)
        self.merging: NotesPrompt = self._from_notes(texts.merge_summaries)
        self.final: NotesPrompt = self._from_notes(texts.summarize_from_parts)

    def whole(self, sources: Sequence[Source]) -> Sequence[Any]:
        """Everything in one prompt."""
        return self._over(sources, self._texts.summarize)

    def part(self, sources: Sequence[Source]) -> Sequence[Any]:
        """One part of the sources."""
        return self._over(sources, self._texts.summarize_part)

    def _over(self, sources: Sequence[Source], text: str) -> Sequence[Any]:
        return source_messages(self._texts, sources, fill(text, titles=self._titles), language=self._language)

    def _from_notes(self, text: str) -> NotesPrompt:
        filled = fill(text, titles=self._titles)
        return lambda notes: note_messages(self._texts, notes, filled, documents=self._documents)


def _summarize_in_parts(plan: Plan, task: _Task, calls: ModelCalls) -> Generator[Event, None, str]:
    """A summary of every part, merged where they are many, and the summary of those."""
    counter = Counter(len(plan.batches))
    prompts = [task.part(sources) for sources in plan.batches]
    notes = yield from read_parts(calls, prompts, "summarize part", counter)
    notes = yield from condense(calls, notes, merging=task.merging, final=task.final, counter=counter)
    summary = yield from say(calls.final(task.final(notes), "summarize"))
    yield counter.step()
    return summary


def _titles(excerpts: Sequence[Excerpt], language: Language) -> str:
    """The documents' titles in the words of a task; empty for a single document without one."""
    titles = list({excerpt.source: excerpt.title for excerpt in excerpts}.values())
    named = titles[:MOST_TITLES]
    if language == "zh":
        rest = f"等 {len(titles)} 份文件" if len(titles) > MOST_TITLES else ""
        return "".join(f"《{title}》" for title in named) + rest
    rest = f" and {len(titles) - MOST_TITLES} more" if len(titles) > MOST_TITLES else ""
    return " (" + "; ".join(named) + rest + ")"


def _nothing_given() -> WrongUsageError:
    return WrongUsageError(
        Words(zh="没有可以概括的文字。", en="There is no text to summarise."),
        hint=Words(
            zh="请传入至少一个有内容的 Document，例如 load_documents(路径) 的结果。",
            en="Pass at least one Document that holds text, for example what load_documents(path) gives.",
        ),
    )
