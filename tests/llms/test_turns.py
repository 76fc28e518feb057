from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from chinese_alpaca_rag.llms.turns import Turns


def test_only_one_works_at_a_time_and_answers_are_not_mixed() -> None:
    turns = Turns(patience=5.0, patience_in_thread=5.0)
    steps: list[int] = []
    working = threading.Lock()

    def answer(number: int) -> None:
        me = object()
        for _ in range(20):
            with turns.step(me):
                assert working.acquire(blocking=False)
                steps.append(number)
                time.sleep(0.0005)
                working.release()
        turns.leave(me)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(answer, range(6)))
    changes = sum(one != other for one, other in pairwise(steps))
    assert len(steps) == 120
    assert changes == 5


def test_a_step_says_whether_somebody_came_between() -> None:
    turns = Turns(patience=0.01, patience_in_thread=0.01)
    first, second = object(), object()
    seen = []
    for who in (first, first, second, first, first):
        with turns.step(who) as undisturbed:
            seen.append(undisturbed)
    assert seen == [False, True, False, False, True]


def test_one_that_stands_still_is_passed_by_sooner_in_its_own_thread() -> None:
    turns = Turns(patience=0.4, patience_in_thread=0.02)
    with turns.step(object()):
        pass
    start = time.monotonic()
    with turns.step(object()):
        assert time.monotonic() - start < 0.3

    def elsewhere() -> float:
        begun = time.monotonic()
        with turns.step(object()):
            return time.monotonic() - begun

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result(timeout=5) > 0.3


def test_one_that_works_is_never_passed_by() -> None:
    turns = Turns(patience=0.02, patience_in_thread=0.02)
    order = []

    def long_step() -> None:
        with turns.step("long"):
            begun.set()
            time.sleep(0.2)
            order.append("long")

    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(long_step)
        begun.wait(5)
        with turns.step("short"):
            order.append("short")
        working.result(5)
    assert order == ["long", "short"]


def test_leaving_wakes_who_waits() -> None:
    turns = Turns(patience=30.0)
    with turns.step("first"):
        pass

    def wait() -> bool:
        with turns.step("second"):
            return True

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        time.sleep(0.05)
        assert not waiting.done()
        turns.leave("somebody else")
        turns.leave("first")
        assert waiting.result(timeout=5)


def test_an_error_inside_a_step_ends_it() -> None:
    turns = Turns(patience=0.01)
    try:
        with turns.step("first"):
            raise ValueError
    except ValueError:
        turns.leave("first")
    with turns.step("second") as undisturbed:
        assert not undisturbed


def test_who_does_not_wait_gets_only_what_is_free() -> None:
    turns = Turns(patience=0.05, patience_in_thread=0.05)
    seen: list[bool | None] = []

    def look(who: object) -> None:
        with turns.step_if_free(who) as undisturbed:
            seen.append(undisturbed)

    first, second = object(), object()
    look(first)
    look(first)
    look(second)  # the first stands still, and not for long yet
    with turns.step(first):
        look(second)
        look(first)  # inside its own step
    time.sleep(0.1)
    look(second)
    look(first)
    turns.leave(second)
    look(first)
    assert seen == [False, True, None, None, None, False, None, False]
