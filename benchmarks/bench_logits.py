"""Do the two backends compute the same?

    python -m benchmarks.bench_logits

Toy checkpoints with random weights are written in both formats. For every RoPE plan and window the
largest difference between their logits is printed (their standard deviation is near 1), with, as a
control, what forgetting the plan's scaling would have made of it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import figure, medians
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, ChatAlpacaHF
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.gguf_backend import LlamaCppBackend
from tests.toy_family import RopeScaling, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model


@dataclass(frozen=True)
class Case:
    """A trained model and the window it is opened with; the prompt is ``tokens`` long."""

    name: str
    rope: RopeScaling | None
    trained: int
    window: int
    tokens: int


CASES = (
    Case("none_4096", None, 4096, 4096, 4095),
    Case("ntk_8192", None, 4096, 8192, 8191),
    Case("ntk_16384", None, 4096, 16384, 10000),
    Case("linear_16384", "linear-4", 16384, 16384, 10000),
    Case("linear_ntk_24576", "linear-4", 16384, 24576, 17000),
    Case("linear_ntk_32768", "linear-4", 16384, 32768, 17000),
    Case("yarn_65536", "yarn-16", 65536, 65536, 17000),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            compare_logits(case, Path(folder) / str(number))


def compare_logits(case: Case, folder: Path) -> None:
    """Logits after a quarter, a half and all of one prompt of random ids."""
    checkpoint = build_toy_family(
        folder, tokenizer_model=toy_tokenizer_model(), window=case.trained, rope=case.rope, layers=2, seed=3
    )
    ids = [1, *np.random.default_rng(5).integers(259, 1024, case.tokens - 1).tolist()]
    lengths = [case.tokens // 4, case.tokens // 2, case.tokens]
    with (
        ChatAlpacaGGUF(model_path=checkpoint.gguf, window=case.window) as gguf,
        ChatAlpacaHF(model_path=checkpoint.hf, window=case.window, device="cpu") as transformers,
    ):
        differences = [
            largest_difference(gguf.next_token_logits(ids[:length]), transformers.next_token_logits(ids[:length]))
            for length in lengths
        ]
        deviation = float(transformers.next_token_logits(ids).std())
        unscaled = RopePlan(case.window, 10000.0, 1.0, 1.0, case.trained, 1.0)
        forgotten = largest_difference(
            logits_under(checkpoint.gguf, unscaled, ids), transformers.next_token_logits(ids)
        )
    by_length = {f"after_{length}_tokens": value for length, value in zip(lengths, differences, strict=True)}
    medians(case.name, **by_length, standard_deviation=deviation, without_scaling=forgotten)
    figure(f"logit_difference_{case.name}", max(differences), "<=", 0.01)


def logits_under(path: Path, plan: RopePlan, ids: list[int]) -> Logits:
    """The logits that llama.cpp gives under another plan than the checkpoint's."""
    backend = LlamaCppBackend(path, plan, n_threads=os.cpu_count() or 1, n_gpu_layers=0, kv_type="f16")
    try:
        for start in range(0, len(ids), backend.batch):
            backend.evaluate(ids[start : start + backend.batch])
        return backend.logits().copy()
    finally:
        backend.close()


def largest_difference(one: Logits, other: Logits) -> float:
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    main()
