"""When guessing pays: the decisions, on simulated machines whose evaluations take what is said here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import pytest

from chinese_alpaca_rag.llms.pace import MOST_GUESSED, EvaluationCosts, Pace

Table = dict[int, float]

# Milliseconds of so many ids, measured on a model of 8 layers of 512 at 256, 2,048 and 8,192 tokens, two threads.
NEAR: Table = {1: 3.3, 2: 3.7, 4: 4.0, 6: 4.4, 8: 5.9}
MIDDLE: Table = {1: 4.5, 2: 6.0, 4: 7.8, 6: 10.2, 8: 12.6}
FAR: Table = {1: 10.5, 2: 15.4, 4: 25.0, 8: 39.0}
# A GPU, which reads all weights for one id as for sixteen; and a processor to which two are as good as sixteen.
FLAT: Table = {1: 20.0, 16: 21.0}
STEP: Table = {1: 10.0, 2: 18.0, 16: 20.0}
TABLES = {"near": (NEAR, 256), "middle": (MIDDLE, 2048), "far": (FAR, 8192), "flat": (FLAT, 512), "step": (STEP, 512)}


def milliseconds(table: Table, ids: int) -> float:
    counts = sorted(table)
    low = max((count for count in counts[:-1] if count <= ids), default=counts[0])
    high = counts[counts.index(low) + 1]
    return table[low] + (table[high] - table[low]) / (high - low) * (ids - low)


@dataclass
class Run:
    gain: float
    drafted: int
    accepted: int


def answer(
    kind: str,
    acceptance: Callable[[int], float],
    *,
    tokens: int = 256,
    seed: int = 0,
    costly: float | None = None,
    pace: Pace | None = None,
) -> Run:
    """An answer of ``tokens`` tokens for which a drafter always has a guess, right with ``acceptance(token)``.

    ``costly`` is what one guessed id takes, in evaluations of one. One evaluation in fifty takes four times as long.
    """
    table, held = TABLES[kind]
    chance = random.Random(seed)
    pace = pace or Pace()
    pace.begin_answer()
    spent, written, drafted, accepted = 0.0, 1, 0, 0
    while written < tokens:
        most = tokens - written - 1
        count = pace.worth("drafter", most, held + written // 64, costly=costly is not None) if most > 0 else 0
        true = milliseconds(table, count + 1) / 1000
        disturbed = 4.0 if chance.random() < 0.02 else max(0.7, chance.gauss(1, 0.04))
        if count and costly is not None:
            guessing = costly * count * table[1] / 1000
            pace.guessed("drafter", count, guessing)
            spent += guessing
        pace.evaluated(count + 1, held, true * disturbed)
        spent += true
        right = 0
        while right < max(1, count):
            hit = chance.random() < acceptance(written + right)
            if count or costly is None:
                pace.observe("drafter", hit)
            if not hit:
                break
            right += 1
        drafted, accepted = drafted + count, accepted + min(right, count)
        written += 1 + min(right, count)
    return Run((written - 1) * table[1] / 1000 / spent, drafted, accepted)


def gains(kind: str, acceptance: float, *, costly: float | None = None) -> list[float]:
    return sorted(answer(kind, lambda _: acceptance, seed=seed, costly=costly).gain for seed in range(21))


@pytest.mark.parametrize("costly", [None, 0.25])
@pytest.mark.parametrize("kind", TABLES)
def test_guesses_that_are_never_right_cost_next_to_nothing(kind: str, costly: float | None) -> None:
    losses = gains(kind, 0.0, costly=costly)
    assert median(losses) > 0.97
    assert losses[1] > (0.97 if costly is None else 0.93)


@pytest.mark.parametrize(
    ("kind", "least"), [("near", 2.0), ("middle", 1.4), ("far", 1.1), ("flat", 3.0), ("step", 1.4)]
)
def test_guesses_that_are_mostly_right_are_much_quicker(kind: str, least: float) -> None:
    assert median(gains(kind, 0.8)) > least


def test_the_better_the_guesses_the_more_of_them() -> None:
    means = []
    for acceptance in (0.3, 0.6, 0.95):
        runs = [answer("near", lambda _, a=acceptance: a, seed=seed) for seed in range(11)]  # type: ignore[misc]
        means.append(median(run.drafted / max(1, run.accepted) for run in runs))
    assert means[0] > means[1] > means[2] >= 1.0
    assert median(gains("near", 0.95)) > median(gains("near", 0.6)) > median(gains("near", 0.3))


def test_where_evaluating_more_ids_costs_as_much_as_they_are_worth_few_are_guessed() -> None:
    runs = [answer("far", lambda _: 0.3, seed=seed) for seed in range(11)]
    assert median(run.drafted for run in runs) < 40
    assert median(run.gain for run in runs) > 0.97


def test_a_text_that_begins_to_quote_is_noticed() -> None:
    """Nothing is right for half of the answer, then almost everything."""
    runs = [answer("middle", lambda token: 0.95 if token > 128 else 0.02, seed=seed) for seed in range(21)]
    never = [answer("middle", lambda _: 0.02, seed=seed) for seed in range(21)]
    assert median(run.gain for run in runs) > 1.2
    assert median(run.accepted for run in runs) > 80 > median(run.accepted for run in never)


def test_what_one_answer_has_shown_speeds_up_the_next() -> None:
    pace = Pace()
    first, second = (answer("flat", lambda _: 0.95, tokens=40, pace=pace).gain for _ in range(2))
    assert second > first


def test_a_first_guess_is_short() -> None:
    pace = Pace()
    for _ in range(8):
        pace.evaluated(1, 300, 0.01)
    assert 1 <= pace.worth("new", MOST_GUESSED, 300, costly=False) <= 3


def test_nothing_is_guessed_before_it_is_known_what_one_id_takes() -> None:
    pace = Pace()
    assert pace.worth("new", MOST_GUESSED, 300, costly=False) == 0
    for _ in range(8):
        pace.evaluated(1, 300, 0.01)
    assert pace.worth("new", 0, 300, costly=False) == 0
    # At another size of context it is not known.
    assert pace.worth("new", MOST_GUESSED, 3000, costly=False) == 0


def test_a_costly_guess_has_to_be_worth_its_own_time() -> None:
    pace = Pace()
    for _ in range(8):
        pace.evaluated(1, 300, 0.01)
        pace.observe("quick", True)
        pace.observe("slow", True)
        pace.guessed("quick", 1, 0.001)
        pace.guessed("slow", 1, 0.05)
    assert pace.worth("quick", MOST_GUESSED, 300, costly=True) > 0
    assert pace.worth("slow", MOST_GUESSED, 300, costly=True) == 0


def test_costs_are_middle_values_of_what_was_measured_close_together() -> None:
    costs = EvaluationCosts()
    for seconds in (0.010, 0.011, 0.09, 0.010, 0.010):
        costs.record(1, seconds)
    for seconds in (0.020, 0.021, 0.30):
        costs.record(4, seconds)
    assert costs.single == 0.010
    expected = costs.expected()
    assert expected[1] == 1.0
    assert expected[4] == pytest.approx(2.1)
    assert expected[2] == pytest.approx(1 + 1.1 / 3)
    assert expected[7] == pytest.approx(3.2)
    # Nothing is known of more than four: at best they cost no more.
    assert costs.hoped_for()[MOST_GUESSED + 1] == pytest.approx(2.1)
    for _ in range(5):
        costs.record(4, 0.021)
    for _ in range(20):
        # Too far from the last single one to say anything.
        costs.record(4, 1.0)
    assert costs.expected()[4] == pytest.approx(2.1)
    assert costs.due_for_a_single


def test_several_ids_answer_for_what_the_next_single_one_takes_longer() -> None:
    costs = EvaluationCosts()
    for _ in range(8):
        costs.record(1, 0.010)
    for _ in range(6):
        costs.record(2, 0.012)
        costs.record(1, 0.013)
    assert costs.single == 0.010
    assert costs.expected()[2] == pytest.approx(1.5)
    # One after another there is no such next one.
    for _ in range(6):
        costs.record(4, 0.015)
        costs.record(4, 0.015)
        costs.record(1, 0.010)
    assert costs.expected()[4] == pytest.approx(1.5)
