"""When a passage that was found is a right one, and when it is at least from the right document.

What is known of a question is taken in this order:

1. ``sources``: the right document is one of these files; the right passage is on one of ``pages``, where given.
2. ``context``: a passage is from that text if it lies in it, holds it, or has at least half of its own characters in
   it as one stretch (``comparing.is_mostly_in``). One with only a part of the context may have the wrong part: to be
   right it has to hold one of the ``answers`` that stand in the context or, of a long one, which may not fit in a
   passage, half.
3. ``answers``: the passage holds one of them, wherever it is from. Short answers make this lenient: a mere 三 stands
   in many passages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from langchain_core.documents import Document

from chinese_alpaca_rag.evaluation.comparing import LEAST_SHARED, folded, holds, is_mostly_in
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion

#: How near a passage comes; what is right is also of the right document.
Verdict = Literal["right", "right document", "wrong"]
#: Of a file that is stored once, the other paths with the same bytes.
Copies = Mapping[str, Sequence[str]]

_SEPARATORS = re.compile(r"[/\\]+")


def verdict(question: JudgedQuestion, passage: Document, copies: Copies | None = None) -> Verdict:
    """How near ``passage`` comes; its metadata ``source`` and ``page`` are as ``passage_document`` gives them."""
    if question.sources:
        source = str(passage.metadata.get("source", ""))
        if not any(is_named(path, question.sources) for path in (source, *(copies or {}).get(source, ()))):
            return "wrong"
        is_of_page = not question.pages or passage.metadata.get("page") in question.pages
        return "right" if is_of_page else "right document"
    text = folded(passage.page_content)
    answers = [folded(answer) for answer in question.answers]
    if question.context:
        return _of_context(text, folded(question.context), answers)
    return "right" if any(holds(text, answer) for answer in answers) else "wrong"


def is_named(path: str, sources: Iterable[str]) -> bool:
    """Whether one of ``sources`` is the file's name, or the last parts of its path, in the same case."""
    parts = _parts(path)
    return any(parts[-len(named) :] == named for named in map(_parts, sources) if named)


def absent(questions: Sequence[JudgedQuestion], paths: Sequence[str]) -> tuple[JudgedQuestion, ...]:
    """The questions whose ``sources`` are none of ``paths``; of those without sources nothing can be said."""
    tails: set[tuple[str, ...]] = set()
    for path in paths:
        parts = _parts(path)
        tails.update(parts[start:] for start in range(len(parts)))
    return tuple(
        question
        for question in questions
        if question.sources and not any(_parts(source) in tails for source in question.sources)
    )


def _of_context(text: str, context: str, answers: Sequence[str]) -> Verdict:
    if context in text:
        return "right"
    if not is_mostly_in(text, context):
        return "wrong"
    in_context = [answer for answer in answers if holds(context, answer)]
    is_right = not in_context or any(_holds_most(text, answer) for answer in in_context)
    return "right" if is_right else "right document"


def _holds_most(text: str, answer: str) -> bool:
    return holds(text, answer) or (len(answer) >= 2 * LEAST_SHARED and is_mostly_in(answer, text))


def _parts(path: str) -> tuple[str, ...]:
    """A path's parts, from the first to the file's name; how characters are composed makes no difference."""
    return tuple(part for part in _SEPARATORS.split(unicodedata.normalize("NFC", path)) if part not in ("", "."))
