from __future__ import annotations

from collections.abc import Sequence
from math import log2

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from chinese_alpaca_rag.chains.measuring import measure_model
from chinese_alpaca_rag.chains.packing import (
    PartTooLongError,
    batch,
    best_fitting,
    group_notes,
    longest_fitting,
    pack,
    shorten,
    split_to_fit,
)
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, source_messages
from chinese_alpaca_rag.chains.sources import Excerpt, Source, excerpts_of, lay_out
from chinese_alpaca_rag.sentences import sentence_spans
from tests.chains.libraries import passage, ranked_passages
from tests.chains.reading_model import ReadingModel

Library = tuple[list[Document], dict[tuple[str, int], str]]
Spot = tuple[str, int, int]


class Counter:
    """Counts sources as a prompt, and how often it was asked."""

    def __init__(self) -> None:
        self.model = ReadingModel()
        self.measure = measure_model(self.model)

    def __call__(self, sources: Sequence[Source]) -> int:
        return self.measure.count(source_messages(DEFAULT_PROMPTS.zh, sources, "概括。", language="zh"))


def spots(excerpts: Sequence[Excerpt]) -> set[Spot]:
    """Every character of the excerpts, by its place."""
    return {(one.source, one.page, at) for one in excerpts for at in range(one.start, one.end)}


BASE = Counter()(())


@settings(max_examples=150, deadline=None)
@given(ranked_passages(), st.integers(BASE, BASE + 1200), st.booleans())
def test_packing_never_overflows_and_loses_nothing(library: Library, limit: int, canonical: bool) -> None:
    excerpts = excerpts_of(library[0])
    if not canonical:
        excerpts.sort(key=lambda excerpt: excerpt.reading_order)
    count = Counter()
    try:
        best = best_fitting(excerpts, count, limit, canonical=canonical)
        packed = pack(excerpts, count, limit, best=best, canonical=canonical)
    except PartTooLongError as error:
        assert error.needed > error.limit == limit
        return
    assert count(lay_out(packed.taken, canonical=canonical)) == packed.tokens <= limit
    assert list(packed.taken[:best]) == excerpts[:best]
    assert spots(packed.taken) | spots(packed.dropped) == spots(excerpts)
    assert len(set(packed.taken) | set(packed.dropped)) == len(packed.taken) + len(packed.dropped)
    # Nothing that was left out would have fitted.
    for excerpt in packed.dropped:
        assert count(lay_out([*packed.taken, excerpt], canonical=canonical)) > limit


@settings(max_examples=150, deadline=None)
@given(ranked_passages(most=40), st.integers(BASE, BASE + 1200))
def test_batches_never_overflow_and_hold_everything_once_in_order(library: Library, limit: int) -> None:
    excerpts = excerpts_of(library[0])
    count = Counter()
    try:
        batched = batch(excerpts, count, limit)
    except PartTooLongError as error:
        assert error.needed > error.limit == limit
        return
    sources = [source for sources in batched.batches for source in sources]
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))
    assert sum(map(count, batched.batches)) == batched.tokens
    assert all(count(sources) <= limit for sources in batched.batches)
    shown = [source.excerpt for source in sources]
    assert spots(shown) == spots(excerpts)
    places = [(excerpt.source, excerpt.page, excerpt.start) for excerpt in shown]
    assert places == sorted(places)
    if all(count([Source(1, excerpt)]) <= limit for excerpt in excerpts):
        assert batched.excerpts == len(excerpts)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=80), st.integers(0, 3000), st.sampled_from((0.1, 0.4, 1.0, 3.0)))
def test_longest_fitting_counts_what_it_returns_and_not_often(sizes: list[int], limit: int, rate: float) -> None:
    asked: list[int] = []

    def count(items: int) -> int:
        asked.append(items)
        return 20 + int(sum(sizes[:items]) * rate)

    fitting, tokens = longest_fitting(sizes, count, limit)
    if limit < 20:
        assert (fitting, tokens) == (0, 20)
        return
    assert tokens == 20 + int(sum(sizes[:fitting]) * rate) <= limit
    assert fitting == len(sizes) or 20 + int(sum(sizes[: fitting + 1]) * rate) > limit
    assert len(asked) <= 6 + 2 * log2(len(sizes) + 2)


