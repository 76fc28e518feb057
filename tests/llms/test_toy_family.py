"""The toy checkpoint is what it says: both files hold one model, and the stock readers agree."""

from __future__ import annotations

from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from safetensors.numpy import load_file

from chinese_alpaca_rag.family.checkpoint import checkpoint_tokenizer, read_checkpoint
from tests.shared_data import shared_data
from tests.toy_family import RopeScaling, ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model


@pytest.mark.parametrize(
    ("rope", "window", "linear", "yarn", "original"),
    [(None, 4096, 1.0, 1.0, 4096), ("linear-4", 16384, 4.0, 1.0, 4096), ("yarn-16", 65536, 1.0, 16.0, 4096)],
)
def test_both_formats_are_read_as_the_same_model(
    rope: RopeScaling | None, window: int, linear: float, yarn: float, original: int, tmp_path: Path
) -> None:
    checkpoint = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), rope=rope, window=window, layers=1)
    cards = [read_checkpoint(path).card for path in (checkpoint.gguf, checkpoint.hf)]
    assert cards[0] == cards[1]
    card = cards[0]
    assert (card.window, card.linear_factor, card.yarn_factor) == (window, linear, yarn)
    assert card.original_window == original
    assert (card.kind, card.template) == ("chat", "alpaca-2")


def test_both_formats_hold_the_same_weights(toy: ToyCheckpoint) -> None:
    tensors = load_file(toy.hf / "model.safetensors")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(toy.gguf).tensors}
    assert len(stored) == len(tensors)
    assert np.array_equal(stored["blk.1.ffn_up.weight"], tensors["model.layers.1.mlp.up_proj.weight"])
    # Rows of a head, reordered and nothing else.
    queries = tensors["model.layers.0.self_attn.q_proj.weight"]
    assert not np.array_equal(stored["blk.0.attn_q.weight"], queries)
    for head in range(4):
        rows = slice(16 * head, 16 * head + 16)
        assert sorted(map(tuple, stored["blk.0.attn_q.weight"][rows])) == sorted(map(tuple, queries[rows]))


def test_half_precision_is_written_in_both(tmp_path: Path) -> None:
    checkpoint = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), dtype="float16", layers=1)
    assert load_file(checkpoint.hf / "model.safetensors")["lm_head.weight"].dtype == np.float16
    stored = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(checkpoint.gguf).tensors}
    assert stored["output.weight"] == gguf.GGMLQuantizationType.F16
    assert stored["output_norm.weight"] == gguf.GGMLQuantizationType.F32


@pytest.mark.parametrize("model", ["toy", "real"])
def test_llama_cpp_and_the_kits_tokenizer_cut_text_alike(model: str, tmp_path: Path) -> None:
    proto = toy_tokenizer_model() if model == "toy" else shared_data("tokenizer/tokenizer.model").read_bytes()
    checkpoint = build_toy_family(tmp_path, tokenizer_model=proto, layers=1, hidden=32, heads=2, feed_forward=64)
    llama = llama_cpp.Llama(str(checkpoint.gguf), vocab_only=True, verbose=False)
    ours = [checkpoint_tokenizer(read_checkpoint(path)) for path in (checkpoint.gguf, checkpoint.hf)]
    for text in ("公司的年假有几天？", "Hello, world 123", "龘\n\n  两个空格\t", "首都北京", "👍 ok"):
        ids = llama.tokenize(text.encode(), add_bos=False, special=False)
        assert ids == ours[0].encode(text) == ours[1].encode(text)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    weights = [
        build_toy_family(tmp_path / name, tokenizer_model=toy_tokenizer_model(), seed=seed, layers=1).gguf.read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert weights[0] == weights[1] != weights[2]
