"""Builds a toy member of the family: the real architecture, random weights, in both formats.

One set of weights is written twice, as a transformers folder and as a GGUF file, so that the two
backends can be held against each other. The matrices are drawn so that attention is sharp and the
logits have a standard deviation near 1: a wrong position or a swapped head moves the logits by far
more than rounding does. With ``layers=8, hidden=512, heads=8, feed_forward=1376`` the result does, at
2,048 and 8,192 tokens, attention and matrix work in the proportion of a 7B model at 16K and 64K.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2

RopeScaling = Literal["linear-4", "yarn-16"]
WeightType = Literal["float32", "float16"]
Matrix = npt.NDArray[np.float32]

THETA = 10000.0
NORM_EPSILON = 1e-5
# Queries and keys are this much larger than a unit normal: scores then have a standard deviation near 4.
SHARPNESS = 2.0
FACTORS: dict[RopeScaling, float] = {"linear-4": 4.0, "yarn-16": 16.0}

# The two formats' names of one tensor; {} is the layer.
OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "model.layers.{}.input_layernorm.weight": "blk.{}.attn_norm.weight",
    "model.layers.{}.self_attn.q_proj.weight": "blk.{}.attn_q.weight",
    "model.layers.{}.self_attn.k_proj.weight": "blk.{}.attn_k.weight",
    "model.layers.{}.self_attn.v_proj.weight": "blk.{}.attn_v.weight",
    "model.layers.{}.self_attn.o_proj.weight": "blk.{}.attn_output.weight",
    "model.layers.{}.post_attention_layernorm.weight": "blk.{}.ffn_norm.weight",
    "model.layers.{}.mlp.gate_proj.weight": "blk.{}.ffn_gate.weight",
    "model.layers.{}.mlp.up_proj.weight": "blk.{}.ffn_up.weight",
    "model.layers.{}.mlp.down_proj.weight": "blk.{}.ffn_down.weight",
}


@dataclass(frozen=True)
class ToyCheckpoint:
    """The same weights twice: ``hf`` is a transformers folder, ``gguf`` a file."""

    hf: Path
    gguf: Path


@dataclass(frozen=True)
class Shape:
    """What the two files say of the model; ``window`` is the trained window in tokens."""

    name: str
    vocabulary: int
    layers: int
    hidden: int
    heads: int
    feed_forward: int
    window: int
    rope: RopeScaling | None
    dtype: WeightType

    @property
    def original_window(self) -> int:
        """The window before scaling, in tokens."""
        return self.window if self.rope is None else int(self.window / FACTORS[self.rope])


def build_toy_family(
    folder: Path,
    *,
    tokenizer_model: bytes,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    feed_forward: int = 176,
    window: int = 4096,
    rope: RopeScaling | None = None,
    seed: int = 0,
    name: str | None = None,
    kind: Literal["chat", "base"] = "chat",
    dtype: WeightType = "float32",
) -> ToyCheckpoint:
    """Write the checkpoint under ``folder`` and say where; ``tokenizer_model`` is a SentencePiece proto.

    ``window`` is the trained window after scaling: a 16K model of the family is ``window=16384,
    rope="linear-4"``. Without a ``name`` it is called as the family calls models of its ``kind``.
    """
    pieces = _read_pieces(tokenizer_model)
    named = name or {"chat": "chinese-alpaca-2-toy", "base": "chinese-llama-2-toy"}[kind]
    shape = Shape(named, len(pieces), layers, hidden, heads, feed_forward, window, rope, dtype)
    weights = dict(_draw_weights(shape, np.random.default_rng(seed)))
    checkpoint = ToyCheckpoint(hf=folder / named, gguf=folder / f"{named}.gguf")
    checkpoint.hf.mkdir(parents=True)
    _write_transformers(checkpoint.hf, shape, weights, tokenizer_model)
    _write_gguf(checkpoint.gguf, shape, weights, pieces)
    return checkpoint


def _read_pieces(tokenizer_model: bytes) -> list[Any]:
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer_model)
    return list(proto.pieces)


def _draw_weights(shape: Shape, random: np.random.Generator) -> Iterator[tuple[str, Matrix]]:
    """Every tensor under its transformers name, matrices as (outputs, inputs)."""

    def matrix(outputs: int, inputs: int, scale: float = 1.0) -> Matrix:
        return random.standard_normal((outputs, inputs), dtype=np.float32) * np.float32(scale / np.sqrt(inputs))

    def norm() -> Matrix:
        return random.uniform(0.8, 1.2, shape.hidden).astype(np.float32)

    yield "model.embed_tokens.weight", matrix(shape.vocabulary, shape.hidden, scale=np.sqrt(shape.hidden))
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", norm()
        yield prefix + "self_attn.q_proj.weight", matrix(shape.hidden, shape.hidden, SHARPNESS)
        yield prefix + "self_attn.k_proj.weight", matrix(shape.hidden, shape.hidden, SHARPNESS)
        yield prefix + "self_attn.v_proj.weight", matrix(shape.hidden, shape.hidden)
        yield prefix + "self_attn.o_proj.weight", matrix(shape.hidden, shape.hidden)
        yield prefix + "post_attention_layernorm.weight", norm()
        yield prefix + "mlp.gate_proj.weight", matrix(shape.feed_forward, shape.hidden)
        yield prefix + "mlp.up_proj.weight", matrix(shape.feed_forward, shape.hidden)
        yield prefix + "mlp.down_proj.weight", matrix(shape.hidden, shape.feed_forward)
    yield "model.norm.weight", norm()
    yield "lm_head.weight", matrix(shape.vocabulary, shape.hidden)


def _write_transformers(folder: Path, shape: Shape, weights: dict[str, Matrix], tokenizer_model: bytes) -> None:
    tensors = {name: tensor.astype(shape.dtype) for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    for file, content in {
        "config.json": _transformers_config(shape),
        "tokenizer_config.json": {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "tokenizer_class": "LlamaTokenizer",
            "use_fast": False,
        },
    }.items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _transformers_config(shape: Shape) -> dict[str, Any]:
    """config.json in the words that the family's own folders use (``rope_scaling``, ``torch_dtype``)."""
    scaling: dict[str, Any] | None = None
    if shape.rope == "linear-4":
        scaling = {"type": "linear", "factor": FACTORS[shape.rope]}
    elif shape.rope == "yarn-16":
        scaling = {
            "type": "yarn",
            "factor": FACTORS[shape.rope],
            "original_max_position_embeddings": shape.original_window,
            "finetuned": True,
        }
    return {
        "_name_or_path": shape.name,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.window,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "rms_norm_eps": NORM_EPSILON,
        "rope_scaling": scaling,
        "rope_theta": THETA,
        "tie_word_embeddings": False,
        "torch_dtype": shape.dtype,
        "vocab_size": shape.vocabulary,
    }