def test_counting_stays_cheap_on_many_passages() -> None:
    excerpts = excerpts_of(
        [passage(f"第{n}段，" + "年假" * 150, start=1000 * n, source=f"/{n % 7}") for n in range(600)]
    )
    count = Counter()
    batched = batch(excerpts, count, 4000)
    assert count.model.counted <= 8 * len(batched.batches)


def test_long_passage_is_split_with_few_counts_into_even_parts_between_sentences() -> None:
    text = "".join(f"第{n}条，员工享有年假。" for n in range(4000))
    [excerpt] = excerpts_of([passage(text, start=7)])
    count = Counter()
    limit = BASE + 1000
    parts = split_to_fit(excerpt, lambda chosen: count(lay_out(chosen)), limit)
    assert "".join(part.text for part, _ in parts) == text
    assert all(part.text.endswith("。") for part, _ in parts)
    assert all(tokens == count(lay_out([part])) <= limit for part, tokens in parts)
    assert all(text[part.start - 7 : part.end - 7] == part.text for part, _ in parts)
    assert len(parts) < 2.2 * len(text) / 1000
    assert count.model.counted <= 4 * len(parts)


def test_long_passage_without_room_is_named_as_one() -> None:
    best = [passage(f"第{n}条。" + "年假" * 100, start=1000 * n) for n in range(4)]
    long = passage("员工享有年假。" * 400, source="/docs/z.txt", start=50)
    excerpts = excerpts_of([*best, long])
    count = Counter()
    limit = count(lay_out(excerpts[:4])) + 60
    packed = pack(excerpts, count, limit, best=4)
    assert packed.taken == tuple(excerpts[:4])
    assert packed.dropped == (excerpts[4],)


@pytest.mark.parametrize("text", ["年" * 3000, "a" * 3000, "年假，" * 1000, "leave " * 500])
def test_text_without_sentences_is_split_all_the_same(text: str) -> None:
    [excerpt] = excerpts_of([passage(text)])
    count = Counter()
    parts = split_to_fit(excerpt, lambda chosen: count(lay_out(chosen)), BASE + 300)
    assert "".join(part.text for part, _ in parts) == text
    assert {part.text[-1] for part, _ in parts[:-1]} == {text.rstrip()[-1] if "，" in text else parts[0][0].text[-1]}


NOTES = st.lists(st.text("年假。，a \n", max_size=700), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(NOTES, st.integers(150, 900))
def test_groups_of_notes_fit_and_halve_their_number(notes: list[str], limit: int) -> None:
    def count(texts: Sequence[str]) -> int:
        return 60 + sum(len(text) + 2 for text in texts)

    groups, shortened = group_notes(notes, count, limit)
    assert all(count(group) <= limit for group in groups)
    assert sum(map(len, groups)) == len(notes)
    assert len(groups) <= (len(notes) + 1) // 2
    flat = [note for group in groups for note in group]
    assert sum(note != short for note, short in zip(notes, flat, strict=True)) == shortened
    assert all(note.startswith(short) for note, short in zip(notes, flat, strict=True))


@given(st.text("年假。，a \n", max_size=300), st.integers(10, 200))
def test_shortened_note_fits_and_ends_with_a_sentence_where_one_fits(note: str, limit: int) -> None:
    def count(texts: Sequence[str]) -> int:
        return 10 + sum(map(len, texts))

    assume(count([note]) > limit)
    short = shorten(note, count, limit)
    assert note.startswith(short)
    assert count([short]) <= limit
    ends = [end for _, end in sentence_spans(note)]
    if ends and count([note[: ends[0]]]) <= limit:
        assert len(short) == max(end for end in ends if count([note[:end]]) <= limit)


def test_notes_that_can_never_fit_are_told() -> None:
    with pytest.raises(PartTooLongError):
        group_notes(["年" * 100, "假" * 100], lambda texts: 60 + sum(map(len, texts)), 100)
