"""Text on its way to a terminal: harmless, measured in columns, wrapped without loss."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.cli.text import clean, one_line, padded, shortened, text_width, wrap

mixed = st.text(
    st.sampled_from("年假有几天？（）“”，。 the window reaches 16K tokens/path-name") | st.characters(codec="utf-8")
)


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b2Jgone", "2Jgone"),
        ("\x1b]0;title\x07", "]0;title"),
        ("a\rb\x08c", "abc"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("\ufeff年假\u2066\u2069", "年假"),
        ("一\u2028二", "一\n二"),
        ("name\udcff.txt", "name\ufffd.txt"),
        ("tag\U000e0041", "tag"),
        ("keeps\ttabs\nand lines", "keeps\ttabs\nand lines"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(given_text: str, shown: str) -> None:
    assert clean(given_text) == shown


@given(st.text(st.characters()))
def test_nothing_that_controls_is_left(text: str) -> None:
    left = {character for character in clean(text) if unicodedata.category(character) in ("Cc", "Cs")}
    assert left <= {"\t", "\n"}
    clean(text).encode("utf-8")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_is_untouched(text: str) -> None:
    assert clean(text) == text


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(("text", "width"), [("年假", 4), ("leave", 5), ("e\u0301", 1), ("第3页", 5), ("，", 2)])
def test_columns(text: str, width: int) -> None:
    assert text_width(text) == width


@given(mixed, st.integers(min_value=2, max_value=40))
def test_shortened_fits_and_says_that_something_is_missing(text: str, width: int) -> None:
    short = shortened(text, width)
    assert text_width(short) <= width
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


@given(mixed)
def test_padded_reaches_its_width(text: str) -> None:
    assert text_width(padded(text, 60)) == max(60, text_width(text))


@given(mixed, st.integers(min_value=8, max_value=60))
def test_wrapping_loses_nothing_but_spaces(text: str, width: int) -> None:
    assert "".join("".join(wrap(text, width)).split()) == "".join(text.split())


def test_chinese_breaks_anywhere_but_before_punctuation() -> None:
    assert wrap("向知识库提问，答案附有引用。", 12) == ["向知识库提", "问，答案附有", "引用。"]
    assert wrap("看（如下）", 4) == ["看", "（如", "下）"]


def test_words_and_paths_stay_whole() -> None:
    assert wrap("see /a/rather/long/path here", 10) == ["see", "/a/rather/long/path", "here"]
    assert wrap("用 --window 16K 打开", 12) == ["用 --window", "16K 打开"]
