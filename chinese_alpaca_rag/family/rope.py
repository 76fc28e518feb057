"""One RoPE plan for every backend: a model and a wanted window become (theta, linear factor, YaRN).

The family's adaptive NTK, for a window of n tokens beyond the trained M:
``alpha = n / (M / 2) - 1`` and ``theta' = theta * alpha ** (d / (d - 2))``, d the head dimension
(Chinese-LLaMA-Alpaca-2, ``attn_and_long_ctx_patches.py``). There alpha follows the length of the
sequence; here it is fixed for the window, because keys cached under one theta are wrong under another.
A model with position interpolation keeps its linear factor; YaRN models are not stretched further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard
from chinese_alpaca_rag.language import Words

# llama.h, enum llama_rope_scaling_type.
_LLAMA_CPP_NONE: Final = 0
_LLAMA_CPP_LINEAR: Final = 1
_LLAMA_CPP_YARN: Final = 2

# The ramp between interpolated and untouched dimensions, in rotations over the original window (YaRN paper, 3.2).
_YARN_BETA_FAST: Final = 32.0
_YARN_BETA_SLOW: Final = 1.0


@dataclass(frozen=True)
class RopePlan:
    """Rotary embedding for one context: ``window`` and ``original_window`` in tokens, factors 1.0 where unused.

    ``theta`` already contains the NTK stretch; ``alpha`` says how it came about. Two contexts may
    share cached keys only if their plans are equal.
    """

    window: int
    theta: float
    linear_factor: float
    yarn_factor: float
    original_window: int
    alpha: float

    @property
    def kind(self) -> Literal["default", "linear", "yarn"]:
        """The name transformers has for it."""
        if self.yarn_factor != 1.0:
            return "yarn"
        return "linear" if self.linear_factor != 1.0 else "default"

    @property
    def attention_factor(self) -> float:
        """What YaRN multiplies queries and keys with: ``0.1 ln(factor) + 1``; 1.0 without YaRN."""
        return 0.1 * math.log(self.yarn_factor) + 1.0 if self.yarn_factor > 1.0 else 1.0

    def for_transformers(self) -> dict[str, Any]:
        """The full ``rope_parameters`` of a transformers 5 configuration."""
        parameters: dict[str, Any] = {"rope_type": self.kind, "rope_theta": self.theta}
        if self.kind == "linear":
            parameters["factor"] = self.linear_factor
        elif self.kind == "yarn":
            parameters |= {
                "factor": self.yarn_factor,
                "original_max_position_embeddings": self.original_window,
                "attention_factor": self.attention_factor,
                "beta_fast": _YARN_BETA_FAST,
                "beta_slow": _YARN_BETA_SLOW,
            }
        return parameters

    def for_llama_cpp(self) -> dict[str, Any]:
        """Keyword arguments of ``llama_cpp.Llama``, each said outright so that nothing is taken from the file.

        A base or scale of 0, a scaling type of -1 and a negative ``yarn_ext_factor`` all mean "from
        the GGUF": none is used. ``yarn_ext_factor`` 0.0 is a value (YaRN off). ``yarn_attn_factor``
        stays 1.0: llama.cpp multiplies the length's own factor in by itself.
        """
        yarn = self.kind == "yarn"
        scaling = {"default": _LLAMA_CPP_NONE, "linear": _LLAMA_CPP_LINEAR, "yarn": _LLAMA_CPP_YARN}[self.kind]
        return {
            "rope_scaling_type": scaling,
            "rope_freq_base": self.theta,
            "rope_freq_scale": 1.0 / (self.yarn_factor if yarn else self.linear_factor),
            "yarn_ext_factor": 1.0 if yarn else 0.0,
            "yarn_attn_factor": 1.0,
            "yarn_beta_fast": _YARN_BETA_FAST,
            "yarn_beta_slow": _YARN_BETA_SLOW,
            "yarn_orig_ctx": self.original_window,
        }

    def for_vllm(self) -> dict[str, Any]:
        """The content of vLLM's ``hf_overrides``, as versions from 0.12 on read it.

        vLLM derives the longest sequence that it allows (``_get_and_verify_max_len``): with YaRN the
        original window times the factor, whatever ``max_position_embeddings`` says; otherwise
        ``max_position_embeddings`` times the linear factor, so that there it must be the window before
        scaling. The window itself is ``--max-model-len``. ``attention_factor`` it computes by itself.
        """
        if self.kind == "yarn":
            positions = math.ceil(self.original_window * self.yarn_factor)
        else:
            positions = math.ceil(self.window / self.linear_factor)
        return {"rope_parameters": self.for_transformers(), "max_position_embeddings": positions}


def plan_rope(
    card: ModelCard, window: int | None = None, *, alpha: float | Literal["auto"] | None = "auto"
) -> RopePlan:
    """The plan for ``card`` opened with ``window`` tokens (``None``: the trained window).

    ``alpha`` "auto" follows the family's formula beyond the trained window; a number (at least 1)
    fixes it whatever the window; ``None`` forbids NTK. Raises ``WindowUnreachableError`` for a window
    that is none or that the model does not reach, ``WrongUsageError`` for an alpha that cannot be meant.
    """
    wanted = card.window if window is None else window
    _check_alpha(card, alpha)
    _check_window(card, wanted, limit=card.window if alpha is None else card.reach)
    if alpha is None:
        fixed = 1.0
    elif alpha == "auto":
        fixed = wanted / (card.window / 2) - 1 if wanted > card.window else 1.0
    else:
        fixed = float(alpha)
    return RopePlan(
        window=wanted,
        theta=card.theta * fixed ** (card.head_dim / (card.head_dim - 2)),
        linear_factor=card.linear_factor,
        yarn_factor=card.yarn_factor,
        original_window=card.original_window,
        alpha=fixed,
    )


def _check_alpha(card: ModelCard, alpha: float | Literal["auto"] | None) -> None:
    if alpha is None or alpha == "auto":
        return
    if isinstance(alpha, str) or not math.isfinite(alpha) or alpha < 1.0:
        raise WrongUsageError(
            Words(
                zh=f"NTK 的 alpha 必须是不小于 1 的数，而不是 {alpha}。",
                en=f"NTK's alpha is a number of at least 1, not {alpha}.",
            ),
            hint=Words(
                zh="不指定 alpha（即 auto），会按窗口自动计算。", en="Leave it out (auto): it then follows the window."
            ),
        )
    if alpha != 1.0 and card.yarn_factor != 1.0:
        raise WrongUsageError(
            Words(
                zh=f"{card.name} 用 YaRN 训练，不能再叠加 NTK（alpha {alpha}）。",
                en=f"{card.name} was trained with YaRN; NTK (alpha {alpha}) cannot be laid over it.",
            ),
            hint=Words(zh="不要指定 alpha。", en="Leave alpha out."),
        )


def _check_window(card: ModelCard, window: object, *, limit: int) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise WindowUnreachableError(
            Words(
                zh=f"窗口必须是正整数（以词元计），而不是 {window}。",
                en=f"A window is a positive whole number of tokens, not {window}.",
            ),
            hint=Words(
                zh=f"{card.name} 的训练窗口：--window {card.window}",
                en=f"The window {card.name} was trained with: --window {card.window}",
            ),
        )
    if window <= limit:
        return
    reaching = [
        other for other in CATALOGUE if other.reach >= window and other.kind == card.kind and other.name != card.name
    ]
    # The second generation first, and there a model trained for the window before one that NTK carries to it.
    reaching.sort(key=lambda other: (other.generation != 2, other.window < window, other.reach, other.layers))
    names = ", ".join(other.name for other in reaching[:3])
    raise WindowUnreachableError(
        Words(
            zh=f"{card.name} 最多能到 {limit} 个词元，达不到 {window}。",
            en=f"{card.name} reaches {limit} tokens at most, not {window}.",
        ),
        hint=Words(
            zh=f"用 --window {limit}"
            + (f"，或换用能达到的模型：{names}" if names else "；家族中没有模型能达到该窗口。"),
            en=f"Use --window {limit}"
            + (f", or a model that reaches it: {names}" if names else "; no model of the family reaches that window."),
        ),
    )
