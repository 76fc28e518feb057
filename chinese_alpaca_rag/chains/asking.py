"""One question on its way to the model: its input, what was found for it, its prompt, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.chains.calls import ModelCalls, Prompt
from chinese_alpaca_rag.chains.citations import check_citations
from chinese_alpaca_rag.chains.events import Finished
from chinese_alpaca_rag.chains.planner import Plan
from chinese_alpaca_rag.chains.prompts import TaskTexts, fill, source_messages
from chinese_alpaca_rag.chains.results import Answer
from chinese_alpaca_rag.chains.sources import Excerpt, Source
from chinese_alpaca_rag.errors import EmptyQuestionError, WrongUsageError
from chinese_alpaca_rag.language import Language, Words

Question = str | Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question with what was found for it, best first, and the words in which the model is asked."""

    question: str
    language: Language
    texts: TaskTexts
    found: tuple[Excerpt, ...]

    def prompt(self, sources: Sequence[Source]) -> Prompt:
        """The prompt that asks for the answer from ``sources``."""
        task = fill(self.texts.answer, question=self.question)
        return source_messages(self.texts, sources, task, language=self.language)


def finished(answer: str, plan: Plan, calls: ModelCalls) -> Finished[Answer]:
    """The end of a run, with the answer's citations checked."""
    receipt = calls.receipt(plan.strategy, plan.used, plan.dropped, kept=plan.kept)
    return Finished(Answer(answer, check_citations(answer, plan.sources), receipt))


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
