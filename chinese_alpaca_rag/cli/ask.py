"""``alpaca-rag ask``: a question to the library."""

from __future__ import annotations

import sys

from chinese_alpaca_rag.cli.answering import follow, open_model, show_result
from chinese_alpaca_rag.cli.output import Output, is_terminal
from chinese_alpaca_rag.cli.places import pages_of_library
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import EmptyLibraryError, EmptyQuestionError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.settings import EXTRACTIVE

DEFAULT_PASSAGES = 12


def ask(session: Session, question: str, *, passages: str | None) -> int:
    """Answer ``question`` (``-`` reads it from standard input) from the library's documents."""
    count = _passage_count(passages)
    question = _question(question, session.output)
    model = None if session.settings.model == EXTRACTIVE else open_model(session)
    with Library.open(session.settings.library, readonly=True) as library:
        if not library.passage_count():
            raise _empty_library(session)
        # LangChain takes a third of a second to import: not before the quick refusals.
        from chinese_alpaca_rag.chains import create_qa_chain
        from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever

        chain = create_qa_chain(
            model or open_model(session),
            LibraryRetriever(library=library, k=count),
            window=session.settings.window,
            strategy=session.settings.strategy,
        )
        finished = follow(chain.stream(question), session.output)
        if session.output.as_json:
            session.output.document(finished.result.to_json())
        else:
            show_result(session.output, finished, pages_of_library(library))
    return 0


def _question(given: str, output: Output) -> str:
    text = _from_standard_input(output) if given.strip() == "-" else given
    # What the locale could not decode arrives as surrogates: those bytes are read as UTF-8, or shown as unreadable.
    question = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
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


def _passage_count(given: str | None) -> int:
    if given is None:
        return DEFAULT_PASSAGES
    if given.strip().isascii() and given.strip().isdigit() and 0 < int(given) <= 10_000:
        return int(given)
    raise WrongUsageError(
        Words(zh=f"--passages 不能是 {given!r}。", en=f"--passages cannot be {given!r}."),
        hint=Words(
            zh="请给一个从 1 到 10000 的整数，例如 --passages 12",
            en="Give a whole number from 1 to 10000, such as --passages 12",
        ),
    )


def _empty_library(session: Session) -> EmptyLibraryError:
    folder = session.settings.library
    command = "alpaca-rag ingest" + (f" --library {folder}" if "library" in session.settings.origins else "")
    return EmptyLibraryError(
        Words(zh=f"知识库 {folder} 里还没有可读的文档。", en=f"The library {folder} holds no document yet."),
        hint=Words(zh=f"先读入文件：{command} 路径…", en=f"Read some files first: {command} PATH…"),
    )
