"""Do the two backends compute the same, and what does the chat model cost over bare llama.cpp?

    python -m benchmarks.bench_logits

Toy checkpoints with random weights are written in both formats. For every RoPE plan and window the
largest difference between their logits is printed (their standard deviation is near 1), with, as a
control, what forgetting the plan's scaling would have made of it. Then ``ChatAlpacaGGUF.stream`` is
timed against llama-cpp-python's own loop on the same ids.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from langchain_core.messages import HumanMessage

from benchmarks.figures import figure, medians
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, ChatAlpacaHF
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.gguf_backend import LlamaCppBackend
from tests.shared_data import SHARED_DATA
from tests.toy_family import RopeScaling, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ROUNDS = 11
REPLY_TOKENS = 96


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
        compare_speed(Path(folder) / "speed")


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


def compare_speed(folder: Path) -> None:
    """Tokens a second of the reply, prompt left out, on a model with the proportions of the 7B."""
    real = SHARED_DATA / "tokenizer" / "tokenizer.model"
    checkpoint = build_toy_family(
        folder,
        tokenizer_model=real.read_bytes() if real.exists() else toy_tokenizer_model(),
        layers=8,
        hidden=512,
        heads=8,
        feed_forward=1376,
        dtype="float16",
    )
    question = "员工手册里写了哪些关于年假的规定？" * 8
    with ChatAlpacaGGUF(model_path=checkpoint.gguf, max_tokens=REPLY_TOKENS, seed=1) as model:
        ids = list(model.render([HumanMessage(question)]).ids)
        bare = llama_cpp.Llama(
            str(checkpoint.gguf),
            n_ctx=model.window,
            n_threads=model.n_threads,
            n_threads_batch=model.n_threads,
            flash_attn=True,
            verbose=False,
            seed=1,
            **model.rope.for_llama_cpp(),
        )
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS + 1):
            measured = alternately(
                lambda: rate(stream_marks(model, question)), lambda: rate(bare_marks(bare, ids)), number
            )
            if number:  # the first round warms up
                rates[0].append(measured[0])
                rates[1].append(measured[1])
    ours, theirs = statistics.median(rates[0]), statistics.median(rates[1])
    medians("tokens a second", chat_alpaca_gguf=ours, llama_cpp_python=theirs)
    figure("gguf_stream_speed_ratio", ours / theirs, ">=", 0.97)


def alternately(one: Callable[[], float], other: Callable[[], float], number: int) -> tuple[float, float]:
    """Both, the other one first in every second round, so that a drift of the machine's speed falls on both."""
    if number % 2:
        second, first = other(), one()
    else:
        first, second = one(), other()
    return first, second


def stream_marks(model: ChatAlpacaGGUF, question: str) -> Iterator[int]:
    """The number of reply tokens so far, whenever some came."""
    tokens = 0
    for chunk in model.stream(question):
        tokens += 1
        if chunk.usage_metadata:
            tokens = chunk.usage_metadata["output_tokens"]
        yield tokens


def bare_marks(llama: llama_cpp.Llama, ids: list[int]) -> Iterator[int]:
    stream = llama.generate(ids, temp=0.2, top_k=40, top_p=0.9, min_p=0.0, repeat_penalty=1.1)
    for tokens, index in enumerate(stream, start=1):
        yield tokens
        if tokens == REPLY_TOKENS or index == llama.token_eos():
            return


def rate(marks: Iterator[int]) -> float:
    """Tokens a second from the first token on."""
    first = next(marks)
    start = time.perf_counter()
    last = first
    for tokens in marks:
        last = tokens
    return (last - first) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
