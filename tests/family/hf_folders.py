"""Writing transformers folders as far as a checkpoint is recognised by them: no real weights."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.family.catalogue import ModelCard, find_model
from tests.family.vocabularies import named_model

LINEAR_4 = {"type": "linear", "factor": 4.0}
YARN_16 = {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, "finetuned": True}


def safetensors_bytes(announced: int = 8, given: int = 8) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, announced]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(given)


def config_of(card: ModelCard, **changes: Any) -> dict[str, Any]:
    """config.json in the spelling of the family's own folders."""
    scaling = LINEAR_4 if card.linear_factor != 1 else YARN_16 if card.yarn_factor != 1 else None
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": card.hidden,
        "intermediate_size": card.feed_forward,
        "max_position_embeddings": card.window,
        "num_attention_heads": card.heads,
        "num_hidden_layers": card.layers,
        "num_key_value_heads": card.kv_heads,
        "rope_scaling": scaling,
        "rope_theta": card.theta,
        "vocab_size": card.vocabulary,
    } | changes
    return {key: content for key, content in config.items() if content is not ...}


TOY = replace(
    find_model("chinese-alpaca-2-7b"), layers=2, hidden=64, heads=4, kv_heads=4, feed_forward=176, vocabulary=1024
)


def write_hf(folder: Path, config: object, *, weights: bool = True, tokenizer: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if weights:
        (folder / "model.safetensors").write_bytes(safetensors_bytes())
    if tokenizer:
        (folder / "tokenizer.model").write_bytes(named_model("toy"))
    return folder
