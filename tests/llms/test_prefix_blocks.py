"""How prompts are cut into blocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.llms.prefixes import BLOCK, LEAST_BLOCK, Block, blocks_of


@st.composite
def prompts(draw: st.DrawFn) -> tuple[int, list[Segment]]:
    lengths = draw(st.lists(st.integers(0, 3 * BLOCK), max_size=8))
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    segments = [Segment(end, draw(st.sampled_from(["", "a", "b", "c"]))) for end in ends]
    return (ends[-1] if ends else 0) + draw(st.integers(1, 2 * BLOCK)), segments


@given(prompts())
def test_blocks_follow_one_another_and_keep_their_size(prompt: tuple[int, list[Segment]]) -> None:
    length, segments = prompt
    position = 0
    for block in blocks_of(length, segments):
        assert block.start == position
        assert LEAST_BLOCK <= block.end - block.start <= BLOCK
        position = block.end
    assert length - position < BLOCK
    # Only what is too short for a block of its own is left behind the last segment's end.
    last = max((segment.end for segment in segments if segment.end < length), default=0)
    assert last - position < LEAST_BLOCK


@given(prompts(), st.data())
def test_prompts_that_begin_alike_have_their_first_blocks_in_common(
    prompt: tuple[int, list[Segment]], data: st.DataObject
) -> None:
    length, segments = prompt
    kept = data.draw(st.integers(0, len(segments)))
    beginning = segments[:kept]
    shared = beginning[-1].end if beginning else 0
    other = shared + data.draw(st.integers(1, 2 * BLOCK))
    common = [block for block in blocks_of(length, segments) if block.end <= shared]
    assert common == [block for block in blocks_of(other, beginning) if block.end <= shared]


@given(prompts())
def test_every_block_names_what_it_was_made_of(prompt: tuple[int, list[Segment]]) -> None:
    length, segments = prompt
    # Several labels at one end are all of the stretch before it; what ends where nothing begins is of nothing.
    ends = sorted({0, *(segment.end for segment in segments if segment.end < length)})
    starts = dict(zip(ends[1:], ends, strict=False))
    for block in blocks_of(length, segments):
        named = {
            segment.label
            for segment in segments
            if segment.label and segment.end in starts and starts[segment.end] < block.end and segment.end > block.start
        }
        assert named == set(block.labels)


def test_short_segments_are_joined_and_long_ones_cut() -> None:
    segments = [Segment(5, "a"), Segment(40, "b"), Segment(40 + BLOCK + 20, "c")]
    assert list(blocks_of(40 + BLOCK + 25, segments)) == [
        Block(0, 40, ("a", "b")),
        Block(40, 40 + BLOCK, ("c",)),
        Block(40 + BLOCK, 40 + BLOCK + 20, ("c",)),
    ]
