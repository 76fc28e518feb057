"""Several sequences at once: what is still there when a prompt comes back, and that nothing of it is ever wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.growing_cache import room_of
from chinese_alpaca_rag.llms.live_sequences import LEAST_BEGINNING, LEAST_OWN, MOST, LiveSequences
from tests.llms.contexts import Opening, difference, logits_after, opened, opening, random_ids, read
from tests.toy_family import ToyCheckpoint

A, B, C = (random_ids(200, seed=seed) for seed in (1, 2, 3))
WINDOW = 1024
KINDS = pytest.mark.parametrize("kind", ["gguf", "hf"])


@pytest.fixture
def open_backend(one_thread: None) -> Iterator[Opening]:
    with opening() as open_it:
        yield open_it


@KINDS
def test_a_prompt_that_comes_back_is_still_there(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend, fresh = open_backend(kind, toy, 2048), open_backend(kind, toy, 2048)
    assert [read(backend, ids) for ids in (A, B, C)] == [0, 0, 0]
    assert [read(backend, [*ids, 300, 301]) for ids in (A, B, C, A, B)] == [200, 200, 200, 201, 201]
    assert backend.evaluated == 3 * 200 + 3 * 2 + 2
    for ids in (A, B, C):
        assert difference(logits_after(backend, [*ids, 300]), logits_after(fresh, [*ids, 300])) < 0.005


@KINDS
def test_two_ends_of_one_beginning_both_stay(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    """A conversation and another question about the same documents, say."""
    backend = open_backend(kind, toy, WINDOW)
    one, other = [*A, *B[1:101]], [*A, *C[1:101]]
    assert [read(backend, ids) for ids in (one, other)] == [0, 200]
    assert [read(backend, [*ids, 300]) for ids in (one, other, one)] == [300, 300, 300]


@KINDS
def test_a_short_end_is_not_worth_a_sequence(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend: Any = open_backend(kind, toy, WINDOW)
    for end in (B, C, B, C):
        read(backend, [*A, *end[1:LEAST_OWN]])
    assert len(list(backend._live)) == 1
    # Nor is a beginning that everything has.
    assert backend.keep(B) == 0


@KINDS
def test_the_least_recently_used_goes_for_an_answer(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    """Nothing fails that would not fail in an empty context."""
    backend = open_backend(kind, toy, 512)
    for ids in (A, B, A):
        read(backend, [*ids, 300])
    long = random_ids(500, seed=9)
    assert read(backend, long[:250]) == 0
    assert [backend.turn_to(ids) for ids in (A, B)] == [200 if kind == "gguf" else 0, 0]
    assert read(backend, long) == 250
    backend.evaluate(long[:12])
    assert [backend.turn_to(ids) for ids in (A, B)] == [0, 0]


@KINDS
def test_rows_take_the_room_they_need(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend, fresh = open_backend(kind, toy, 512), open_backend(kind, toy, 512)
    read(backend, A)
    read(backend, B[:100])
    backend.fork(4)
    for step in range(5):
        backend.extend([C[20 * (row + step) : 20 * (row + step) + 20] for row in range(4)])
    backend.reorder([2, 2, 0])
    backend.extend([[300], [301], [302]])
    for row, ids in enumerate(([*C[40:60], *C[60:80], *C[80:100], *C[100:120], *C[120:140], 300],)):
        assert difference(backend.row_logits(row), logits_after(fresh, [*B[:100], *ids])) < 0.005
    assert backend.turn_to(A) == 0
    assert read(backend, B) == 100


def test_there_are_never_too_many(toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend: Any = open_backend("gguf", toy, 4096)
    prompts = [random_ids(100 + number, seed=number) for number in range(2 * MOST)]
    for ids in prompts:
        read(backend, ids)
        assert len(list(backend._live)) <= MOST
    kept = [backend.turn_to(ids) == len(ids) for ids in prompts]
    # The shortest costs least to read again, but for the one that has just been read.
    assert kept == [False] * (MOST + 1) + [True] * (MOST - 1) or sum(kept) == MOST
    assert kept[-1]


def test_all_caches_together_stay_inside_the_window(toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend: Any = open_backend("hf", toy, WINDOW)
    prompts = [random_ids(length, seed=length) for length in (400, 90, 300, 700, 120, 1000, 40, 500)]
    for ids in (*prompts, *prompts[::2], *prompts):
        for cut in (ids[: len(ids) // 2], ids):
            read(backend, cut)
            assert sum(len(sequence) for sequence in backend._live) <= WINDOW
            held = [room_of(sequence.store) for sequence in backend._live.others]
            assert sum(held) + len(backend._live.current) <= WINDOW
    # A long prompt that was cut short gives its memory back.
    read(backend, prompts[5])
    read(backend, prompts[5][:100])
    read(backend, prompts[0])
    assert room_of(backend._live.others[0].store) < 400


def test_without_a_window_only_one_lives(toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend: Any = open_backend("hf", toy, WINDOW)
    backend._window = None
    assert [read(backend, ids) for ids in (A, B, A)] == [0, 0, 0]


@KINDS
def test_turning_lets_go_of_nothing(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend = open_backend(kind, toy, WINDOW)
    long = [*A, *B[1:]]
    read(backend, long)
    read(backend, [*C, 5])
    for ids in (A[:40], long, C, A, B, long[:250]):
        backend.turn_to(ids)
    assert [backend.turn_to(ids) for ids in (long, C)] == [len(long), len(C)]
    # Nothing to turn to.
    assert backend.turn_to(B) == 0


@KINDS
def test_what_is_forgotten_is_gone(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend = open_backend(kind, toy, WINDOW)
    for ids in (A, B, C):
        read(backend, ids)
    backend.fork(2)
    backend.extend([[5], [6]])
    backend.forget()
    assert [backend.keep(ids) for ids in (A, B, C)] == [0, 0, 0]
    assert read(backend, A) == 0


def test_the_one_that_costs_least_goes_where_there_are_too_many() -> None:
    gone: list[int] = []
    live = LiveSequences(0, gone.append)
    lengths = [300, 100, 200, 60, 500, 70, 80, 90]
    for number, length in enumerate(lengths, start=1):
        before = live.current
        live.begin(number, np.full(length, number, dtype=np.int32))
        live.settle(before)
    # The empty one at once; nothing else while there is a place.
    assert gone == [0]
    before = live.current
    live.begin(9, np.full(50, 9, dtype=np.int32))
    live.settle(before)
    assert gone == [0, 4]
    # One that another has almost all of costs nothing.
    before = live.current
    live.begin(10, np.full(480, 5, dtype=np.int32))
    live.settle(before)
    assert gone == [0, 4, 5]
    assert live.drop_oldest()
    assert gone == [0, 4, 5, 1]


# A model of what has to be held, against which random work is held.

STREAMS = [random_ids(90, seed=seed) for seed in (11, 12)]
SMALL = 256


@pytest.fixture(scope="module")
def pairs(toy: ToyCheckpoint, one_thread: None) -> Iterator[dict[str, tuple[Backend, Backend]]]:
    """Of each kind, a small backend to work with and one to compute everything afresh."""
    made = {kind: (opened(kind, toy, SMALL), opened(kind, toy, SMALL)) for kind in ("gguf", "hf")}
    yield made
    for backends in made.values():
        for backend in backends:
            backend.close()


def alike(one: list[int], other: list[int]) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


class Work:
    """Random work on a backend; ``current`` is what its growing sequence must hold."""

    def __init__(self, backend: Backend, fresh: Backend, data: st.DataObject) -> None:
        self.backend = backend
        self.fresh = fresh
        self.data = data
        self.current: list[int] = []
        self.seen: list[list[int]] = []
        self.states: list[tuple[list[int], int, bytes]] = []
        backend.forget()

    def draw_ids(self, most: int) -> list[int]:
        stream, length = STREAMS[self.data.draw(st.integers(0, 1))], self.data.draw(st.integers(0, most))
        return stream[:length]

    def check(self, ids: list[int], logits: Any) -> None:
        self.fresh.forget()
        assert difference(logits, logits_after(self.fresh, ids, SMALL)) < 0.01

    def keep(self) -> None:
        ids = [*self.draw_ids(80), *self.draw_ids(40), self.data.draw(st.integers(300, 302))]
        kept = self.backend.keep(ids)
        held = alike(self.current, ids[:-1])
        if held == len(self.current) or held >= LEAST_BEGINNING:
            # What was just there does not go.
            assert kept >= held
        assert kept <= max([held, *(alike(seen, ids[:-1]) for seen in self.seen)], default=0)
        self.current = ids[:kept]
        self.evaluate(ids[kept:])

    def evaluate(self, ids: list[int] | None = None) -> None:
        ids = ids or self.draw_ids(15)
        ids = ids[: SMALL - len(self.current)]
        if not ids:
            return
        outputs = self.data.draw(st.integers(1, min(len(ids), self.backend.max_outputs)))
        self.backend.evaluate(ids, outputs)
        self.current = [*self.current, *ids]
        self.seen.append(self.current)
        back = self.data.draw(st.integers(0, outputs - 1))
        self.check(self.current[: len(self.current) - back], self.backend.logits(back))

    def drop(self) -> None:
        position = self.data.draw(st.integers(0, len(self.current)))
        self.backend.drop(position)
        self.current = self.current[:position]

    def rows(self) -> None:
        count = self.data.draw(st.integers(1, 4))
        room = (SMALL - len(self.current)) // count if self.backend.shares_cells else 10
        ends = [[*self.draw_ids(min(15, room))] for _ in range(count)]
        if not any(ends):
            return
        self.backend.fork(count)
        self.backend.extend(ends)
        for row, end in enumerate(ends):
            if end:
                self.check([*self.current, *end], self.backend.row_logits(row))
        order = self.data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count))
        if sum(len(ends[row]) + 1 for row in order) + len(self.current) <= SMALL:
            self.backend.reorder(order)
            self.backend.extend([[310 + place] for place in range(len(order))])
            for place, row in enumerate(order):
                self.check([*self.current, *ends[row], 310 + place], self.backend.row_logits(place))
        kept = self.backend.keep([*self.current, 5])
        assert kept == len(self.current)

    def snapshot(self) -> None:
        if self.current:
            start = self.data.draw(st.integers(0, len(self.current) - 1))
            end = self.data.draw(st.integers(start + 1, len(self.current)))
            self.states.append((self.current[:end], start, bytes(self.backend.snapshot(start, end))))

    def restore(self) -> None:
        if not self.states:
            return
        ids, start, state = self.states[self.data.draw(st.integers(0, len(self.states) - 1))]
        if self.data.draw(st.booleans()):
            # To where it belongs.
            self.current = ids[: self.backend.keep([*ids[:start], 5])]
            self.backend.evaluate(ids[len(self.current) : start]) if len(self.current) < start else None
            self.current = ids[:start]
        fits = len(self.current) == start or not self.backend.shares_cells
        if fits and self.current != ids[:start]:
            return
        assert self.backend.restore(ids[start:], memoryview(state)) == fits
        if fits:
            self.current = ids
            self.seen.append(ids)
            self.evaluate([5])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@KINDS
def test_random_work_holds_what_it_should(
    kind: str, pairs: dict[str, tuple[Backend, Backend]], data: st.DataObject
) -> None:
    work = Work(*pairs[kind], data)
    steps = [work.keep, work.keep, work.evaluate, work.drop, work.rows, work.snapshot, work.restore]
    for _ in range(data.draw(st.integers(5, 20))):
        steps[data.draw(st.integers(0, len(steps) - 1))]()
