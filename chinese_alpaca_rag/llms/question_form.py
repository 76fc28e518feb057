"""What a question asks for: its kind (a time, a number, a person ...), its question word and what stands beside it.

Plain patterns for Chinese and English. Nothing is understood; the patterns only say what an answer may look like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chinese_alpaca_rag.words import plain

Kind = str

# In each pattern, the forms of the question word; more than one kind may apply.
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            "time",
            "什么时候|什么时间|什么时期|什么年代|什么日期|什么朝代|哪[一个]?年|哪一?个?月|哪[一]?天|哪一?日|哪个?年代|哪个?世纪"
            "|哪个?时期|何时|何年|何月|何日|几时|几年|几月|几号|几点|年份是|日期是|时间是|\\bwhen\\b|what (?:year|date|time|day)",
        ),
        (
            "duration",
            "多久|多长时间|几年|几天|几个?月|几个?小时|几周|多少年|多少天|多少个?月|多少个?小时|多少分钟|how long",
        ),
        (
            "number",
            "多少|第几|几|多[大高长重远宽深快厚]|how (?:many|much|far|tall|big|large|old)|what (?:percentage|number)",
        ),
        ("person", "谁|何人|哪[一]?位|什么人|哪些?个?人|哪[两三几]位|\\bwho(?:m|se)?\\b"),
        (
            "place",
            "哪里|哪儿|何处|何地|什么地方|什么位置|哪个?国家|哪一?国|哪个?城市|哪个?地区|哪个?省|哪个?地方|哪个?[州县市镇村区]|\\bwhere\\b"
            "|what (?:country|city|place)",
        ),
        ("reason", "为什么|为何|何故|因何|缘何|什么原因|原因|怎么会|\\bwhy\\b"),
        ("manner", "怎么|怎样|如何|\\bhow\\b(?! (?:many|much|far|tall|big|large|old|long))"),
        ("list", "哪些|哪几|几种|几个|什么种类|有什么|有何|分别"),
        ("thing", "什么|何|哪|which|what"),
        ("yes_no", "吗|是否|是不是|有没有|能否|可否|会不会|能不能|可不可以"),
    )
)
_QUESTION_WORD = re.compile(
    "什么(?:时候|时间|时期|年代|原因|地方|人|样的?)?|为什么|为何|多少|多久|多长时间|多[大高长远重宽深快厚]|第几|几"
    "|谁|何[时人处地年故]?|哪[里儿些个位年种国座部本首家所一名次场只条项支间]?|怎么样?|怎样|如何|吗"
    "|\\b(?:who(?:m|se)?|what|which|when|where|why|how(?: (?:many|much|long|far|old|tall|big|large))?)\\b"
)
_NOT_WORD = re.compile(r"[\W_]+")
_UNIT = re.compile("(?:多少|第几|几)(?:个)?([\u4e00-\u9fff]{1,2})")


@dataclass(frozen=True)
class QuestionForm:
    """A question, looked at: ``kinds`` it may be, its words without the question word, and the word's neighbours.

    ``before`` and ``after`` are the letters and digits to the left and right of the last question word, and
    ``unit`` what is counted where a number is asked for; all comparable (see ``comparable``), empty where there is none.
    """

    text: str
    content: str
    kinds: frozenset[Kind]
    before: str
    after: str
    unit: str


def bare(text: str) -> str:
    """``text`` without spaces and punctuation."""
    return _NOT_WORD.sub("", text)


def look_at(question: str) -> QuestionForm:
    """Read the form of ``question``."""
    text = plain(question)
    words = list(_QUESTION_WORD.finditer(text))
    before, after = (text[: words[-1].start()], text[words[-1].end() :]) if words else (text, "")
    unit = _UNIT.search(text)
    return QuestionForm(
        text=text,
        content=_QUESTION_WORD.sub(" ", text),
        kinds=frozenset(kind for kind, pattern in _KINDS if pattern.search(text)),
        before=bare(before),
        after=bare(after).removeprefix("的"),
        unit=unit.group(1) if unit else "",
    )
