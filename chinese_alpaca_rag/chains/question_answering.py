"""Answering a question from what a retriever finds, with every citation checked."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from chinese_alpaca_rag.chains.calls import ModelCalls, ReaderInput
from chinese_alpaca_rag.chains.citations import check_citations
from chinese_alpaca_rag.chains.events import Event, Finished, PlanMade
from chinese_alpaca_rag.chains.folding import fold
from chinese_alpaca_rag.chains.markers import find_markers
from chinese_alpaca_rag.chains.measuring import Measure, NoMeasure, measure_model
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
from chinese_alpaca_rag.chains.running import EventChain, Events, check_choices, plan_made, reader_input, say
from chinese_alpaca_rag.chains.sources import excerpts_of
from chinese_alpaca_rag.errors import EmptyQuestionError, WrongUsageError
from chinese_alpaca_rag.language import Language, Words

Question = str | Mapping[str, Any]
Retriever = Runnable[str, list[Document]]


def create_qa_chain(
    model: BaseChatModel,
    retriever: Retriever,
    *,
    window: int | None = None,
    max_tokens: int | None = None,
    strategy: StrategyChoice = "auto",
    language: Literal["auto"] | Language = "auto",
    prompts: Prompts = DEFAULT_PROMPTS,
) -> QuestionAnswering:
    """A Runnable from a question (text, or a mapping with ``question``) to an ``Answer``.

    ``window`` (tokens) is needed for a model that does not know its own and narrows that of one that
    does; ``max_tokens`` are the tokens kept for the reply of a model that does not say. Strategy "auto"
    counts and decides; language "auto" follows the question. ``stream`` yields ``AnswerEvent``s. Raises
    WrongUsageError where no window is known, here; EmptyQuestionError and QuestionTooLongError when run.
    """
    measure = measure_model(model, window=window, reply=max_tokens)
    return QuestionAnswering(model, measure, retriever, strategy=strategy, language=language, prompts=prompts)


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
    ) -> None:
        super().__init__(model, measure)
        self.retriever = retriever
        check_choices(strategy, language)
        self.strategy = strategy
        self.language = language
        self.prompts = prompts

    def _work(self, given: Question, calls: ModelCalls) -> Events:
        question = question_of(given)
        language = language_of(question, self.language)
        texts = self.prompts.texts(language)
        excerpts = excerpts_of(self.retriever.invoke(question, calls.config))
        if not excerpts:
            yield from _nothing_found(texts, calls)
            return
        plan = plan_answer(excerpts, question, self.measure, texts, language=language, strategy=self.strategy)
        yield plan_made(plan, self.measure.window)
        if plan.strategy == "stuff":
            asked = source_messages(texts, plan.sources, fill(texts.answer, question=question), language=language)
            answer = yield from say(calls.final(asked, "answer", self._reader_input(question, plan)))
        else:
            answer = yield from self._answer_in_parts(question, plan, texts, language, calls)
        receipt = calls.receipt(plan.strategy, plan.used, plan.dropped)
        result = Answer(answer, check_citations(answer, plan.sources), receipt)
        yield Finished(result)

    def _answer_in_parts(
        self, question: str, plan: Plan, texts: TaskTexts, language: Language, calls: ModelCalls
    ) -> Generator[Event, None, str]:
        """Extracts from every part, merged where they are many, and the answer from them."""

        def from_notes(task: str) -> NotesPrompt:
            filled = fill(task, question=question)
            return lambda notes: note_messages(texts, notes, filled)

        extracting = fill(texts.extract, question=question)
        counter = Counter(len(plan.batches))
        prompts = [source_messages(texts, sources, extracting, language=language) for sources in plan.batches]
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

    def _reader_input(self, question: str, plan: Plan) -> ReaderInput | None:
        return reader_input(question, plan.sources) if isinstance(self.measure, NoMeasure) else None


def question_of(given: object) -> str:
    """The question in a chain's input. Raises EmptyQuestionError, WrongUsageError for another kind of input."""
    question = given.get("question") if isinstance(given, Mapping) else given
    if not isinstance(question, str):
        kind = type(given).__name__
        raise WrongUsageError(
            Words(zh=f"输入里没有问题（收到的是 {kind}）。", en=f"The input holds no question (it is a {kind})."),
            hint=Words(
                zh='请传入一段文字，或 {"question": "……"}。', en='Pass the question as text, or {"question": "..."}.'
            ),
        )
    if not any(character.isalnum() for character in question):
        raise EmptyQuestionError(
            Words(zh="问题是空的。", en="The question is empty."),
            hint=Words(
                zh="请写出要问的问题，例如：alpaca-rag ask 年假有几天？",
                en='Write what you want to know, for example: alpaca-rag ask "How many days of leave?"',
            ),
        )
    return question.strip()


def _nothing_found(texts: TaskTexts, calls: ModelCalls) -> Events:
    reason = Words(zh="没有检索到任何段落，不调用模型。", en="No passage was found: the model is not called.")
    yield PlanMade("stuff", calls.measure.window, 0, 0, 0, 0, reason)
    calls.note_first_token()
    answer = yield from say([texts.nothing_found])
    yield Finished(Answer(answer, (), calls.receipt("stuff", 0, ())))


def _says_nothing(reply: str, texts: TaskTexts) -> bool:
    """Whether a part's reply is only that it holds nothing on the question."""
    return not reply or (fold(texts.nothing).text in fold(reply).text and not find_markers(reply))
