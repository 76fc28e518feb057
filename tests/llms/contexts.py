"""Backends without the models above them, for tests of what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.llms.backend import Backend, Logits
from chinese_alpaca_rag.llms.gguf_backend import LlamaCppBackend
from chinese_alpaca_rag.llms.huggingface_backend import TransformersBackend
from chinese_alpaca_rag.llms.transformers_loading import load_transformers
from tests.toy_family import ToyCheckpoint

Opening = Callable[..., Backend]


@contextmanager
def opening() -> Iterator[Opening]:
    """Gives what opens backends; all of them are closed at the end."""
    backends: list[Backend] = []

    def open_it(kind: str, toy: ToyCheckpoint, window: int | None = None, **options: Any) -> Backend:
        backends.append(opened(kind, toy, window, **options))
        return backends[-1]

    yield open_it
    for backend in backends:
        backend.close()


def opened(kind: str, toy: ToyCheckpoint, window: int | None = None, **options: Any) -> Backend:
    """A backend of the toy; ``kind`` is "gguf" or "hf", ``options`` go to what opens it."""
    checkpoint = read_checkpoint(toy.gguf if kind == "gguf" else toy.hf)
    plan = plan_rope(checkpoint.card, window)
    if kind == "gguf":
        return LlamaCppBackend(checkpoint.path, plan, n_threads=1, **options)
    return TransformersBackend(load_transformers(checkpoint, plan, device="cpu", **options), window=plan.window)


def random_ids(count: int, seed: int = 7) -> list[int]:
    """So many ids that begin with BOS."""
    return [1, *np.random.default_rng(seed).integers(259, 1024, count - 1).tolist()]


def read(backend: Backend, ids: Sequence[int], cut: int = 64) -> int:
    """Hold ``ids``, the logits after the last of them ready; how many were held before. Cuts are at its multiples."""
    kept = position = backend.keep(ids)
    while position < len(ids):
        end = min(len(ids), (position // cut + 1) * cut)
        backend.evaluate(ids[position:end])
        position = end
    return kept


def logits_after(backend: Backend, ids: Sequence[int], cut: int = 64) -> Logits:
    """The logits after ``ids``; a copy."""
    read(backend, ids, cut)
    return backend.logits().copy()


def difference(one: Logits, other: Logits) -> float:
    """The largest one."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max())
