"""How soon does a second question over the same documents start, and what does that rest on?

    python -m benchmarks.bench_prefix

On a stand-in with the proportions of the 7B at 16K and 64K (8 layers of 512 at 2,048 and 8,192 tokens): the
time to the first token of a second question in the same process, after the process was killed, and on the pattern
A-B-A against llama-cpp-python's own caches; how exact it is; how often prompts begin alike; and what speculative
decoding gains. Every time is set against one of the same run, taken in turn.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import llama_cpp

from benchmarks import prefix_exactness, prefix_packing, prefix_speculation
from benchmarks.bench_llms import stand_in
from benchmarks.figures import figure, medians
from benchmarks.prefix_prompts import FIRST_QUESTION, SECOND_QUESTION, documents, prompt_over
from chinese_alpaca_rag.llms import ChatAlpacaGGUF

LENGTHS = (2048, 8192)
WINDOW = 10240
ROUNDS = {2048: 5, 8192: 3}
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        gguf = stand_in(Path(folder)).gguf
        for tokens in LENGTHS:
            same_process(gguf, tokens, Path(folder) / f"same-{tokens}")
            after_a_kill(gguf, tokens, Path(folder) / f"killed-{tokens}")
            against_llama_cpp_python(gguf, tokens, Path(folder) / f"aba-{tokens}")
        prefix_exactness.measure()
        prefix_packing.measure()
        prefix_speculation.measure(gguf)


def same_process(gguf: Path, tokens: int, store: Path) -> None:
    """Every round other documents: the first question is cold, the second finds them read."""
    cold, unkept, second = [], [], []
    with (
        ChatAlpacaGGUF(model_path=gguf, window=WINDOW, prefix_store=store, max_tokens=1) as model,
        ChatAlpacaGGUF(model_path=gguf, window=WINDOW, max_tokens=1) as keeping_nothing,
    ):
        for number in range(ROUNDS[tokens] + 1):
            sources = documents(model, tokens, 2 * number)
            cold.append(seconds(model, prompt_over(sources, FIRST_QUESTION)))
            model.finish_saving()
            second.append(seconds(model, prompt_over(sources, SECOND_QUESTION)))
            others = prompt_over(documents(model, tokens, 2 * number + 1), FIRST_QUESTION)
            unkept.append(seconds(keeping_nothing, others))
    medians(
        f"seconds to the first token over {tokens} tokens",
        cold=statistics.median(cold[1:]),
        cold_without_a_store=statistics.median(unkept[1:]),
        second_question=statistics.median(second[1:]),
    )
    saving = statistics.median(one / other for one, other in zip(cold[1:], unkept[1:], strict=True))
    figure(f"cold_with_store_ratio_{tokens}", saving, "<=", 1.05)
    share = statistics.median(two / one for two, one in zip(second[1:], cold[1:], strict=True))
    figure(f"second_question_share_{tokens}", share, "<=", 0.03)


def after_a_kill(gguf: Path, tokens: int, store: Path) -> None:
    """One process reads the documents and is killed; the next answers another question over them."""
    told: dict[str, Any] = {"model": str(gguf), "window": WINDOW, "store": str(store), "tokens": tokens}
    shares: dict[bool, list[float]] = {False: [], True: []}
    for number in range(ROUNDS[tokens]):
        seed = 100 + number
        reader = start(told | {"work": "read", "seed": seed})
        assert reader.stdout is not None
        problem = json.loads(reader.stdout.readline())["problem"]
        assert problem is None, problem
        reader.kill()
        reader.wait()
        for cold_page_cache in (False, True) if number % 2 else (True, False):
            order = ["restored", "cold"] if number % 2 else ["cold", "restored"]
            asker = start(
                told
                | {"work": "ask", "seed": seed, "order": order, "cold_page_cache": cold_page_cache}
                | {"store": str(copied(store))}
            )
            assert asker.stdout is not None
            times = json.loads(asker.stdout.read())
            asker.wait()
            assert times["restored_reused"] > 0.9, times
            assert times["cold_reused"] < 0.2, times
            shares[cold_page_cache].append(times["restored"] / times["cold"])
    figure(f"after_restart_share_{tokens}", statistics.median(shares[False]), "<=", 0.05)
    figure(f"after_restart_share_{tokens}_cold_page_cache", statistics.median(shares[True]), "<=", 0.05)


def copied(store: Path) -> Path:
    """A copy of the store as the killed process left it: what one asker keeps does not help the next."""
    copy = store.with_name(store.name + "-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    for file in copy.rglob("*"):
        if file.is_file():
            with file.open("rb+") as opened:
                # Only clean pages can be dropped from the page cache.
                os.fsync(opened.fileno())
    return copy


def start(told: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.prefix_processes", json.dumps(told)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def against_llama_cpp_python(gguf: Path, tokens: int, store: Path) -> None:
    """Documents A, documents B, then another question over A: what does each cache save of the third?"""
    with ChatAlpacaGGUF(model_path=gguf, window=WINDOW, prefix_store=store, max_tokens=1) as model:
        first, other = documents(model, tokens, 9_001), documents(model, tokens, 9_002)
        prompts = [prompt_over(first, FIRST_QUESTION), prompt_over(other, FIRST_QUESTION)]
        third = prompt_over(first, SECOND_QUESTION)
        prompt_ids = [list(model.render(prompt).ids) for prompt in [*prompts, third]]
        cold = [seconds(model, prompt) for prompt in prompts]
        model.finish_saving()
        ours = seconds(model, third)
        n_threads, rope = model.n_threads, model.rope
    times = {"cold": statistics.median(cold), "ours": ours}
    for name, cache in (
        ("llama_cpp_python_bare", None),
        ("llama_cpp_python_ram_cache", llama_cpp.LlamaRAMCache()),
        ("llama_cpp_python_disk_cache", llama_cpp.LlamaDiskCache(str(store.with_name(store.name + "-theirs")))),
    ):
        bare = llama_cpp.Llama(
            str(gguf),
            n_ctx=WINDOW,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            flash_attn=True,
            verbose=False,
            **rope.for_llama_cpp(),
        )
        if cache is not None:
            bare.set_cache(cache)
        taken = []
        for ids in prompt_ids:
            began = time.perf_counter()
            bare.create_completion(ids, max_tokens=1, temperature=0)
            taken.append(time.perf_counter() - began)
        bare.close()
        times[name] = taken[2]
    medians(f"A-B-A over {tokens} tokens, seconds to the third answer's first token", **times)
    best = min(value for name, value in times.items() if name.startswith("llama_cpp"))
    figure(f"a_b_a_share_{tokens}", ours / times["cold"], "<=", 0.05)
    figure(f"a_b_a_against_best_of_llama_cpp_python_{tokens}", ours / best, "<=", 1.0)


def seconds(model: ChatAlpacaGGUF, prompt: Any) -> float:
    """The seconds to the first token: the whole reply is one."""
    began = time.perf_counter()
    model.invoke(prompt)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
