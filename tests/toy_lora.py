"""Builds LoRA adapters for the toy family: random pairs, as a PEFT folder and as a GGUF file, and merged by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from tests.toy_family import LAYER_NAMES, OUTER_NAMES, Matrix, ToyCheckpoint, interleave_halves

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PREFIX = "base_model.model."


@dataclass(frozen=True)
class ToyLora:
    """``hf`` is a PEFT folder, ``gguf`` a file with the same pairs; ``merged`` a checkpoint that holds them."""

    hf: Path
    gguf: Path
    merged: Path


def build_toy_lora(
    folder: Path,
    base: ToyCheckpoint,
    *,
    rank: int = 4,
    alpha: float = 8,
    targets: Sequence[str] = ALL_TARGETS,
    tokenizer_model: bytes | None = None,
    vocabulary: int = 0,
    norms: bool = False,
    seed: int = 3,
    name: str = "my-lora",
    **settings: Any,
) -> ToyLora:
    """Write the adapter three times under ``folder``.

    With a ``vocabulary`` it replaces embeddings and output layer by ones of as many rows, and brings
    ``tokenizer_model``. ``settings`` are more of PEFT's own, written into its configuration.
    """
    weights: dict[str, Matrix] = load_file(base.hf / "model.safetensors")
    random = np.random.default_rng(seed)
    pairs = {
        key.removesuffix(".weight"): _draw_pair(random, weight, rank)
        for key, weight in sorted(weights.items())
        if key.split(".")[-2] in targets
    }
    replaced: dict[str, Matrix] = {}
    if vocabulary:
        hidden = weights["lm_head.weight"].shape[1]
        replaced["model.embed_tokens.weight"] = random.standard_normal((vocabulary, hidden), dtype=np.float32)
        replaced["lm_head.weight"] = random.standard_normal((vocabulary, hidden), dtype=np.float32) / np.float32(8)
    if norms:
        replaced["model.norm.weight"] = random.uniform(0.8, 1.2, weights["model.norm.weight"].shape).astype(np.float32)
    lora = ToyLora(folder / name, folder / f"{name}.gguf", folder / f"chinese-alpaca-2-{name}-merged")
    _write_peft(lora.hf, pairs, replaced, {"r": rank, "lora_alpha": alpha, "target_modules": list(targets), **settings})
    scale = alpha / (np.sqrt(rank) if settings.get("use_rslora") else rank)
    _write_merged(lora.merged, base.hf, {**weights, **replaced}, pairs, scale)
    if tokenizer_model is not None:
        for place in (lora.hf, lora.merged):
            (place / "tokenizer.model").write_bytes(tokenizer_model)
    heads = json.loads((base.hf / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    write_gguf_lora(lora.gguf, pairs, alpha=scale * rank, heads=heads)
    return lora


Pair = tuple[Matrix, Matrix]


def _draw_pair(random: np.random.Generator, weight: Matrix, rank: int) -> Pair:
    """A (rank, inputs) and B (outputs, rank), so that B A is of about half the weight's own size."""
    outputs, inputs = weight.shape
    a = random.standard_normal((rank, inputs), dtype=np.float32) / np.float32(np.sqrt(inputs))
    b = random.standard_normal((outputs, rank), dtype=np.float32) * np.float32(0.25 / np.sqrt(rank))
    return a, b


def _write_peft(
    folder: Path, pairs: Mapping[str, Pair], replaced: Mapping[str, Matrix], settings: Mapping[str, Any]
) -> None:
    folder.mkdir(parents=True)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in replaced.items()}
    for module, (a, b) in pairs.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{PREFIX}{module}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "auto_mapping": None,
        "base_model_name_or_path": "",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.05,
        "modules_to_save": [name.removesuffix(".weight").rpartition(".")[2] for name in replaced] or None,
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _write_merged(
    folder: Path, base: Path, weights: dict[str, Matrix], pairs: Mapping[str, Pair], scale: float
) -> None:
    shutil.copytree(base, folder)
    for module, (a, b) in pairs.items():
        weights[f"{module}.weight"] = weights[f"{module}.weight"] + np.float32(scale) * (b @ a)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = weights["lm_head.weight"].shape[0]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_gguf_lora(
    path: Path,
    pairs: Mapping[str, Pair],
    *,
    alpha: float,
    heads: int,
    more: Mapping[str, Matrix] | None = None,
    kind: str = "lora",
) -> Path:
    """The pairs as llama.cpp's converter writes them: A as it is, B with the rows that its weight's rows have."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name(path.stem)
    for module, (a, b) in pairs.items():
        layer, _, part = module.removeprefix("model.layers.").partition(".")
        hf_name = f"model.layers.{{}}.{part}.weight"
        named = LAYER_NAMES[hf_name].format(layer) if part else OUTER_NAMES[f"{module}.weight"]
        rows = interleave_halves(b, heads) if part.endswith(("q_proj", "k_proj")) else b
        writer.add_tensor(f"{named}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{named}.lora_b", np.ascontiguousarray(rows))
    for name, tensor in (more or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
