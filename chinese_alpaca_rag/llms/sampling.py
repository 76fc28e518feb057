"""Choosing the next id from logits: one sampler for every backend, so that a seed means the same on each.

The order is that of transformers, for which the family's figures were chosen: repetition penalty,
temperature, top-k, top-p. The penalty looks back over the last 64 ids of the answer and never over the
prompt: an answer from documents has to be free to repeat their words.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from chinese_alpaca_rag.errors import ModelError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits

PENALISED_IDS: Final = 64
_BLOCK: Final = 256

Ids = np.ndarray[tuple[int], np.dtype[np.int64]]


class Sampler:
    """The sampler of one answer; ``seed`` ``None`` draws a fresh one."""

    def __init__(self, sampling: Sampling, seed: int | None) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(seed)
        self._recent: deque[int] = deque(maxlen=PENALISED_IDS)

    def choose(self, logits: Logits) -> int:
        """The next id, which from then on counts as part of the answer. Raises ``ModelError`` for NaN."""
        # The maximum of anything and NaN is NaN, so that this one number speaks for all.
        if not math.isfinite(logits.max()):
            raise not_a_number()
        scores = penalised(logits, self._recent, self._sampling.repetition_penalty)
        chosen = int(scores.argmax()) if self._sampling.temperature == 0 else self._draw(scores)
        self._recent.append(chosen)
        return chosen

    def _draw(self, scores: Logits) -> int:
        ids = self._best_ids(scores)
        best = scores[ids].astype(np.float64)
        # A temperature near 0 makes the distances overflow to what they mean: no chance at all.
        with np.errstate(over="ignore"):
            weights = np.exp((best - best[0]) / self._sampling.temperature)
        cumulative = np.cumsum(weights / weights.sum())
        # The smallest set whose probability reaches top_p; the first id always stays.
        kept = 1 + int(np.searchsorted(cumulative[:-1], self._sampling.top_p))
        drawn = np.searchsorted(cumulative[:kept], self._random.random() * cumulative[kept - 1], side="right")
        return int(ids[min(int(drawn), kept - 1)])

    def _best_ids(self, scores: Logits) -> Ids:
        """The ``top_k`` ids (0: all) from the highest score down, the lower id first among equals.

        Fewer where a constraint leaves fewer.
        """
        top_k = min(self._sampling.top_k, len(scores))
        ids = _greatest(scores, top_k) if top_k > 0 else np.flatnonzero(scores > -np.inf)
        ids = ids[np.argsort(-scores[ids], kind="stable")]
        return ids[:top_k] if top_k > 0 else ids


def not_a_number() -> ModelError:
    """The error for logits that are no numbers."""
    return ModelError(
        Words(zh="模型算出的不是数（NaN 或无穷大）。", en="The model computed something that is no number."),
        hint=Words(
            zh="权重可能已损坏，请重新下载；transformers 模型可改用 dtype=float32。",
            en="Its weights may be damaged: fetch them again. With transformers, try dtype='float32'.",
        ),
    )


def _greatest(scores: Logits, k: int) -> Ids:
    """The ids in order of all scores that reach the ``k``-th greatest; those above minus infinity where fewer are.

    A tenth of the work of a partition of all scores: the greatest scores of ``k`` blocks reach the ``k``-th
    greatest of such maxima, so that what does not reach it is not among the ``k`` greatest.
    """
    blocks = len(scores) // _BLOCK
    bound = np.float32(-np.inf)
    if blocks > k:
        maxima = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        bound = np.partition(maxima, -k)[-k]
    # Selecting among many equals is slow: what a constraint rules out is left out first.
    ids = np.flatnonzero(scores >= bound if bound > -np.inf else scores > -np.inf)
    if len(ids) <= k:
        return ids
    candidates = scores[ids]
    greatest: Ids = ids[candidates >= np.partition(candidates, -k)[-k]]
    return greatest


def penalised(logits: Logits, recent: Sequence[int], penalty: float) -> Logits:
    """Scores above 0 of the last ``PENALISED_IDS`` of ``recent`` divided by ``penalty``, those below multiplied.

    From CTRL (Keskar et al., 2019, section 4.1).
    """
    scores = logits.copy()
    if recent and penalty != 1.0:
        ids = np.fromiter(set(list(recent)[-PENALISED_IDS:]), dtype=np.int64)
        # Finite whatever the penalty: a float32 holds no more.
        penalty = min(max(penalty, 1e-30), 1e30)
        scores[ids] = np.where(scores[ids] > 0, scores[ids] / np.float32(penalty), scores[ids] * np.float32(penalty))
    return scores


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """The natural logarithms of the probabilities that ``logits`` stand for."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return shifted - math.log(float(np.exp(shifted).sum()))


def guided(logits: Logits, unguided: Logits, scale: float) -> Logits:
    """Classifier-free guidance (Sanchez et al., 2023, equation 7): log-probabilities led away from ``unguided``.

    ``scale`` 1 is no guidance. The same as transformers' ``UnbatchedClassifierFreeGuidanceLogitsProcessor``.
    """
    away = log_softmax(unguided)
    return (away + scale * (log_softmax(logits) - away)).astype(np.float32)


# For each setting: the least and the greatest value, and whether the least itself is allowed.
_RANGES: Final = {
    "temperature": (0.0, math.inf, True),
    "top_k": (0, math.inf, True),
    "top_p": (0.0, 1.0, False),
    "repetition_penalty": (0.0, math.inf, False),
    "max_tokens": (1, math.inf, True),
}


def check_sampling(sampling: Sampling, seed: int | None) -> None:
    """Raise ``WrongUsageError`` for a setting that is no number of its range; 0 means "all" for ``top_k``."""
    for name, (least, greatest, inclusive) in _RANGES.items():
        value = getattr(sampling, name)
        kinds = (int,) if isinstance(least, int) else (int, float)
        numeric = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not numeric or value > greatest or value < least or (value == least and not inclusive):
            raise _out_of_range(name, value, least, greatest, inclusive, whole=kinds == (int,))
    if seed is not None:
        check_whole_number("seed", seed)


def check_whole_number(name: str, value: object, least: int = 0) -> None:
    """Raise ``WrongUsageError`` unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _out_of_range(name, value, least, math.inf, inclusive=True, whole=True)


def check_switch(name: str, value: object) -> None:
    """Raise ``WrongUsageError`` unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise WrongUsageError(
            Words(zh=f"{name} 不能是 {value!r}。", en=f"{name} cannot be {value!r}."),
            hint=Words(zh="请用 True 或 False。", en="Use True or False."),
        )


def check_at_least_one(name: str, value: object) -> None:
    """Raise ``WrongUsageError`` unless ``value`` is a finite number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 1:
        raise _out_of_range(name, value, 1, math.inf, inclusive=True, whole=False)


def _out_of_range(
    name: str, value: object, least: float, greatest: float, inclusive: bool, *, whole: bool
) -> WrongUsageError:
    bound = f"{'≥' if inclusive else '>'} {least}" + (f", ≤ {greatest}" if math.isfinite(greatest) else "")
    return WrongUsageError(
        Words(zh=f"{name} 不能是 {value!r}。", en=f"{name} cannot be {value!r}."),
        hint=Words(
            zh=f"请给一个{'整数' if whole else '数'}（{bound}），或不指定。",
            en=f"Give a {'whole ' if whole else ''}number ({bound}), or leave it out.",
        ),
    )
