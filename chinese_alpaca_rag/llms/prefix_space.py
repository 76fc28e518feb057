"""What a kept block was computed with: the same ids give other keys and values under any other weights or options."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.prefix_saving import Saver
from chinese_alpaca_rag.llms.prefix_store import PrefixStore, SpaceFacts, space_of, weights_digest
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.weight_identity import adapter_files, identity_of, weight_files

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
        files, adapter = list(weight_files(checkpoint)), list(adapter_files(lora_path))
        still = known()
        if still is None or not still.loaded_from or still.loaded_from != identity_of([*files, *adapter]):
            raise _replaced(checkpoint)
        facts: dict[str, Any] = {
            "layout": LAYOUT,
            "weights": weights_digest(files, folder),
            "adapter": weights_digest(adapter, folder) if adapter else None,
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


def _replaced(checkpoint: Checkpoint) -> ModelError:
    """Nobody can say any more what the weights in memory are."""
    return ModelError(
        Words(
            zh=f"{checkpoint.path} 在加载之后被替换了，读过的内容不再保存。",
            en=f"{checkpoint.path} was replaced after it was loaded: what is read is not kept.",
        ),
        hint=Words(zh="请重新打开模型。", en="Open the model anew."),
    )
