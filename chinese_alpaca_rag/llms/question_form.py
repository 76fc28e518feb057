"""What a question asks for: its kind (a time, a number, a person ...), its question word and what stands beside it.

Plain patterns for Chinese and English. Nothing is understood; the patterns only say what an answer may look like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chinese_alpaca_rag.words import plain

_LARGE = "(?:many|much|far|tall|big|large|old|long|often|high|heavy|wide|deep)"
# In each pattern, the forms of the question word (traditional characters are folded); more than one kind may apply.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile("|".join(forms)))
    for kind, forms in (
        (
            "time",
            (
                "什么(?:时候|时间|时期|年代|日期|朝代)|哪(?:一|个)?(?:年|天|日)|哪一?个?月|哪个?(?:年代|世纪|时期|时间|日期)",
                "何[时年月日]|几[时年月号点]|(?:年份|日期|时间)是|时间[?？]",
                r"\bwhen\b|what (?:year|date|time|day|month)",
            ),
        ),
        (
            "duration",
            (
                "多久|多长时间|多长|[几多][少个]?个?(?:年|天|日|月|小时|周|星期|分钟|秒|季度)",
                "how long|how many (?:year|month|week|day|hour|minute)",
            ),
        ),
        (
            "number",
            (
                "多少|第几|几|多[大高长重远宽深快厚]|百分之",
                "how (?:many|much|far|tall|big|large|old|high|heavy)|what (?:percentage|number|price)",
            ),
        ),
        ("person", (r"谁|何人|哪一?位|什么人|哪些?个?人|哪[两三几]位|\bwho(?:m|se)?\b",)),
        (
            "place",
            (
                "哪里|哪儿|何处|何地|什么(?:地方|地区|位置)|哪个?(?:国家|城市|地区|省|地方)|哪一?国|哪个?[州县市镇村区]|哪些地[区方]",
                r"\bwhere\b|what (?:country|city|place)",
            ),
        ),
        ("reason", (r"为什么|为何|何故|因何|缘何|什么原因|原因|怎么会|\bwhy\b",)),
        ("manner", (rf"怎么|怎样|如何|\bhow\b(?! {_LARGE})",)),
        ("list", ("哪些|哪几|几种|几个|什么种类|有什么|有何|分别",)),
        ("thing", ("什么|何|哪|which|what",)),
    )
)
_QUESTION_WORD = re.compile(
    "什么(?:时候|时间|时期|年代|原因|地方|样的?)?|为什么|为何|百分之[多几]少?|多少|多久|多长时间|多[大高长远重宽深快厚]|第几|几"
    "|谁|何[时人处地年故]?|哪(?!咤)[里儿些个位年种国座部本首家所一名次场只条项支间]?|怎么样?|怎样|如何|吗"
    rf"|\b(?:who(?:m|se)?|what|which|when|where|why|how(?: {_LARGE})?)\b"
)
# Words that say nothing of what is asked for, when a sentence holds nothing else of the question.
_FUNCTION = re.compile(
    "请问|一下|想知道|我想|我们?|你们?|您|咱们?|到底|究竟|大概|一般|请?告诉|可以|能否"
    "|[的了是在有和与及其为以于对从被把将就都而且或也不之这那个呢吧啊呀吗么]+"
    r"|\b(?:the|an?|of|in|on|at|to|for|from|by|with|and|or|is|are|was|were|be|been|do|does|did|has|have|had|can|could"
    r"|should|would|will|may|must|it|its|this|that|these|those|there|i|you|we|they|he|she|my|your|our|their|me|us|them"
    r"|not|no|as|about|please|tell)\b"
)
_NOT_LETTER = re.compile(r"[\W_]+")
_UNIT = re.compile("(?:多少|第几|几)个?([\u4e00-\u9fff])")


@dataclass(frozen=True)
class QuestionForm:
    """A question, looked at. All texts are ``words.plain``, empty where there is nothing of the sort.

    ``letters`` is the question without spaces and punctuation, and ``letters[word_start:word_end]`` its last
    question word; ``content`` is the question without any question word. ``kinds`` is what it may ask for, and
    ``unit`` what is counted where a number is.
    """

    text: str
    letters: str
    word_start: int
    word_end: int
    content: str
    kinds: frozenset[str]
    unit: str

    @property
    def before(self) -> str:
        """The letters to the left of the question word."""
        return self.letters[: self.word_start]

    @property
    def after(self) -> str:
        """The letters to the right of the question word."""
        return self.letters[self.word_end :].removeprefix("的")


def bare(text: str) -> str:
    """``text`` without spaces and punctuation."""
    return _NOT_LETTER.sub("", text)


def without_function_words(plain_text: str) -> str:
    """``plain_text`` without the particles, pronouns and the like that any sentence may hold."""
    return _FUNCTION.sub(" ", plain_text)


def look_at(question: str) -> QuestionForm:
    """Read the form of ``question``."""
    text = plain(question)
    letters = bare(text)
    words = list(_QUESTION_WORD.finditer(text))
    start = len(bare(text[: words[-1].start()])) if words else len(letters)
    unit = _UNIT.search(text)
    return QuestionForm(
        text=text,
        letters=letters,
        word_start=start,
        word_end=start + len(bare(words[-1].group())) if words else start,
        content=_QUESTION_WORD.sub(" ", text),
        kinds=frozenset(kind for kind, pattern in _KINDS if pattern.search(text)),
        unit=unit.group(1) if unit else "",
    )
