"""Where prompts may go on otherwise: segments of turns, in ids."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.family.template import Prompt, Segment, Turn, render_prompt
from tests.family.test_template import TEXT, every_pair
from tests.family.vocabularies import any_named

SOURCES = ["资料：\n\n", "[1] 手册\n员工每年有5天年假。\n\n", "[2] 通知\n放假三天。\n\n", "请回答。\n问题："]


def rendered(template: str, name: str, texts: list[str], behind: str, *, labels: bool = True) -> Prompt:
    ends = [len("".join(texts[: number + 1])) for number in range(len(texts))]
    segments = tuple(Segment(end, f"document {number}" if labels else "") for number, end in enumerate(ends))
    turns = [Turn("system", "只依据资料。"), Turn("user", "".join(texts) + behind, segments)]
    return render_prompt(template, turns, any_named(name))


@every_pair
def test_prompts_share_their_ids_up_to_the_last_segment_that_they_share(name: str, template: str) -> None:
    one = rendered(template, name, SOURCES, "年假有几天？")
    other = rendered(template, name, SOURCES, "second question")
    fewer = rendered(template, name, SOURCES[:2], "请概括。")
    assert one.segments == other.segments
    last = one.segments[-1].end
    assert one.ids[:last] == other.ids[:last]
    assert one.ids[: fewer.segments[-1].end] == fewer.ids[: fewer.segments[-1].end]
    assert [segment.label for segment in one.segments[-4:]] == [f"document {number}" for number in range(4)]


@every_pair
def test_the_words_around_a_question_are_a_segment_and_each_turn_is(name: str, template: str) -> None:
    tokenizer = any_named(name)
    first = [Turn("system", "只依据资料。"), Turn("user", "年假有几天？")]
    longer = [*first, Turn("assistant", "五天。"), Turn("user", "满十年呢？")]
    one, two = render_prompt(template, first, tokenizer), render_prompt(template, longer, tokenizer)
    assert one.segments[0].end > 5
    assert one.segments[0] == two.segments[0]
    assert len(two.segments) >= 3
    assert (
        two.ids[: two.segments[-1].end]
        == render_prompt(template, [*longer[:-1], Turn("user", "x")], tokenizer).ids[: two.segments[-1].end]
    )


@every_pair
@given(TEXT, st.lists(st.integers(0, 40), max_size=4), TEXT, st.lists(st.integers(0, 40), max_size=3))
def test_segments_of_any_text_lie_in_order_inside_the_ids(
    name: str, template: str, text: str, cuts: list[int], more: str, later: list[int]
) -> None:
    def turn(text: str, cuts: list[int]) -> Turn:
        return Turn("user", text, tuple(Segment(min(cut, len(text)), "d") for cut in sorted(cuts)))

    marked = render_prompt(template, [turn(text, cuts), turn(more, later)], any_named(name))
    plain = render_prompt(template, [turn(text, []), turn(more, [])], any_named(name))
    assert (marked.ids, marked.spans) == (plain.ids, plain.spans)
    ends = [0, *(segment.end for segment in marked.segments), len(marked.ids)]
    assert all(one <= other for one, other in pairwise(ends))
    assert ends[-2] < ends[-1]


def test_segments_follow_their_text_when_turns_are_joined_and_stripped() -> None:
    turns = [Turn("user", "  资料一\n", (Segment(6, "a"),)), Turn("user", "资料二\n问题", (Segment(4, "b"),))]
    for name, template in (("toy", "alpaca-2"), ("byte-pair", "llama-3")):
        tokenizer = any_named(name)
        prompt = render_prompt(template, turns, tokenizer)
        texts = [tokenizer.decode(list(prompt.ids[: segment.end])) for segment in prompt.segments if segment.label]
        assert [text.rstrip()[-3:] for text in texts] == ["资料一", "资料二"]


@pytest.mark.parametrize("end", [0, 10_000])
def test_a_segment_at_the_edge_of_a_text_is_none_or_the_turns(end: int) -> None:
    turn = Turn("user", "年假", (Segment(min(end, 2), "d"),))
    prompt = render_prompt("alpaca-2", [turn], any_named("toy"))
    assert all(0 < segment.end < len(prompt.ids) for segment in prompt.segments)
