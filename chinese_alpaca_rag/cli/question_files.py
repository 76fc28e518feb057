"""Files of questions, and of the answers to them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from chinese_alpaca_rag.cli.output import Output, is_terminal, json_line
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.text import one_line, shortened
from chinese_alpaca_rag.errors import DocumentRefusedError, WrongUsageError
from chinese_alpaca_rag.language import Words

STANDARD_INPUT = Path("-")
# In bytes: a file of questions, and one line of a file of answers.
LONGEST_FILE = 16 << 20
_LONGEST_LINE = 16 << 20
_SHOWN_COLUMNS = 60
# What every line of a file of answers has beside its question.
_OF_AN_ANSWER = ("answer", "citations", "receipt")
_BEGINNING = b'{"question": '
_A_QUESTION_A_LINE = Words(
    zh="--questions 后面是一个每行一个问题的文件。", en="--questions takes a file with a question a line."
)
_ANOTHER_FILE = Words(zh="请为答案另取一个文件名。", en="Give the answers a file of their own.")


@dataclass(frozen=True)
class FileQuestion:
    """A question with the number of its line, from 1."""

    line: int
    text: str


def read_questions(path: Path, output: Output) -> list[FileQuestion]:
    """The questions of a file, or of standard input for ``-``.

    One a line, where empty lines and those that begin with ``#`` are none; in a ``.jsonl`` each line is an object
    with ``question``. Raises WrongUsageError for a file without questions, or that is none of these.
    """
    name = shown_name(path)
    text = read_text(path, output, hint=_A_QUESTION_A_LINE)
    lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    written = [(number, line.strip()) for number, line in lines if line.strip()]
    if path.suffix.lower() == ".jsonl":
        questions = [FileQuestion(number, _question_in(line, number, name)) for number, line in written]
    else:
        questions = [FileQuestion(number, line) for number, line in written if not line.startswith("#")]
    if not questions:
        raise WrongUsageError(
            Words(zh=f"{name} 里没有问题。", en=f"{name} holds no question."),
            hint=Words(
                zh="每行写一个问题，UTF-8 或 GB18030 编码。", en="Write one question a line, in UTF-8 or GB18030."
            ),
        )
    return questions


def read_text(path: Path, output: Output, *, hint: Words, longest: int = LONGEST_FILE) -> str:
    """The text of a file, or of standard input for ``-``, in whatever encoding it is written.

    ``hint`` says what file is wanted, where there is none. Raises WrongUsageError for such a path and for more than
    ``longest`` bytes, DocumentRefusedError for bytes that are no text.
    """
    return _decoded(_content(path, output, hint, longest), shown_name(path))


def shown_name(path: Path) -> str:
    """What messages call a file of questions."""
    return Words(zh="标准输入", en="Standard input").text() if path == STANDARD_INPUT else shown_path(path)


class AnswersFile:
    """Answers as lines of JSON, each with its question and the number of its line in the questions' file."""

    def __init__(self, file: BinaryIO | None, answered: Counter[str]) -> None:
        self._file = file
        self._answered = answered

    def left_of(self, questions: Sequence[FileQuestion]) -> list[FileQuestion]:
        """The questions that are not answered here yet."""
        answered = Counter(self._answered)
        left = []
        for question in questions:
            if answered[question.text] > 0:
                answered[question.text] -= 1
            else:
                left.append(question)
        return left

    def append(self, record: dict[str, Any]) -> None:
        """Add one answer; once this returns it is on the disk."""
        if self._file is not None:
            self._file.write(json_line(record).encode("utf-8", "backslashreplace"))
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def answers_file(path: Path | None, questions_path: Path, questions: Sequence[FileQuestion]) -> Iterator[AnswersFile]:
    """The file at ``path``, made if need be, with what it holds checked; without a path, nothing is kept.

    Raises WrongUsageError for a file that holds anything but answers to ``questions``. A last line that was cut when
    its process was stopped goes.
    """
    if path is None:
        yield AnswersFile(None, Counter())
        return
    with path.open("ab+") as file:
        if questions_path != STANDARD_INPUT and path.samefile(questions_path):
            raise WrongUsageError(
                Words(zh="--answers 和 --questions 是同一个文件。", en="--answers and --questions name the same file."),
                hint=_ANOTHER_FILE,
            )
        yield AnswersFile(file, _read_answers(file, path, {question.text for question in questions}))


