from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard, find_model
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope

PLAIN = find_model("chinese-alpaca-2-7b")
LINEAR = find_model("chinese-alpaca-2-7b-16k")
YARN = find_model("chinese-alpaca-2-7b-64k")
FIRST = find_model("chinese-alpaca-plus-7b")
WINDOWS = [(PLAIN, n) for n in (1, 2048, 4096, 4097, 6000, 8192, 12288, 18432)] + [
    (LINEAR, n) for n in (4096, 16384, 16385, 20000, 24576, 32768)
]
# Every window from 4K to 32K in steps of 1K, on each model that NTK carries there.
WINDOWS += [(card, n) for card in (FIRST, PLAIN, LINEAR) for n in range(4096, 32769, 1024) if n <= card.reach]


def family_angles(
    length: int, max_position: int, scaling: float, dim: int = 128, base: float = 10000.0
) -> npt.NDArray[np.float64]:
    """The last position's angles as the family's own program has them: NTK's alpha follows the length."""
    if length > max_position:
        alpha = length / (max_position / 2) - 1
        base = base * alpha ** (dim / (dim - 2))
    inverse = 1.0 / base ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    angles: npt.NDArray[np.float64] = (length - 1) / scaling * inverse
    return angles


def yarn_inverse(plan: RopePlan, dim: int) -> npt.NDArray[np.float64]:
    """Inverse frequencies by the YaRN paper's own formulas (section 3.2, the ramp over wavelengths)."""
    inverse = plan.theta ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)

    def dimension(rotations: float) -> float:
        return dim * math.log(plan.original_window / (rotations * 2 * math.pi)) / (2 * math.log(plan.theta))

    low, high = math.floor(dimension(32.0)), math.ceil(dimension(1.0))
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0.0, 1.0)
    mixed: npt.NDArray[np.float64] = inverse / plan.yarn_factor * ramp + inverse * (1.0 - ramp)
    return mixed


@pytest.mark.parametrize(("card", "window"), WINDOWS, ids=lambda value: getattr(value, "name", str(value)))
def test_angles_are_the_family_programs(card: ModelCard, window: int) -> None:
    plan = plan_rope(card, window)
    inverse = plan.theta ** -(np.arange(0, card.head_dim, 2) / card.head_dim) / plan.linear_factor
    expected = family_angles(window, card.window, card.linear_factor)
    np.testing.assert_allclose((window - 1) * inverse, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("card", "window"), [(card, n) for card, n in WINDOWS if n > card.window], ids=lambda value: str(value)[:40]
)
def test_thetas_are_the_formulas_in_exact_arithmetic(card: ModelCard, window: int) -> None:
    # alpha is a quotient of whole numbers; only the power is rounded, once, to 50 digits.
    with localcontext() as context:
        context.prec = 50
        alpha = Decimal(2 * window) / card.window - 1
        theta = Decimal(str(card.theta)) * alpha ** (Decimal(card.head_dim) / (card.head_dim - 2))
    assert plan_rope(card, window).theta == pytest.approx(float(theta), rel=1e-6)
    assert plan_rope(card, window).alpha == pytest.approx(float(alpha), rel=1e-12)


