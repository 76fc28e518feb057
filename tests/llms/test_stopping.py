from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.stopping import StopWatch

LETTERS = st.text(alphabet="ab。", max_size=12)
STOPS = st.lists(st.text(alphabet="ab。", min_size=1, max_size=4), max_size=3)


def shown(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    watch = StopWatch(stops)
    out = [watch.push(piece) for piece in pieces]
    return [*out, watch.finish()], watch.found


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition: the text is read until some stop text is complete, and the longest such taken off."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_any_pieces_give_what_the_definition_gives(pieces: list[str], stops: list[str]) -> None:
    out, found = shown(pieces, stops)
    assert ("".join(out), found) == cut("".join(pieces), stops)


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_no_more_is_held_back_than_can_still_become_a_stop_text(pieces: list[str], stops: list[str]) -> None:
    watch = StopWatch(stops)
    pushed, released = "", ""
    for piece in pieces:
        pushed += piece
        released += watch.push(piece)
        if watch.found:
            return
        held = pushed[len(released) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_a_stop_text_across_pieces_is_found_and_what_follows_is_dropped() -> None:
    assert shown(["一、", "二。\n", "\n三", "四"], ["\n\n"]) == (["一、", "二。", "", "", ""], True)


def test_without_stop_texts_everything_comes_at_once() -> None:
    assert shown(["一", "二"], []) == (["一", "二", ""], False)
