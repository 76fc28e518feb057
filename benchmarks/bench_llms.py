"""What do the model wrappers cost, what does a batch save, and is the memory that they take known beforehand?

    python -m benchmarks.bench_llms

On a stand-in with the proportions of the 7B: tokens a second of ``ChatAlpacaGGUF.stream`` against
llama-cpp-python's own loop, and of ``ChatAlpacaHF.stream`` against transformers' ``generate``, on the same
ids with the family's sampling; eight prompts through ``batch`` against one after another; the time of one
constrained step; then memory predicted and measured (``benchmarks.llms_memory``).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import torch
import transformers
from langchain_core.messages import HumanMessage

from benchmarks import llms_memory
from benchmarks.figures import figure, interleaved, medians
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.shared_data import SHARED_DATA
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ROUNDS = 15
BATCH_ROUNDS = 5
REPLY_TOKENS = 96
QUESTION = "员工手册里写了哪些关于年假的规定？" * 8
SOURCES = "资料：正式员工每年享有带薪年假，工作满一年的员工有五天年假。\n" * 12
PROMPTS = [f"{SOURCES}\n第{number}个问题：年假有几天？请说明理由。" for number in range(8)]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 200}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = stand_in(Path(folder))
        with ChatAlpacaGGUF(model_path=checkpoint.gguf, max_tokens=REPLY_TOKENS, seed=1) as model:
            compare_with_llama_cpp(model)
            compare_batch("gguf", model, 1.5)
            compare_constrained(model)
        with ChatAlpacaHF(model_path=checkpoint.hf, max_tokens=REPLY_TOKENS, seed=1, device="cpu") as model:
            compare_with_generate(model)
            compare_batch("hf", model, 1.5)
    llms_memory.measure()


def stand_in(folder: Path) -> ToyCheckpoint:
    """8 layers of 512 with half-precision weights, and the family's own vocabulary where it is at hand."""
    real = SHARED_DATA / "tokenizer" / "tokenizer.model"
    return build_toy_family(
        folder,
        tokenizer_model=real.read_bytes() if real.exists() else toy_tokenizer_model(),
        layers=8,
        hidden=512,
        heads=8,
        feed_forward=1376,
        dtype="float16",
    )


def compare_with_llama_cpp(model: ChatAlpacaGGUF) -> None:
    """Tokens a second of the reply, prompt left out."""
    ids = list(model.render([HumanMessage(QUESTION)]).ids)
    bare = llama_cpp.Llama(
        str(model.model_path),
        n_ctx=model.window,
        n_threads=model.n_threads,
        n_threads_batch=model.n_threads,
        flash_attn=True,
        verbose=False,
        seed=1,
        **model.rope.for_llama_cpp(),
    )
    ours, theirs, ratio = rates(lambda: rate(stream_marks(model)), lambda: rate(llama_marks(bare, ids)))
    bare.close()
    medians("tokens a second", chat_alpaca_gguf=ours, llama_cpp_python=theirs)
    figure("gguf_stream_speed_ratio", ratio, ">=", 0.97)


def compare_with_generate(model: ChatAlpacaHF) -> None:
    """The same against ``generate`` on the very model that the wrapper has loaded."""
    ids = torch.tensor([list(model.render([HumanMessage(QUESTION)]).ids)])
    with model._alone():
        loaded: Any = model._opened()._model  # type: ignore[attr-defined]
    ours, theirs, ratio = rates(lambda: rate(stream_marks(model)), lambda: generate_rate(loaded, ids))
    medians("tokens a second", chat_alpaca_hf=ours, transformers_generate=theirs)
    figure("hf_stream_speed_ratio", ratio, ">=", 0.97)


def compare_batch(name: str, model: LocalChat, target: float) -> None:
    """Eight prompts over the same sources: seconds one after another, and side by side."""
    options: dict[str, Any] = {"max_tokens": 48, "min_tokens": 48}

    def one_by_one() -> None:
        for prompt in PROMPTS:
            model.invoke(prompt, **options)

    serial, together = interleaved(one_by_one, lambda: model.batch(PROMPTS, **options), BATCH_ROUNDS)
    tokens = len(PROMPTS) * options["max_tokens"]
    medians(f"{name} tokens a second", one_by_one=tokens / serial, eight_together=tokens / together)
    figure(f"{name}_batch_of_8_speedup", serial / together, ">=", target)


def compare_constrained(model: ChatAlpacaGGUF) -> None:
    """What holding a reply to a schema costs: tokens a second inside a long text of it, against free text."""
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    free, held, ratio = rates(
        lambda: rate(stream_marks(model, max_tokens=64)),
        lambda: rate(stream_marks(model, response_format=schema, max_tokens=400), until=64),
    )
    medians("tokens a second", free_text=free, held_to_a_schema=held)
    figure("constrained_speed_ratio", 1 / ratio, ">=", 0.85)


def rates(one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float, float]:
    """The medians of both and of their ratios, the other one first in every second round; the first warms up."""
    measured: list[tuple[float, float]] = []
    for number in range(ROUNDS + 1):
        if number % 2:
            second, first = other(), one()
        else:
            first, second = one(), other()
        measured.append((first, second))
    ours, theirs = zip(*measured[1:], strict=True)
    ratio = statistics.median(first / second for first, second in measured[1:])
    return statistics.median(ours), statistics.median(theirs), ratio


def stream_marks(model: LocalChat, **options: Any) -> Iterator[int]:
    """The number of reply tokens so far, whenever some came."""
    tokens = 0
    for chunk in model.stream(QUESTION, min_tokens=REPLY_TOKENS, **options):
        tokens += 1
        if chunk.usage_metadata:
            tokens = chunk.usage_metadata["output_tokens"]
        yield tokens


def llama_marks(llama: llama_cpp.Llama, ids: list[int]) -> Iterator[int]:
    stream = llama.generate(ids, temp=0.2, top_k=40, top_p=0.9, min_p=0.0, repeat_penalty=1.1)
    for tokens, _ in enumerate(stream, start=1):
        yield tokens
        if tokens == REPLY_TOKENS:
            return


def generate_rate(model: Any, ids: torch.Tensor) -> float:
    """Tokens a second of transformers' ``generate`` from its first token on, by its own streaming hook."""
    moments = Moments()
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=0.2,
        top_k=40,
        top_p=0.9,
        repetition_penalty=1.1,
        max_new_tokens=REPLY_TOKENS,
        min_new_tokens=REPLY_TOKENS,
        eos_token_id=2,
        pad_token_id=0,
        streamer=moments,
    )
    of_tokens = moments.seen[1:]  # the first is the prompt's
    return (len(of_tokens) - 1) / (of_tokens[-1] - of_tokens[0])


class Moments(transformers.generation.streamers.BaseStreamer):  # type: ignore[misc]  # untyped
    """When ``generate`` handed each token over."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def put(self, value: Any) -> None:
        self.seen.append(time.perf_counter())

    def end(self) -> None:
        pass


def rate(marks: Iterator[int], until: int | None = None) -> float:
    """Tokens a second from the first token on, up to ``until`` tokens."""
    first = next(marks)
    start = time.perf_counter()
    last = first
    for tokens in marks:
        last = tokens
        if until is not None and last >= until:
            break
    return (last - first) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
