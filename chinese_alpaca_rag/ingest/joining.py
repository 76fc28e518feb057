"""Joining pieces of a line, or lines of a paragraph, without inventing or losing a space.

Chinese is written without spaces: where a line of it breaks, nothing stands between the parts. English needs
the space that the line break was, unless a hyphen cut a word.
"""

from __future__ import annotations

import re

from chinese_alpaca_rag.sentences import is_cjk

_SPACES = re.compile(r"\s+")


def collapse_spaces(text: str) -> str:
    """``text`` on one line: runs of white space become one space, or none where a line broke between Chinese."""

    def between(match: re.Match[str]) -> str:
        start, end = match.span()
        if start == 0 or end == len(text):
            return ""
        broken = "\n" in match.group()
        return "" if broken and is_cjk(text[start - 1]) and is_cjk(text[end]) else " "

    return _SPACES.sub(between, text)


def join_lines(first: str, second: str, *, hyphenated: bool = False) -> str:
    """Two lines of one paragraph as one; ``hyphenated`` when the typesetting itself marks the break as a hyphen."""
    first, second = first.rstrip(), second.lstrip()
    if not first or not second:
        return first + second
    if hyphenated:
        return first.removesuffix("-") + second
    last, following = first[-1], second[0]
    if last == "-" and len(first) > 1 and first[-2].isalpha() and following.isalpha() and not is_cjk(first[-2]):
        # "exam-" + "ple" was cut here; "Anglo-" + "Saxon" and "A-" + "B" have their own hyphen.
        return first[:-1] + second if following.islower() and first[-2].islower() else first + second
    if is_cjk(last) or is_cjk(following):
        return first + second if is_cjk(last) and is_cjk(following) else _mixed(first, second)
    return f"{first} {second}"


def _mixed(first: str, second: str) -> str:
    """Chinese meets something else at the line break: a space only beside a Western word ("2024" + "年" has none)."""
    western = second[0] if is_cjk(first[-1]) else first[-1]
    chinese = first[-1] if is_cjk(first[-1]) else second[0]
    return f"{first} {second}" if western.isalpha() and chinese.isalnum() else first + second
