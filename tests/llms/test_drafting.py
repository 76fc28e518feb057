"""What a lookup in prompt and answer guesses: held against the plainest way of saying it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.drafting import LONGEST, NO_GUESS, SHORTEST, PromptLookup


def plainly(ids: list[int], most: int) -> list[int]:
    """The ids after the last of the longest matches, by looking everywhere."""
    best, best_place = 0, 0
    for place in range(1, len(ids)):
        length = 0
        while length < min(LONGEST, place) and ids[place - 1 - length] == ids[-1 - length]:
            length += 1
        if length >= max(best, SHORTEST):
            best, best_place = length, place
    guessed: list[int] = []
    for offset in range(most if best else 0):
        guessed.append([*ids, *guessed][best_place + offset])
    return guessed


@given(
    prompt=st.lists(st.integers(0, 3), max_size=24),
    answer=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    most=st.integers(1, 6),
)
def test_the_last_of_the_longest_matches_is_gone_on_from(prompt: list[int], answer: list[int], most: int) -> None:
    lookup = PromptLookup(prompt)
    for end in range(1, len(answer) + 1):
        # Few enough places for all of them to be compared.
        assert list(lookup.guess(answer[:end], most).ids) == plainly(prompt + answer[:end], most)


def test_a_quotation_is_found_in_the_prompt() -> None:
    document = list(range(100, 200))
    lookup = PromptLookup([1, *document, 7, 8])
    assert lookup.guess([120], 4) == NO_GUESS
    assert list(lookup.guess([120, 121], 4).ids) == [122, 123, 124, 125]
    assert list(lookup.guess([120, 121, 122, 123], 4).ids) == [124, 125, 126, 127]


def test_the_longer_match_wins_over_the_later() -> None:
    lookup = PromptLookup([5, 6, 7, 10, 99, 6, 7, 20])
    assert list(lookup.guess([5, 6, 7], 1).ids) == [10]
    assert list(PromptLookup([5, 6, 7, 10, 99, 6, 7, 20]).guess([98, 6, 7], 1).ids) == [20]


def test_text_that_repeats_itself_goes_on_repeating_itself() -> None:
    lookup = PromptLookup([1])
    assert list(lookup.guess([5, 6, 7, 5, 6], 8).ids) == [7, 5, 6, 7, 5, 6, 7, 5]


def test_guesses_of_long_and_of_short_matches_are_told_apart() -> None:
    lookup = PromptLookup([1, *range(100, 130)])
    written = list(range(100, 110))
    assert [lookup.guess(written[:count], 1).source for count in range(2, 11)] == [
        "lookup 2",
        "lookup 3",
        *["lookup 4"] * 4,
        *["lookup 8"] * 3,
    ]


def test_prompts_without_a_pair_have_nothing_to_quote() -> None:
    for prompt in ([], [1], [1, 2], [1, 2, 3]):
        assert PromptLookup(prompt).guess([9], 5) == NO_GUESS


def test_text_of_one_token_over_and_over_is_looked_up_as_quickly_as_any() -> None:
    """Every place matches; of sixteen thousand only a few are compared."""
    lookup = PromptLookup([7] * 16_000)
    compared: list[int] = []
    match = lookup._match
    lookup._match = lambda place: compared.append(place) or match(place)  # type: ignore[method-assign,func-returns-value]
    for length in range(1, 20):
        assert list(lookup.guess([7] * length, 15).ids) == [7] * 15
    lookup.guess([7] * 20 + [8, 7, 7], 15)
    assert len(compared) < 20 * 100