def _write_gguf(path: Path, shape: Shape, weights: dict[str, Matrix], pieces: list[Any]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    _add_architecture(writer, shape)
    _add_vocabulary(writer, pieces)
    for hf_name, gguf_name in _tensor_names(shape.layers):
        tensor = weights[hf_name]
        if ".q_proj." in hf_name or ".k_proj." in hf_name:
            tensor = _interleave_halves(tensor, shape.heads)
        writer.add_tensor(gguf_name, tensor if tensor.ndim == 1 else tensor.astype(shape.dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensor_names(layers: int) -> Iterator[tuple[str, str]]:
    yield from OUTER_NAMES.items()
    for layer in range(layers):
        for hf_name, gguf_name in LAYER_NAMES.items():
            yield hf_name.format(layer), gguf_name.format(layer)


def _interleave_halves(matrix: Matrix, heads: int) -> Matrix:
    """Reorder each head's rows: transformers rotates halves of a head, llama.cpp neighbouring pairs."""
    outputs, inputs = matrix.shape
    halves = matrix.reshape(heads, 2, outputs // heads // 2, inputs)
    return halves.swapaxes(1, 2).reshape(outputs, inputs)


def _add_architecture(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if shape.dtype == "float32" else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.window)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(THETA)
    if shape.rope == "linear-4":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(FACTORS[shape.rope])
    elif shape.rope == "yarn-16":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(FACTORS[shape.rope])
        writer.add_rope_scaling_orig_ctx_len(shape.original_window)
        writer.add_rope_scaling_finetuned(True)


def _add_vocabulary(writer: gguf.GGUFWriter, pieces: list[Any]) -> None:
    """The SentencePiece vocabulary; its type numbers are those of GGUF."""
    texts = [piece.piece for piece in pieces]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text.encode("utf-8") for text in texts])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([piece.type for piece in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(texts.index("<pad>") if "<pad>" in texts else 0)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
