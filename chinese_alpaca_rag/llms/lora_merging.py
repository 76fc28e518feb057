"""Applying a LoRA adapter to a loaded transformers model, by PEFT; nothing of it may be left over or missing."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Any

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError
from chinese_alpaca_rag.family.adapter import Adapter
from chinese_alpaca_rag.family.peft_folder import WEIGHTS, tensor_name
from chinese_alpaca_rag.language import Words


def merge_adapter(torch: Any, model: Any, adapter: Adapter, *, beside: bool = False) -> Any:
    """``model`` with ``adapter`` in its weights; with ``beside`` the pairs stay beside them (quantised weights).

    PEFT is given the adapter's figures as they were read and checked, not its file of settings. Raises
    ``CheckpointError`` where a tensor is not finite, is left over, or does not fit.
    """
    tensors = _read_tensors(adapter)
    replaced = {name: tensors.pop((name, "")) for name in adapter.saved}
    if adapter.vocabulary is not None and adapter.vocabulary != model.config.vocab_size:
        model.resize_token_embeddings(adapter.vocabulary, mean_resizing=False)
    with torch.no_grad():
        for name, tensor in replaced.items():
            if not torch.isfinite(tensor).all():
                raise _wrong(adapter, f"{name} is not finite")
            model.get_parameter(name).copy_(tensor)
    if not adapter.pairs:
        return model
    with_pairs = _with_pairs(model, adapter, tensors)
    try:
        return with_pairs.base_model.model if beside else with_pairs.merge_and_unload(safe_merge=True)
    except ValueError as problem:  # a merged weight is not finite
        raise _wrong(adapter, str(problem)) from problem


def _read_tensors(adapter: Adapter) -> dict[tuple[str, str], Any]:
    """Every tensor of the file, by (module, side) or (name, "")."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        read = load_file(adapter.path / WEIGHTS)
    except (SafetensorError, OSError) as problem:
        raise _wrong(adapter, str(problem)) from problem
    tensors = {tensor_name(key): tensor for key, tensor in read.items()}
    wanted = {(module, side) for module in adapter.pairs for side in "AB"} | {(name, "") for name in adapter.saved}
    if tensors.keys() != wanted:
        raise _wrong(adapter, f"{len(tensors.keys() ^ wanted)} tensors changed while it was read")
    return {name: tensor for name, tensor in tensors.items() if name is not None}


def _with_pairs(model: Any, adapter: Adapter, tensors: dict[tuple[str, str], Any]) -> Any:
    try:
        import peft
    except ImportError as missing:
        raise MissingExtraError.for_package("peft", "hf") from missing
    rank = Counter(pair.rank for pair in adapter.pairs.values()).most_common(1)[0][0]
    # PEFT takes the keys of its patterns as regular expressions.
    names = {module: re.escape(module) for module in adapter.pairs}
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=sorted(adapter.pairs),
        rank_pattern={names[module]: pair.rank for module, pair in adapter.pairs.items() if pair.rank != rank},
        alpha_pattern={names[module]: pair.scale * pair.rank for module, pair in adapter.pairs.items()},
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that it will lose
        with_pairs = peft.get_peft_model(model, config, low_cpu_mem_usage=True)
    # In float32, so that B A is: the sum is rounded to the weights' type once.
    state = {
        f"base_model.model.{module}.lora_{side}.weight": tensor.float() for (module, side), tensor in tensors.items()
    }
    try:
        report = peft.set_peft_model_state_dict(with_pairs, state, low_cpu_mem_usage=True)
    except (RuntimeError, KeyError) as problem:
        raise _wrong(adapter, str(problem)) from problem
    left = [*report.unexpected_keys, *(key for key in report.missing_keys if ".lora_" in key)]
    if left:
        raise _wrong(adapter, f"{len(left)} tensors do not fit, such as {left[0]}")
    return with_pairs


def _wrong(adapter: Adapter, reason: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"无法应用 LoRA {adapter.path}：{reason}", en=f"The LoRA {adapter.path} cannot be applied: {reason}"),
        hint=Words(
            zh="请重新下载该适配器，或先用 PEFT 把它合并进权重。",
            en="Fetch the adapter again, or merge it into the weights with PEFT.",
        ),
    )
