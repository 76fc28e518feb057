"""The numbers that Word puts before paragraphs by itself: 第一章, （一）, 1.2. After: ECMA-376, part 1, 17.9.

They are in no text of the file, only counted. Without them articles of a regulation lose their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_LEVELS = 9
_DIGITS = "〇一二三四五六七八九"
_STEMS = "甲乙丙丁戊己庚辛壬癸"
_BRANCHES = "子丑寅卯辰巳午未申酉戌亥"
_LEGAL = str.maketrans("〇一二三四五六七八九十百千万", "零壹贰叁肆伍陆柒捌玖拾佰仟万")
_CHINESE = frozenset(
    ("chineseCounting", "chineseCountingThousand", "japaneseCounting", "taiwaneseCounting",
     "taiwaneseCountingThousand", "ideographDigital", "japaneseDigitalTenThousand", "taiwaneseDigital")
)  # fmt: skip
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
          (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip
_PLACE = re.compile(r"%([1-9])")
BULLET = "-"


@dataclass(frozen=True)
class _Level:
    start: int = 1
    kind: str = "decimal"
    text: str = ""
    legal: bool = False
    style: str = ""


@dataclass
class _List:
    levels: dict[int, _Level] = field(default_factory=dict)
    abstract: str = ""


class Numbering:
    """The lists of a document, and how far each has been counted."""

    def __init__(self, root: Any) -> None:
        self._lists: dict[str, _List] = {}
        self._counts: dict[str, list[int | None]] = {}
        if root is not None:
            self._read(root)

    def label(self, properties: Any, style: Any) -> str:
        """The number of a paragraph with the numbering ``properties`` (numPr) of its own or of its ``style``.

        BULLET for an item without a number, "" for a paragraph that is in no list.
        """
        found = self._place(properties, style)
        if found is None:
            return ""
        identifier, level = found
        one = self._lists.get(identifier)
        if one is None:
            return BULLET
        return self._next(one, level)

    def _place(self, properties: Any, style: Any) -> tuple[str, int] | None:
        own = _value(properties, "numId")
        identifier = own or _value(style, "numId")
        if not identifier or identifier == "0":
            return None
        level = _value(properties, "ilvl") if own else ""
        level = level or _value(style, "ilvl") or "0"
        return identifier, min(int(level), _LEVELS - 1) if level.isdigit() else 0

    def _next(self, one: _List, level: int) -> str:
        counts = self._counts.setdefault(one.abstract, [None] * _LEVELS)
        rule = one.levels.get(level, _Level())
        for place in range(level):
            if counts[place] is None:
                counts[place] = one.levels.get(place, _Level()).start
        before = counts[level]
        counts[level] = rule.start if before is None else before + 1
        counts[level + 1 :] = [None] * (_LEVELS - level - 1)
        if rule.kind in ("bullet", "none") and not _PLACE.search(rule.text):
            return BULLET if rule.kind == "bullet" else rule.text

        def shown(match: re.Match[str]) -> str:
            place = int(match.group(1)) - 1
            kind = "decimal" if rule.legal else one.levels.get(place, _Level()).kind
            count = counts[place]
            return formatted(one.levels.get(place, _Level()).start if count is None else count, kind)

        return _PLACE.sub(shown, rule.text).strip()

    def _read(self, root: Any) -> None:
        abstract: dict[str, dict[int, _Level]] = {}
        for one in root.iter(f"{_W}abstractNum"):
            abstract[one.get(f"{_W}abstractNumId", "")] = dict(map(_level, one.findall(f"{_W}lvl")))
        for one in root.iter(f"{_W}num"):
            identifier = one.get(f"{_W}numId", "")
            base = _value(one, "abstractNumId")
            levels = dict(abstract.get(base, {}))
            counted = base
            for change in one.findall(f"{_W}lvlOverride"):
                place = int(change.get(f"{_W}ilvl", "0") or 0)
                rule = change.find(f"{_W}lvl")
                if rule is not None:
                    levels[place] = _level(rule)[1]
                if (start := _value(change, "startOverride")).isdigit():
                    kept = levels.get(place, _Level())
                    levels[place] = _Level(int(start), kept.kind, kept.text, kept.legal, kept.style)
                if change.find(f"{_W}startOverride") is not None:
                    counted = f"{base}/{identifier}"  # it counts by itself; with other forms alone it counts on
            self._lists[identifier] = _List(levels, counted)


def formatted(number: int, kind: str) -> str:
    """A number as ``kind`` (ST_NumberFormat) writes it; plain digits for kinds that are not known."""
    if number < 0 or (number == 0 and kind not in ("ordinal", "none")):
        return str(number)
    if kind in _CHINESE:
        return chinese_number(number)
    if kind.startswith("chineseLegal") or kind == "ideographLegalTraditional":
        return chinese_number(number).translate(_LEGAL)
    return _KINDS.get(kind, str)(number)


def _letters(number: int) -> str:
    return chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)


def _circled(number: int) -> str:
    return chr(0x2460 + number - 1) if number <= 20 else str(number)


def _ordinal(number: int) -> str:
    teens = 10 < number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


_KINDS: Mapping[str, Callable[[int], str]] = {
    "none": lambda _: "",
    "ideographTraditional": lambda number: _STEMS[(number - 1) % 10],
    "ideographZodiac": lambda number: _BRANCHES[(number - 1) % 12],
    "decimalEnclosedCircle": _circled,
    "decimalEnclosedCircleChinese": _circled,
    "upperRoman": lambda number: roman_number(number).upper(),
    "lowerRoman": lambda number: roman_number(number),  # noqa: PLW0108 - defined below
    "upperLetter": lambda number: _letters(number).upper(),
    "lowerLetter": _letters,
    "decimalZero": lambda number: f"{number:02}",
    "ordinal": _ordinal,
}


def chinese_number(number: int) -> str:
    """1 to 99,999 in Chinese: 十二, 一百零五, 一千零二十."""
    if number <= 0 or number > 99_999:
        return str(number)
    written, gap = "", False
    for unit, name in ((10_000, "万"), (1_000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, unit)
        if digit:
            written += ("零" if gap and written else "") + _DIGITS[digit] + name
            gap = False
        else:
            gap = bool(written)
    return written.removeprefix("一") if written.startswith("一十") else written


def roman_number(number: int) -> str:
    """A number from 1 to 3,999 in small Roman numerals."""
    if not 0 < number < 4_000:
        return str(number)
    written = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        written += letters * count
    return written


def _level(element: Any) -> tuple[int, _Level]:
    place = element.get(f"{_W}ilvl", "0")
    start = _value(element, "start")
    return (
        min(int(place), _LEVELS - 1) if place.isdigit() else 0,
        _Level(
            start=int(start) if start.isdigit() else 0,  # 17.9.25
            kind=_value(element, "numFmt") or "decimal",
            text=_value(element, "lvlText")[:100],
            legal=element.find(f"{_W}isLgl") is not None,
            style=_value(element, "pStyle"),
        ),
    )


def _value(element: Any, name: str) -> str:
    found = element.find(f"{_W}{name}") if element is not None else None
    return (found.get(f"{_W}val") or "") if found is not None else ""
