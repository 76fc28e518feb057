"""How likely a text is to have been written by a person, for choosing between readings of the same bytes.

The model is a unigram one: each character has a probability by its class and, for common Chinese
characters, by its rank. It is asked once for each language that the text may be in, because what is common
in one (kana, Hangul) is next to impossible in another, and the likeliest language counts. Readings of the
same bytes are comparable by their sums, each being the likelihood of the whole. The constants are natural
logarithms; only differences of several units matter.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from chinese_alpaca_rag.ingest.common_characters import SIMPLIFIED, TRADITIONAL

_Script = Literal["common", "ideograph", "kana", "hangul", "accented", "letter"]

Language = Literal["zh", "ja", "ko", "western"]
ANY: tuple[Language, ...] = ("zh", "ja", "ko", "western")

# For each language: what being in it costs a text once, then what a character of each script adds to its
# own value. Chinese is what is expected; "western" is any alphabet.
_LANGUAGES: Mapping[Language, tuple[float, Mapping[_Script, float]]] = {
    "zh": (0.0, {"kana": -8.0, "hangul": -9.0, "accented": -2.0, "letter": -4.0}),
    "ja": (-12.0, {"ideograph": -1.5, "hangul": -12.0, "accented": -4.0, "letter": -6.0}),
    "ko": (-12.0, {"ideograph": -4.0, "kana": -12.0, "accented": -4.0, "letter": -6.0}),
    "western": (-8.0, {"ideograph": -6.0, "kana": -12.0, "hangul": -9.0}),
}
_FREQUENT_SYMBOLS = frozenset("，。、；：？！“”‘’（）《》【】「」『』〈〉—…·～￥％〔〕–－＋／℃№①②③④⑤⑥⑦⑧⑨⑩→●■◆★※\u3000")
_FREQUENT_SYLLABLES = frozenset(
    "이다는에의을가고은하지로도를기서한사어자나대리시아라인그수일스들만정과해으전부보있주상제성구여원게니면조와장"
    "동적안선연공된년경신무모당거것없우생되진습합위유세마오소실국방할내관발중단회학입했비산물행분건계문력재려였"
)
# A Western letter with a mark, read as Chinese, becomes one ideograph inside a Western word: "Gr鲞e".
_IDEOGRAPH_IN_WORD = re.compile(r"(?<=[A-Za-z])[\u3400-\u9fff](?=[A-Za-z])")
_INSIDE_WORD = 6.0
# Western letters and marks that are common in some languages and otherwise rare.
_ACCENTED = frozenset("éèêëàâäáåãæçíìîïñóòôöøõœúùûüßÉÈÀÄÅÖØÜÇÑ°«»€£©®•¿¡§")


# Blocks of characters: first, last, script, log-probability (None: it depends on the character).
_RANGES: tuple[tuple[str, str, _Script, float | None], ...] = (
    ("\u4e00", "\u9fff", "ideograph", None),
    ("〇", "〇", "ideograph", None),
    ("\u3400", "\u4dbf", "ideograph", -20.0),
    ("\uf900", "\ufaff", "ideograph", -20.0),
    ("\U00020000", "\U0003ffff", "ideograph", -20.0),
    ("\u3041", "\u30ff", "kana", -5.0),
    ("\uff61", "\uff9f", "kana", -7.0),
    ("\uac00", "\ud7a3", "hangul", None),
    ("\uff10", "\uff5a", "common", -9.0),
    ("\u0410", "\u044f", "letter", -5.5),
    ("\u0391", "\u03c9", "letter", -5.5),
    ("\u05d0", "\u05ea", "letter", -5.5),
    ("\u0621", "\u064a", "letter", -5.5),
    ("\u0e01", "\u0e5b", "letter", -5.5),
)


def log_likelihood(text: str, languages: Sequence[Language] = ANY) -> float:
    """The log-likelihood of ``text`` in nats, in the likeliest of ``languages``; never positive."""
    return _likelihood(Counter(text), languages) - _INSIDE_WORD * len(_IDEOGRAPH_IN_WORD.findall(text))


def foreign_mean(text: str, languages: Sequence[Language] = ANY) -> float | None:
    """The mean log-likelihood, in nats, of the characters outside ASCII; None where there are none."""
    counts = Counter({character: count for character, count in Counter(text).items() if character > "\x7f"})
    return _likelihood(counts, languages) / counts.total() if counts else None


def _likelihood(counts: Mapping[str, int], languages: Sequence[Language]) -> float:
    own = 0.0
    scripts: Counter[_Script] = Counter()
    for character, count in counts.items():
        script, value = _character(character)
        own += count * value
        scripts[script] += count
    return own + max(
        cost + sum(extra * scripts[script] for script, extra in extras.items())
        for cost, extras in map(_LANGUAGES.__getitem__, languages)
    )


@cache
def _ranked() -> dict[str, float]:
    """Common Chinese characters with a probability that falls with their rank (Zipf-Mandelbrot)."""
    table = {character: -math.log(rank + 20) - 2.2 for rank, character in enumerate(SIMPLIFIED)}
    stretch = len(SIMPLIFIED) / len(TRADITIONAL)
    table.update((character, -math.log(rank * stretch + 20) - 2.4) for rank, character in enumerate(TRADITIONAL))
    return table


@cache
def _levels() -> dict[str, float]:
    """The two levels of Big5 (leads 0xA4-0xC6, 0xC9-0xF9) and of GB 2312 (0xB0-0xD7, 0xD8-0xF7)."""
    table: dict[str, float] = {}
    areas = (("big5", 0xC9, 0xF9, -14.0), ("gb2312", 0xD8, 0xF7, -13.5), ("big5", 0xA4, 0xC6, -11.0))
    for codec, first, last, value in (*areas, ("gb2312", 0xB0, 0xD7, -11.0)):
        for lead in range(first, last + 1):
            for trail in (*range(0x40, 0x7F), *range(0xA1, 0xFF)):
                character = bytes((lead, trail)).decode(codec, errors="ignore")
                if len(character) == 1 and "\u4e00" <= character <= "\u9fff":
                    table[character] = value
    return table


@cache
def _character(character: str) -> tuple[_Script, float]:
    """The script of a character and its log-probability within a language that uses the script."""
    if character < "\x80":
        return "common", _ascii(character)
    if character in _FREQUENT_SYMBOLS:
        return "common", -5.5
    if character in _ACCENTED:
        return "accented", -6.0
    for first, last, script, value in _RANGES:
        if first <= character <= last:
            return script, value if value is not None else _ranked_value(script, character)
    return _other(character)


def _ranked_value(script: _Script, character: str) -> float:
    return _ideograph(character) if script == "ideograph" else _syllable(character)


def _ascii(character: str) -> float:
    if character >= " " or character in "\t\n\r\f":
        return -4.5
    return -30.0 if character == "\0" else -16.0


def _ideograph(character: str) -> float:
    if character == "〇":
        return -9.5
    return _ranked().get(character) or _levels().get(character, -17.0)


def _syllable(character: str) -> float:
    """Hangul: the most frequent syllables, the 2,350 of KS X 1001 that are in use, the rest of 11,172."""
    if character in _FREQUENT_SYLLABLES:
        return -5.2
    return -9.5 if _encodes(character, "euc_kr") else -15.0


def _other(character: str) -> tuple[_Script, float]:
    """Whatever has no place in the tables, by its Unicode category."""
    category = unicodedata.category(character)
    if category.startswith("L"):
        return "letter", -9.5
    return "common", {"Cn": -32.0, "Cs": -32.0, "Co": -26.0, "Cc": -16.0}.get(category, -13.0)


def _encodes(character: str, codec: str) -> bool:
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