def _read_answers(file: BinaryIO, path: Path, known: AbstractSet[str]) -> Counter[str]:
    """How often each question is answered in ``file``, which is left at the end of its last whole line."""
    answered: Counter[str] = Counter()
    file.seek(0)
    whole = 0
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
        ended = line.endswith(b"\n")
        try:
            question = _answered_in(line, number, path, known)
        except WrongUsageError:
            if ended or not line.startswith(_BEGINNING):
                raise
            # Being written when the process was stopped; of another file nothing is ever cut off.
            file.truncate(whole)
            break
        answered[question] += 1
        whole += len(line)
        if not ended:
            file.write(b"\n")
    return answered


def _content(path: Path, output: Output, hint: Words, longest: int) -> bytes:
    name = shown_name(path)
    if path != STANDARD_INPUT:
        try:
            with path.open("rb") as file:
                content = file.read(longest + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise WrongUsageError(
                Words(zh=f"没有这个文件：{name}", en=f"There is no such file: {name}"), hint=hint
            ) from error
    elif sys.stdin is None:  # started with the descriptor closed
        content = b""
    else:
        if is_terminal(sys.stdin):
            told = Words(
                zh="请输入问题，每行一个，以 Ctrl-D 结束：", en="Type the questions, one a line, and end with Ctrl-D:"
            )
            output.note(str(told), "dim")
        content = sys.stdin.buffer.read(longest + 1)
    if len(content) > longest:
        raise WrongUsageError(
            Words(zh=f"{name} 超过了 {longest >> 20} MiB。", en=f"{name} is longer than {longest >> 20} MiB."),
            hint=Words(zh="请把问题分成几个文件。", en="Split the questions into several files."),
        )
    return content


def _decoded(content: bytes, name: str) -> str:
    from chinese_alpaca_rag.ingest.decoding import decode

    try:
        return decode(content).text
    except DocumentRefusedError as error:
        message = Words(zh=f"读不了 {name}：{error.message.zh}", en=f"{name} cannot be read: {error.message.en}")
        raise DocumentRefusedError(message, hint=error.hint) from error


def _question_in(line: str, number: int, name: str) -> str:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    question = content.get("question") if isinstance(content, dict) else None
    if not isinstance(question, str):
        raise WrongUsageError(
            Words(
                zh=f"{name} 第 {number} 行不是带有 question 的 JSON 对象。",
                en=f"Line {number} of {name} is no JSON object with a question.",
            ),
            hint=Words(
                zh='.jsonl 文件的每一行应如：{"question": "年假有几天？"}',
                en='Each line of a .jsonl should be like: {"question": "How many days of leave?"}',
            ),
        )
    # Half of a character, escaped as JSON allows, is none that a model could read.
    return question.encode("utf-8", "replace").decode("utf-8").strip()


def _answered_in(line: bytes, number: int, path: Path, known: AbstractSet[str]) -> str:
    """The question of one line of a file of answers. Raises WrongUsageError."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    question = content.get("question") if isinstance(content, dict) else None
    name = shown_name(path)
    if not isinstance(question, str) or not all(key in content for key in _OF_AN_ANSWER):
        message = Words(
            zh=f"{name} 第 {number} 行不是答案，这个文件不会被改动。",
            en=f"Line {number} of {name} is no answer; the file is left as it is.",
        )
        raise WrongUsageError(message, hint=_ANOTHER_FILE)
    if question not in known:
        shown = shortened(one_line(question), _SHOWN_COLUMNS)
        message = Words(
            zh=f"{name} 里是另一批问题的答案：第 {number} 行回答的“{shown}”不在要问的问题里。",
            en=f"{name} has the answers to other questions: “{shown}” (line {number}) is none of those asked.",
        )
        raise WrongUsageError(message, hint=_ANOTHER_FILE)
    return question
