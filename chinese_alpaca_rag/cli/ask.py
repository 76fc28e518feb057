"""``alpaca-rag ask``: a question to the library."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chinese_alpaca_rag.cli.answering import close_model, follow, open_model, show_result
from chinese_alpaca_rag.cli.output import Output, is_terminal
from chinese_alpaca_rag.cli.places import pages_of_library
from chinese_alpaca_rag.cli.retrieving import empty_library, opened_retriever, passage_count, readable
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.usage import missing
from chinese_alpaca_rag.errors import EmptyQuestionError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.settings import EXTRACTIVE

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from chinese_alpaca_rag.chains.packings import PackingMemory
    from chinese_alpaca_rag.chains.question_answering import QuestionAnswering


def ask(
    session: Session,
    question: str | None,
    *,
    passages: str | None,
    questions: Path | None = None,
    answers: Path | None = None,
) -> int:
    """Answer ``question`` (``-`` reads it from standard input), or those of a file, from the library's documents."""
    _check_what_is_asked(question, questions, answers)
    count = passage_count(passages)
    if questions is not None:
        from chinese_alpaca_rag.cli.ask_many import ask_many

        return ask_many(session, questions, answers, lambda: opened_chain(session, count))
    asked = _question(question or "", session.output)
    with opened_chain(session, count) as (chain, library):
        finished = follow(chain.stream(asked), session.output)
        if session.output.as_json:
            session.output.document(finished.result.to_json())
        else:
            show_result(session.output, finished, pages_of_library(library))
    return 0


@contextmanager
def opened_chain(session: Session, passages: int) -> Iterator[tuple[QuestionAnswering, Library]]:
    """The chain that answers from the settings' library with the settings' model, and the library."""
    model = None if session.settings.model == EXTRACTIVE else open_model(session, keeping=True)
    with Library.open(session.settings.library, readonly=True) as library:
        if not library.passage_count():
            raise empty_library(session)
        # LangChain takes a third of a second to import: not before the quick refusals.
        from chinese_alpaca_rag.chains import create_qa_chain

        chain = create_qa_chain(
            model or open_model(session, keeping=True),
            opened_retriever(session, library, passages),
            window=session.settings.window,
            strategy=session.settings.strategy,
            packings=_packings(session, model, library),
        )
        yield chain, library
    close_model(model, session.output)


def _packings(session: Session, model: BaseChatModel | None, library: Library) -> PackingMemory | None:
    """How earlier prompts began, kept where the model keeps what it computed for them."""
    if getattr(model, "prefix_store", None) is None:
        return None
    from chinese_alpaca_rag.chains.packing_file import PackingFile

    name = hashlib.sha256(library.absolute_folder.encode("utf-8", "surrogateescape")).hexdigest()
    return PackingFile(session.settings.packing_folder / f"{name}.json")


def _check_what_is_asked(question: str | None, questions: Path | None, answers: Path | None) -> None:
    """Raise WrongUsageError unless there is one question or one file of them."""
    if question is None and questions is None:
        words = missing("question")
        raise WrongUsageError(
            words,
            hint=Words(
                zh="用法：alpaca-rag ask [选项] 问题，或 alpaca-rag ask --questions 文件",
                en="Usage: alpaca-rag ask [OPTIONS] QUESTION, or: alpaca-rag ask --questions FILE",
            ),
        )
    if question is not None and questions is not None:
        raise WrongUsageError(
            Words(
                zh="既有问题，又有 --questions 的文件。", en="There is a question, and a file of them in --questions."
            ),
            hint=Words(zh="请去掉其中一个。", en="Leave one of them out."),
        )
    if answers is not None and questions is None:
        raise WrongUsageError(
            Words(zh="--answers 要和 --questions 一起用。", en="--answers goes with --questions."),
            hint=Words(
                zh="例如：alpaca-rag ask --questions 问题.txt --answers 答案.jsonl",
                en="For example: alpaca-rag ask --questions list.txt --answers out.jsonl",
            ),
        )


def _question(given: str, output: Output) -> str:
    text = _from_standard_input(output) if given.strip() == "-" else given
    question = readable(text)
    if not any(character.isalnum() for character in question):
        raise EmptyQuestionError(
            Words(zh="没有问题可答：问题里没有一个字。", en="There is nothing to answer: the question holds no word."),
            hint=Words(
                zh='例如：alpaca-rag ask "年假有几天？"', en='For example: alpaca-rag ask "How many days of leave?"'
            ),
        )
    return question


def _from_standard_input(output: Output) -> str:
    if sys.stdin is None:  # started with the descriptor closed
        return ""
    if is_terminal(sys.stdin):
        output.note(
            str(Words(zh="请输入问题，以 Ctrl-D 结束：", en="Type the question and end it with Ctrl-D:")), "dim"
        )
    content = sys.stdin.buffer.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # A Chinese Windows or an old file; GB18030 takes in GBK and GB2312.
        return content.decode("gb18030", "replace")
