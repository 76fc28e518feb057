"""Is an answer over a kept prefix the answer over a fresh one?

    python -m benchmarks.prefix_exactness

For every kind of rotary embedding and both backends: a model reads a prompt and is closed; another takes its blocks
from the store. Its logits and 64 greedy ids are set against those of a model without a store; and so are those of a
second question whose beginning is still in memory, which is evaluated in other steps and may round otherwise.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import figure, medians
from benchmarks.prefix_prompts import FIRST_QUESTION, SECOND_QUESTION, documents, prompt_over
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.toy_family import RopeScaling, ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

GREEDY_TOKENS = 64
PROMPT_TOKENS = 3000


@dataclass(frozen=True)
class Case:
    """A trained model and the window it is opened with, both in tokens."""

    name: str
    rope: RopeScaling | None
    trained: int
    window: int


CASES = (
    Case("none", None, 4096, 4096),
    Case("linear", "linear-4", 16384, 16384),
    Case("yarn", "yarn-16", 65536, 65536),
    Case("ntk", None, 4096, 8192),
)


def measure() -> None:
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = build_toy_family(
                Path(folder), tokenizer_model=toy_tokenizer_model(), window=case.trained, rope=case.rope, seed=3
            )
            for kind in ("gguf", "hf"):
                compare(case, kind, checkpoint, Path(folder) / f"store-{kind}")


def compare(case: Case, kind: str, checkpoint: ToyCheckpoint, store: Path) -> None:
    options: dict[str, Any] = {"window": case.window, "temperature": 0, "max_tokens": GREEDY_TOKENS}
    with opened(kind, checkpoint, **options) as model:
        sources = documents(model, PROMPT_TOKENS, 1)
        prompt = prompt_over(sources, SECOND_QUESTION)
        fresh, text = answered(model, prompt)
    with opened(kind, checkpoint, **options, prefix_store=store) as model:
        model.invoke(prompt_over(sources, FIRST_QUESTION))
        held, held_text = answered(model, prompt)
    with opened(kind, checkpoint, **options, prefix_store=store) as model:
        answer = model.invoke(prompt)
        assert answer.usage_metadata is not None
        reused = answer.usage_metadata["input_token_details"]["cache_read"]
        assert reused > 0.9 * answer.usage_metadata["input_tokens"], "the store gave nothing back"
    with opened(kind, checkpoint, **options, prefix_store=store) as model:
        restored, restored_text = answered(model, prompt)
    name = f"{kind}_{case.name}"
    medians(
        f"{name}, largest logit difference to a fresh prompt",
        from_the_store=difference(restored, fresh),
        from_memory=difference(held, fresh),
    )
    figure(f"logit_difference_with_a_hit_{name}", difference(restored, fresh), "<=", 0.0)
    figure(f"greedy_tokens_alike_{name}", alike(text, restored_text), ">=", GREEDY_TOKENS)
    figure(f"greedy_tokens_alike_from_memory_{name}", alike(text, held_text), ">=", GREEDY_TOKENS)


def opened(kind: str, checkpoint: ToyCheckpoint, **options: Any) -> LocalChat:
    if kind == "gguf":
        return ChatAlpacaGGUF(model_path=checkpoint.gguf, speculation="off", **options)
    return ChatAlpacaHF(model_path=checkpoint.hf, device="cpu", speculation="off", **options)


def answered(model: LocalChat, prompt: Any) -> tuple[Any, list[int]]:
    """The logits after the prompt, and the ids of the greedy answer."""
    rendered = model.render(prompt)
    logits = model.next_token_logits(rendered.ids, rendered.segments)
    answer = model.invoke(prompt, logprobs=True, min_tokens=GREEDY_TOKENS)
    return logits, [entry["token"] for entry in answer.response_metadata["logprobs"]["content"]]


def alike(one: list[int], other: list[int]) -> int:
    """How many ids two answers share from the start."""
    pairs = list(zip(one, other, strict=False))
    return next((number for number, (left, right) in enumerate(pairs) if left != right), len(pairs))


def difference(one: Any, other: Any) -> float:
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    measure()
