from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from chinese_alpaca_rag.errors import ModelError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import FAMILY_SAMPLING, Sampling
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.sampling import Sampler, _greatest, check_sampling, penalised


def sampling(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, repetition_penalty: float = 1.0) -> Sampling:
    return Sampling(temperature, top_k, top_p, repetition_penalty, max_tokens=8)


def random_logits(size: int, seed: int = 0) -> Logits:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32) * 2


@given(
    st.floats(0.1, 3.0),
    st.integers(0, 40),
    st.floats(0.05, 1.0),
    st.floats(0.8, 2.0),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_what_can_be_drawn_is_what_transformers_would_draw_from(
    temperature: float, top_k: int, top_p: float, penalty: float, seed: int
) -> None:
    logits = random_logits(30, seed)
    sampler = Sampler(sampling(temperature, top_k, top_p, penalty), seed=seed)
    said = [sampler.choose(logits) for _ in range(3)]

    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)])
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    processors.append(TopPLogitsWarper(top_p))
    scores = processors(torch.tensor([said]), torch.tensor(logits)[None])[0]
    possible = set(torch.isfinite(scores).nonzero().flatten().tolist())

    best = sampler._best_ids(penalised(logits, sampler._recent, sampler._sampling.repetition_penalty))
    drawn = {
        sampler._draw(penalised(logits, sampler._recent, sampler._sampling.repetition_penalty)) for _ in range(200)
    }
    assert drawn <= possible
    if top_k:
        assert len(best) == min(top_k, 30)
    # The edge of top-p may fall between two floating-point sums: one id more or less is all it can be.
    probabilities = scores.softmax(-1)
    likely = {index for index in possible if probabilities[index] > 0.1}
    assert likely <= drawn


def test_frequencies_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    sampler = Sampler(sampling(), seed=1)
    counts = Counter(sampler.choose(logits) for _ in range(20000))
    assert [counts[index] / 20000 for index in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    for top_p, expected in ((0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        sampler = Sampler(sampling(top_p=top_p), seed=2)
        assert {sampler.choose(logits) for _ in range(500)} == expected


def test_temperature_0_takes_the_best_and_the_first_among_equals() -> None:
    sampler = Sampler(sampling(temperature=0), seed=None)
    assert sampler.choose(np.array([1, 3, 2, 3], dtype=np.float32)) == 1


def test_top_k_takes_exactly_k_among_equals() -> None:
    sampler = Sampler(sampling(top_k=2), seed=3)
    assert {sampler.choose(np.zeros(10, dtype=np.float32)) for _ in range(100)} == {0, 1}


def test_a_tiny_temperature_overflows_nothing() -> None:
    sampler = Sampler(sampling(temperature=1e-8), seed=3)
    assert sampler.choose(np.array([-500, 1000, 999], dtype=np.float32)) == 1


def test_the_penalty_looks_back_64_ids_and_at_each_once() -> None:
    logits = np.array([2.0, 1.9, -1.0], dtype=np.float32)
    sampler = Sampler(sampling(temperature=0, repetition_penalty=1.5), seed=None)
    assert [sampler.choose(logits) for _ in range(3)] == [0, 1, 0]
    assert penalised(logits, sampler._recent, sampler._sampling.repetition_penalty) == pytest.approx(
        np.array([2.0 / 1.5, 1.9 / 1.5, -1.0])
    )
    for _ in range(64):
        sampler.choose(np.array([0.0, 0.0, 9.0], dtype=np.float32))
    assert penalised(logits, sampler._recent, sampler._sampling.repetition_penalty) == pytest.approx(
        np.array([2.0, 1.9, -1.5])
    )
    assert logits.tolist() == pytest.approx([2.0, 1.9, -1.0])


def test_the_same_seed_draws_the_same() -> None:
    logits = random_logits(1000)
    first, second, other = (Sampler(FAMILY_SAMPLING, seed=seed) for seed in (5, 5, 6))
    drawn = [[one.choose(logits) for _ in range(30)] for one in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_are_none_are_an_error_and_not_an_answer(bad: float, temperature: float) -> None:
    logits = random_logits(10)
    logits[4] = bad
    with pytest.raises(ModelError):
        Sampler(sampling(temperature=temperature), seed=1).choose(logits)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (-0.1, float("nan"), float("inf"), "hot", None, True)),
        ("top_k", (-1, 0.5, "all")),
        ("top_p", (0, -0.5, 1.01)),
        ("repetition_penalty", (0, -1)),
        ("max_tokens", (0, -5, 1.5)),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(WrongUsageError, match=name):
            check_sampling(Sampling(**{**vars(FAMILY_SAMPLING), name: value}), seed=None)


def test_settings_at_the_edge_are_taken() -> None:
    check_sampling(Sampling(0, 0, 1, 0.1, 1), seed=0)
    check_sampling(FAMILY_SAMPLING, seed=None)


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 40_000),
    k=st.integers(1, 60),
    distinct=st.sampled_from([2, 7, 100_000]),
    impossible=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_the_greatest_are_those_of_a_sort(seed: int, size: int, k: int, distinct: int, impossible: float) -> None:
    """Among many equals, and where most are impossible, too."""
    random = np.random.default_rng(seed)
    scores = (random.integers(0, distinct, size) / distinct).astype(np.float32)
    scores[random.random(size) < impossible] = -np.inf
    possible = scores[scores > -np.inf]
    threshold = np.sort(possible)[-k] if len(possible) >= k else -np.inf
    expected = np.flatnonzero((scores >= threshold) & (scores > -np.inf))
    assert _greatest(scores, k).tolist() == expected.tolist()
