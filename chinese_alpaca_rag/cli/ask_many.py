"""``alpaca-rag ask --questions``: many questions in one go, each shown, or written to a file, as it is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chinese_alpaca_rag.cli.answering import show_result
from chinese_alpaca_rag.cli.failures import Failure, StoppedError, explain
from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.cli.places import NamePage, pages_of_library, shown_path
from chinese_alpaca_rag.cli.question_files import AnswersFile, FileQuestion, answers_file, read_questions
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted, one_line
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library

if TYPE_CHECKING:
    from chinese_alpaca_rag.chains.question_answering import QuestionAnswering
    from chinese_alpaca_rag.chains.results import Answer

OpenChain = Callable[[], "AbstractContextManager[tuple[QuestionAnswering, Library]]"]


def ask_many(session: Session, questions: Path, answers: Path | None, open_chain: OpenChain) -> int:
    """Ask every question of the file ``questions`` that ``answers`` does not answer yet.

    A question that fails costs no other; the exit code is then that of the first failure.
    """
    output = session.output
    asked = read_questions(questions, output)
    with answers_file(answers, questions, asked) as kept:
        left = kept.left_of(asked)
        if len(left) < len(asked):
            output.note(_already_answered(len(asked) - len(left), len(asked)).text(), "dim")
        if not left:
            return 0
        tally = _Tally(len(left))
        try:
            with open_chain() as (chain, library):
                _ask_all(chain, left, kept, _Shown(output, pages_of_library(library), tally))
        except KeyboardInterrupt as error:
            raise StoppedError(tally.kept(answers)) from error
    output.note(tally.told().text(), "dim")
    return tally.exit_code


def _ask_all(chain: QuestionAnswering, left: Sequence[FileQuestion], kept: AnswersFile, shown: _Shown) -> None:
    shown.progress()
    outcomes = chain.batch_as_completed([question.text for question in left], return_exceptions=True)
    with closing(outcomes):
        for place, outcome in outcomes:
            if isinstance(outcome, Exception):
                shown.failed(left[place], explain(outcome))
            else:
                record = _about(left[place]) | outcome.to_json()
                # Counted first: stopped while it is written, it is there more often than not.
                shown.tally.answered += 1
                kept.append(record)
                shown.answered(left[place], outcome, record)
            shown.progress()


@dataclass
class _Tally:
    """How far it is."""

    total: int
    answered: int = 0
    failed: int = 0
    exit_code: int = 0

    @property
    def done(self) -> int:
        return self.answered + self.failed

    def told(self) -> Words:
        zh = f"回答了 {self.answered} 个问题"
        en = f"{counted(self.answered, 'question')} answered"
        if self.failed:
            zh, en = f"{zh}，{self.failed} 个失败", f"{en}, {self.failed} failed"
        return Words(zh=f"{zh}。", en=f"{en}.")

    def kept(self, answers: Path | None) -> Words:
        """What is there of it after Ctrl-C."""
        zh, en = (
            f"已回答 {self.answered} / {self.total} 个问题",
            f"{self.answered} of {self.total} questions are answered",
        )
        if answers is None:
            return Words(
                zh=f"{zh}。用 --answers 文件 可以中断后继续。",
                en=f"{en}. With --answers FILE a later run goes on from there.",
            )
        place = shown_path(answers)
        return Words(
            zh=f"{zh}，保存在 {place}；再运行一次会接着做完。", en=f"{en}, in {place}; another run goes on from there."
        )


class _Shown:
    """What is printed of each question as it ends."""

    def __init__(self, output: Output, name_page: NamePage, tally: _Tally) -> None:
        self._output = output
        self._name_page = name_page
        self.tally = tally

    def progress(self) -> None:
        """One line on a terminal that the next words replace."""
        done, total = self.tally.done, self.tally.total
        if done < total:
            self._output.status(Words(zh=f"已回答 {done}/{total} 个问题……", en=f"{done} of {total} questions …").text())

    def answered(self, question: FileQuestion, answer: Answer, record: dict[str, Any]) -> None:
        if self._output.as_json:
            self._output.record(record)
            return
        from chinese_alpaca_rag.chains.events import Finished

        self._head(question)
        self._output.write(answer.answer)
        show_result(self._output, Finished(answer), self._name_page)
        self._output.line()

    def failed(self, question: FileQuestion, failure: Failure) -> None:
        self.tally.failed += 1
        self.tally.exit_code = self.tally.exit_code or failure.exit_code
        if self._output.as_json:
            self._output.record(_about(question) | failure.to_json())
            return
        self._head(question)
        told = Words(zh=f"错误：{failure.message}", en=f"Error: {failure.message}")
        self._output.complain(told.text(), "red")
        if failure.hint:
            self._output.complain(failure.hint)
        self._output.line()

    def _head(self, question: FileQuestion) -> None:
        self._output.line(f"[{self.tally.done}/{self.tally.total}] {one_line(question.text)}", "bold")


def _about(question: FileQuestion) -> dict[str, Any]:
    return {"question": question.text, "line": question.line}


def _already_answered(answered: int, total: int) -> Words:
    return Words(
        zh=f"{total} 个问题中有 {answered} 个已经回答过，跳过。",
        en=f"{answered} of {total} questions are answered already and skipped.",
    )
