"""Texts compared without what does not matter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.evaluation.comparing import LEAST_SHARED, folded, holds, is_mostly_in

TEXT = st.text(alphabet="年假十五天ab 12\n，。", max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("年假\n十五 天", "年假十五天"),
        ("ＡＢＣ　有限公司", "abc有限公司"),
        ("資訊 系統", "资讯系统"),
        ("共 15 天", "共15天"),
        ("3  15\n20", "3 15 20"),
        (" \u200b ", ""),
    ],
)
def test_layout_width_case_and_script_are_folded_and_numbers_stay_apart(text: str, expected: str) -> None:
    assert folded(text) == expected


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("每年享有十五天年假", "十五天", True),
        ("共15天", "15", True),
        ("在2015年", "15", False),
        ("在2015年，共15天", "15", True),
        ("第15条", "5条", False),
        ("编号a15", "a1", False),
        ("年假", "", False),
        ("", "年假", False),
    ],
)
def test_a_number_is_not_held_by_a_longer_one(text: str, wanted: str, expected: bool) -> None:
    assert holds(text, wanted) is expected


def letters(first: int, count: int) -> str:
    """``count`` characters, all different, from the ``first`` on."""
    return "".join(chr(0x4E00 + first + number) for number in range(count))


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        (50, 50, True),
        (49, 51, False),
        (LEAST_SHARED, LEAST_SHARED, True),
        (LEAST_SHARED - 1, 1, False),  # too short for a stretch to say anything
        (LEAST_SHARED - 1, 0, True),  # but whole
        (1, 0, True),
        (0, 30, False),
    ],
)
@pytest.mark.parametrize("before", [0, 7])
def test_half_of_a_text_in_one_stretch_is_most_of_it(shared: int, own: int, expected: bool, before: int) -> None:
    other = letters(0, 1000)
    text = letters(2000, min(before, own)) + letters(300, shared) + letters(3000, own - min(before, own))
    assert is_mostly_in(text, other) is expected


@given(TEXT, TEXT)
def test_looking_for_pieces_first_changes_no_answer(text: str, other: str) -> None:
    length = max((len(text) + 1) // 2, LEAST_SHARED)
    stretches = [text[start : start + length] for start in range(len(text) - length + 1)]
    expected = (bool(text) and text in other) or any(stretch in other for stretch in stretches)
    assert is_mostly_in(text, other) is expected


@given(st.text(max_size=40) | TEXT)
def test_white_space_stays_only_between_digits(text: str) -> None:
    assert not re.search(r"(?<!\d)\s|\s(?!\d)|\s\s", folded(text))