def test_known_thetas() -> None:
    assert plan_rope(PLAIN, 8192).alpha == 3.0
    assert plan_rope(PLAIN, 8192).theta == pytest.approx(10000 * 3 ** (128 / 126), rel=1e-12)
    assert plan_rope(PLAIN, 18432).alpha == 8.0
    assert plan_rope(LINEAR, 24576).alpha == 2.0
    assert plan_rope(LINEAR, 24576).linear_factor == 4.0


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_the_trained_window_needs_no_stretch(card: ModelCard) -> None:
    for window in (None, card.window, card.window // 2, 1):
        plan = plan_rope(card, window)
        assert plan.window == (window or card.window)
        assert (plan.theta, plan.alpha) == (card.theta, 1.0)
        assert (plan.linear_factor, plan.yarn_factor) == (card.linear_factor, card.yarn_factor)


def claimed_and_beyond(card: ModelCard) -> list[int]:
    """The trained window, its half, its doubles up to the reach, the reach, and twice that."""
    doubles = [card.window * 2**power for power in range(1, 6) if card.window * 2**power < card.reach]
    return [card.window // 2, card.window, *doubles, card.reach, 2 * card.reach]


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_every_model_has_a_plan_for_each_window_it_claims(card: ModelCard) -> None:
    *claimed, beyond = claimed_and_beyond(card)
    for window in claimed:
        plan = plan_rope(card, window)
        assert (plan.window, plan.original_window) == (window, card.original_window)
        assert (plan.linear_factor, plan.yarn_factor) == (card.linear_factor, card.yarn_factor)
        assert plan.alpha == max(1.0, window / (card.window / 2) - 1 if window > card.window else 1.0)
        assert plan.theta >= card.theta
        # Sayable to every backend, in finite numbers.
        assert plan.for_transformers()["rope_theta"] == plan.for_llama_cpp()["rope_freq_base"] == plan.theta
        assert plan.for_vllm()["rope_parameters"] == plan.for_transformers()
    assert all(card.reach >= window for window in claimed)
    with pytest.raises(WindowUnreachableError) as caught:
        plan_rope(card, beyond)
    reaching = [other for other in CATALOGUE if other.kind == card.kind and other.reach >= beyond]
    assert f"--window {card.reach}" in caught.value.hint.en
    if not reaching:
        assert beyond > 65536
        assert "no model of the family" in caught.value.hint.en
    else:
        named = [other for other in reaching if other.name in caught.value.hint.en]
        assert named
        for other in named:
            assert plan_rope(other, beyond).window == beyond


@given(st.integers(4097, 18432))
def test_a_longer_window_never_lowers_theta(window: int) -> None:
    assert plan_rope(PLAIN, window).theta > plan_rope(PLAIN, window - 1).theta >= PLAIN.theta


def test_fixed_alpha() -> None:
    plan = plan_rope(PLAIN, 4096, alpha=4.0)
    assert plan.alpha == 4.0
    assert plan.theta == pytest.approx(10000 * 4 ** (128 / 126))
    assert plan_rope(PLAIN, 2048, alpha=1).theta == PLAIN.theta
    assert plan_rope(YARN, alpha=1.0).alpha == 1.0


@pytest.mark.parametrize("alpha", [0.0, 0.99, -1.0, math.inf, math.nan, "fast"])
def test_alphas_that_cannot_be_meant(alpha: float) -> None:
    with pytest.raises(WrongUsageError, match="alpha"):
        plan_rope(PLAIN, 8192, alpha=alpha)


def test_yarn_takes_no_alpha() -> None:
    with pytest.raises(WrongUsageError, match="YaRN"):
        plan_rope(YARN, alpha=2.0)


@pytest.mark.parametrize("window", [0, -1, True, 4096.0, "4096"])
def test_windows_that_are_none(window: int) -> None:
    with pytest.raises(WindowUnreachableError, match="--window 4096"):
        plan_rope(PLAIN, window)


@pytest.mark.parametrize(
    ("card", "window", "limit", "named"),
    [
        (PLAIN, 18433, 18432, "chinese-alpaca-2-7b-64k"),
        (LINEAR, 32769, 32768, "chinese-alpaca-2-7b-64k"),
        (find_model("chinese-llama-2-7b"), 30000, 18432, "chinese-llama-2-7b-64k"),
        (find_model("llama-3-chinese-8b-instruct"), 16384, 8192, "chinese-alpaca-2-7b-16k"),
        (find_model("ziya2-13b-chat"), 4097, 4096, "chinese-alpaca-2-7b"),
    ],
)
def test_a_window_beyond_reach_names_the_models_that_reach_it(
    card: ModelCard, window: int, limit: int, named: str
) -> None:
    with pytest.raises(WindowUnreachableError) as caught:
        plan_rope(card, window)
    for text in (caught.value.text("zh"), caught.value.text("en")):
        assert str(window) in text
        assert f"--window {limit}" in text
        assert named in text
    assert caught.value.exit_code == 2


def test_a_window_beyond_every_model() -> None:
    with pytest.raises(WindowUnreachableError, match="no model of the family"):
        plan_rope(YARN, 65537)


def test_without_ntk_the_trained_window_is_the_limit() -> None:
    assert plan_rope(PLAIN, 4096, alpha=None).alpha == 1.0
    with pytest.raises(WindowUnreachableError, match="4096"):
        plan_rope(PLAIN, 4097, alpha=None)


def test_words_for_transformers() -> None:
    assert plan_rope(PLAIN).for_transformers() == {"rope_type": "default", "rope_theta": 10000.0}
    assert plan_rope(LINEAR).for_transformers() == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    assert plan_rope(YARN).for_transformers() == {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 16.0,
        "original_max_position_embeddings": 4096,
        "attention_factor": pytest.approx(1.2772588722239782),
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    }


@pytest.mark.parametrize("card", [PLAIN, LINEAR, YARN], ids=lambda card: card.name)
def test_nothing_is_left_to_the_gguf(card: ModelCard) -> None:
    words = plan_rope(card).for_llama_cpp()
    assert set(words) == {
        "rope_scaling_type",
        "rope_freq_base",
        "rope_freq_scale",
        "yarn_ext_factor",
        "yarn_attn_factor",
        "yarn_beta_fast",
        "yarn_beta_slow",
        "yarn_orig_ctx",
    }
    assert words["rope_scaling_type"] == {PLAIN.name: 0, LINEAR.name: 1, YARN.name: 2}[card.name]
    assert words["rope_freq_scale"] == {PLAIN.name: 1.0, LINEAR.name: 0.25, YARN.name: 1 / 16}[card.name]
    assert words["yarn_ext_factor"] == (1.0 if card is YARN else 0.0)
    assert words["rope_freq_base"] == 10000.0
    assert words["yarn_orig_ctx"] == 4096


def test_words_for_vllm() -> None:
    plan = plan_rope(LINEAR, 24576)
    assert plan.for_vllm() == {"rope_parameters": plan.for_transformers(), "max_position_embeddings": 6144}
    assert plan_rope(YARN).for_vllm()["max_position_embeddings"] == 65536
    assert plan_rope(PLAIN, 8192).for_vllm()["max_position_embeddings"] == 8192


@pytest.mark.parametrize(
    ("card", "window"),
    [(PLAIN, 4096), (PLAIN, 12288), (LINEAR, 16384), (LINEAR, 32768), (YARN, 65536)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_transformers_builds_the_planned_frequencies(card: ModelCard, window: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    plan = plan_rope(card, window)
    config = transformers.LlamaConfig(
        hidden_size=256, num_attention_heads=2, max_position_embeddings=window, rope_parameters=plan.for_transformers()
    )
    rotary = LlamaRotaryEmbedding(config)
    expected = (
        yarn_inverse(plan, 128)
        if plan.kind == "yarn"
        else plan.theta ** -(np.arange(0, 128, 2, dtype=np.float64) / 128) / plan.linear_factor
    )
    assert rotary.inv_freq.dtype == torch.float32
    np.testing.assert_allclose(rotary.inv_freq.numpy(), expected, rtol=1e-6)
    assert rotary.attention_scaling == pytest.approx(plan.attention_factor)


def test_a_plan_is_a_key() -> None:
    assert plan_rope(PLAIN, 8192) == plan_rope(replace(PLAIN, name="other"), 8192)
    assert len({plan_rope(PLAIN, 8192), plan_rope(PLAIN, 8192), plan_rope(PLAIN, 8191)}) == 2
