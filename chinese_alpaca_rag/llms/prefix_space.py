"""What a kept block was computed with: the same ids give other keys and values under any other weights or options."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.family.weight_files import gguf_parts, shards
from chinese_alpaca_rag.llms.prefix_saving import Saver
from chinese_alpaca_rag.llms.prefix_store import PrefixStore, SpaceFacts, space_of, weights_digest
from chinese_alpaca_rag.llms.prefixes import Prefixes

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.backend import Backend
    from chinese_alpaca_rag.llms.weights import Weights

#: Goes up when a prompt is cut into blocks otherwise, or a state is written otherwise.
LAYOUT: Final = 1


def prefixes_in(
    folder: Path,
    weights: Weights,
    *,
    checkpoint: Checkpoint,
    lora_path: Path | None,
    plan: RopePlan,
    options: Mapping[str, str],
) -> Prefixes:
    """The reading of prompts with the store in ``folder``; ``options`` are all that say how weights are loaded."""
    store = PrefixStore(folder)
    known = weakref.ref(weights)

    def opened() -> Backend | None:
        still = known()
        return None if still is None else still.backend

    def space(backend: Backend) -> str:
        facts: dict[str, Any] = {
            "layout": LAYOUT,
            "weights": weights_digest(list(_weight_files(checkpoint)), folder),
            "adapter": weights_digest(list(_files_of(lora_path)), folder) if lora_path else None,
            "rope": _rotation(plan),
            "state": backend.state_format,
            **options,
        }
        return space_of(facts)

    about = SpaceFacts(
        model=checkpoint.name,
        format=checkpoint.format,
        kv_type=options.get("kv_type", options.get("dtype", "")).strip("'"),
        window=plan.window,
        rope=plan.kind,
    )
    return Prefixes(store, space=space, saver=Saver(store, about, weights.turns), opened=opened)


def _rotation(plan: RopePlan) -> dict[str, Any]:
    """All of the plan that changes keys: the same rotation under a longer window is the same."""
    return {name: value for name, value in asdict(plan).items() if name != "window"}


def _weight_files(checkpoint: Checkpoint) -> Iterator[Path]:
    if checkpoint.format == "gguf":
        yield from gguf_parts(checkpoint.path)
    else:
        yield checkpoint.path / "config.json"
        yield from shards(checkpoint.path)


def _files_of(adapter: Path) -> Iterator[Path]:
    """An adapter's file, or those of its folder that say what it does."""
    if adapter.is_dir():
        yield from sorted(file for file in adapter.iterdir() if file.suffix in (".json", ".safetensors"))
    else:
        yield adapter
