"""Questions with what is known of their answers, as a file of JSON lines or in SQuAD's layout says it.

JSON lines: an object a line, with ``question`` and at least one of ``answer``, ``source`` (with it, if wanted,
``page``) and ``context``; of all but ``context`` there may be several, in a list. SQuAD's layout is that of
Rajpurkar et al., "Know What You Don't Know" (2018), and of CMRC 2018 and DRCD as they are handed on in it:
``data`` ▸ ``paragraphs`` ▸ ``context``, and ``qas`` ▸ ``question``, ``answers`` ▸ ``text``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.evaluation.comparing import folded
from chinese_alpaca_rag.language import Words

T = TypeVar("T")

_EXAMPLE = Words(
    zh='请用 SQuAD 格式的 JSON，或每行一个 JSON 对象：{"question": "年假有几天？", "answer": "十五天"} 或 '
    '{"question": "年假有几天？", "source": "员工手册.pdf", "page": 3}',
    en='Give JSON in SQuAD\'s layout, or an object a line: {"question": "How many days?", "answer": "15 days"} or '
    '{"question": "How many days?", "source": "handbook.pdf", "page": 3}',
)
_ANSWERS, _SOURCES, _PAGES = ("answer", "answers"), ("source", "sources"), ("page", "pages")


@dataclass(frozen=True)
class JudgedQuestion:
    """A question and what is known of the passages that answer it.

    ``number`` is its line in a file of JSON lines, else its place among the file's questions, both from 1.
    ``answers`` are texts any of which is right; ``sources`` are files' names or the ends of their paths; ``pages``
    count from 1 and are only there with ``sources``; ``context`` is the text that the question was asked about.
    """

    number: int
    question: str
    answers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    context: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked: there is no letter, digit or Chinese character in it."""
        return not any(character.isalnum() for character in self.question)

    @property
    def is_judged(self) -> bool:
        """Whether anything is known by which a passage could be right."""
        return bool(self.answers or self.sources or self.context)


def judged_questions(text: str, *, name: str) -> tuple[JudgedQuestion, ...]:
    """The questions in ``text``, which is a file's; ``name`` is what complaints call it.

    Questions about which nothing is known (SQuAD's ``is_impossible``, or no answer) are among them with
    ``is_judged`` false, and empty ones with ``is_empty`` true. Raises WrongUsageError for another layout, naming the
    line or place, and for a file in which no question can be judged.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and "data" in content and "question" not in content:
        questions = tuple(_in_squad(content, name))
    else:
        questions = tuple(_in_lines(text, name))
    if not any(question.is_judged for question in questions):
        raise WrongUsageError(
            Words(
                zh=f"{name} 里没有一个可以判分的问题（共 {len(questions)} 个问题）。",
                en=f"{name} holds no question that can be judged ({len(questions)} questions in all).",
            ),
            hint=_EXAMPLE,
        )
    return questions


# JSON lines


def _in_lines(text: str, name: str) -> Iterator[JudgedQuestion]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _in_line(line, number, name)


def _in_line(line: str, number: int, name: str) -> JudgedQuestion:
    place = Words(zh=f"{name} 第 {number} 行", en=f"Line {number} of {name}")
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    question = content.get("question") if isinstance(content, dict) else None
    if not isinstance(question, str):
        raise _wrong(place, Words(zh="不是带有 question 的 JSON 对象", en="is no JSON object with a question"))
    if not any(key in content for key in (*_ANSWERS, *_SOURCES, "context")):
        raise _wrong(place, Words(zh="没有 answer、source 或 context", en="has no answer, source or context"))
    sources, pages = _texts(content, _SOURCES, place), _pages(content, place)
    if pages and not sources:
        raise _wrong(place, Words(zh="有 page，但没有 source", en="has a page but no source"))
    context = content.get("context", "")
    if not isinstance(context, str):
        raise _wrong(place, Words(zh="的 context 不是文字", en="has a context that is no text"))
    answers = _texts(content, _ANSWERS, place)
    return JudgedQuestion(number, _whole(question), answers, sources, pages, _context(context))


def _values(content: dict[str, Any], keys: tuple[str, ...]) -> Iterator[object]:
    """What stands under ``keys``, lists taken apart."""
    for key in keys:
        value = content.get(key, [])
        yield from value if isinstance(value, list) else [value]


def _texts(content: dict[str, Any], keys: tuple[str, ...], place: Words) -> tuple[str, ...]:
    values = list(_values(content, keys))
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise _wrong(
            place,
            Words(
                zh=f"的 {keys[0]} 既不是文字，也不是文字的列表",
                en=f"has a wrong {keys[0]}: no text and no list of texts",
            ),
        )
    return _distinct(texts)


def _pages(content: dict[str, Any], place: Words) -> tuple[int, ...]:
    pages: list[int] = []
    for value in _values(content, _PAGES):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(
                place,
                Words(
                    zh="的 page 不是从 1 起的整数，也不是这种整数的列表",
                    en="has a wrong page: no whole number from 1 and no list of them",
                ),
            )
        pages.append(value)
    return tuple(dict.fromkeys(pages))


# SQuAD's layout


def _in_squad(content: dict[str, Any], name: str) -> Iterator[JudgedQuestion]:
    number = 0
    for article_place, article in _items(content, "data", "", name):
        for place, paragraph in _items(article, "paragraphs", article_place, name):
            context = _context(_of(paragraph, "context", str, place, name))
            for asked_place, asked in _items(paragraph, "qas", place, name):
                number += 1
                question = _whole(_of(asked, "question", str, asked_place, name))
                impossible = isinstance(asked, dict) and asked.get("is_impossible") is True
                answers = () if impossible else _answers(asked, asked_place, name)
                yield JudgedQuestion(number, question, answers, context=context if answers else "")


def _answers(asked: object, place: str, name: str) -> tuple[str, ...]:
    items = _items(asked, "answers", place, name)
    return _distinct([_of(answer, "text", str, answer_place, name) for answer_place, answer in items])


def _items(of: object, key: str, place: str, name: str) -> Iterator[tuple[str, object]]:
    """The items of the list under ``key``, each with its place: ``data[0].paragraphs[3]``."""
    below = f"{place}.{key}" if place else key
    return ((f"{below}[{i}]", item) for i, item in enumerate(_of(of, key, list, place, name)))


def _of(of: object, key: str, kind: type[T], place: str, name: str) -> T:
    value = of.get(key) if isinstance(of, dict) else None
    if not isinstance(value, kind):
        where = f"{place}.{key}" if place else key
        what = Words(zh="文字", en="a text") if kind is str else Words(zh="列表", en="a list")
        raise _wrong(
            Words(zh=name, en=name), Words(zh=f"的 {where} 应是{what.zh}", en=f"should have {what.en} at {where}")
        )
    return value


# Both


def _wrong(place: Words, complaint: Words) -> WrongUsageError:
    space = "" if complaint.zh.startswith("的") else " "
    return WrongUsageError(
        Words(zh=f"{place.zh}{space}{complaint.zh}。", en=f"{place.en} {complaint.en}."), hint=_EXAMPLE
    )


def _distinct(texts: list[str]) -> tuple[str, ...]:
    """Texts that say something, each once."""
    return tuple(dict.fromkeys(_whole(text) for text in texts if folded(text)))


def _context(text: str) -> str:
    return _whole(text) if folded(text) else ""


def _whole(text: str) -> str:
    """``text`` without white space around it; half of a character, escaped as JSON allows, is none."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()
