"""Numbers as a question and a text may write them differently: 15, 十五; 2,000, 两千; 2024, 二〇二四."""

from __future__ import annotations

import re

_DIGITS = {
    digit: value
    for value, digits in enumerate(("零〇", "一", "二两", "三", "四", "五", "六", "七", "八", "九"))
    for digit in digits
}
_POWERS = {"十": 10, "百": 100, "千": 1000}
_CHINESE = re.compile("[零〇一二两三四五六七八九十百千万亿]+")
_ARABIC = re.compile(r"(?<![a-z\d.-])\d+(?:,\d{3})*(?:\.\d+)?(?![a-z]+\d)")  # no part of a code such as zx-200
# Alone these are mostly no numbers: 一些, 两者, 百度, 千万.
_NO_NUMBERS = frozenset("零〇一两百千万亿")


def numbers_in(plain_text: str) -> list[tuple[str, int]]:
    """The numbers of ``words.plain`` text, in Arabic digits without grouping commas, each with where it ends."""
    found = [(match.group().replace(",", ""), match.end()) for match in _ARABIC.finditer(plain_text)]
    for match in _CHINESE.finditer(plain_text):
        if match.group() not in _NO_NUMBERS:
            found.append((str(chinese_number(match.group())), match.end()))
    return found


def chinese_number(numeral: str) -> int:
    """The value of a numeral of ``零〇一二两三四五六七八九十百千万亿`` alone; digit by digit where it has no powers."""
    if not any(character in _POWERS or character in "万亿" for character in numeral):
        return int("".join(str(_DIGITS[character]) for character in numeral))
    total = section = digit = 0
    for character in numeral:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _POWERS:
            section += (digit or 1) * _POWERS[character]
            digit = 0
        elif character == "万":
            total += (section + digit or 1) * 10**4
            section = digit = 0
        else:
            total = (total + section + digit or 1) * 10**8
            section = digit = 0
    return total + section + digit
