"""Builds a toy member of the family: the real architecture, random weights, in both formats.

One set of weights is written twice, as a transformers folder and as a GGUF file, so that the two
backends can be held against each other. The matrices are drawn so that attention is sharp and the
logits have a standard deviation near 1: a wrong position or a swapped head moves the logits by far
more than rounding does. With ``layers=8, hidden=512, heads=8, feed_forward=1376`` the result does, at
2,048 and 8,192 tokens, attention and matrix work in the proportion of a 7B model at 16K and 64K.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2

from tests.toy_byte_pair import BytePairVocabulary, tokenizer_json_bytes

RopeScaling = Literal["linear-4", "yarn-16"]
WeightType = Literal["float32", "float16"]
Matrix = npt.NDArray[np.float32]

THETA = 10000.0
LLAMA_3_THETA = 500000.0
NORM_EPSILON = 1e-5
# Queries and keys are this much larger than a unit normal: scores then have a standard deviation near 4.
SHARPNESS = 2.0
NAMES: dict[tuple[bool, str], str] = {
    (False, "chat"): "chinese-alpaca-2-toy",
    (False, "base"): "chinese-llama-2-toy",
    (True, "chat"): "llama-3-chinese-toy-instruct",
    (True, "base"): "llama-3-chinese-toy",
}
# What the favoured pieces' coordinate holds after the final norm, about: see ``_favour``.
FAVOUR = 2.0
FACTORS: dict[RopeScaling, float] = {"linear-4": 4.0, "yarn-16": 16.0}

SENTENCEPIECE_CONFIG: dict[str, Any] = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "tokenizer_class": "LlamaTokenizer",
    "use_fast": False,
}

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
    kv_heads: int
    byte_pair: BytePairVocabulary | None = None

    @property
    def theta(self) -> float:
        """RoPE's base frequency."""
        return THETA if self.byte_pair is None else LLAMA_3_THETA

    @property
    def ends(self) -> tuple[int, int]:
        """The ids of BOS and EOS."""
        if self.byte_pair is None:
            return 1, 2
        pieces = self.byte_pair.pieces
        return pieces.index("<|begin_of_text|>"), pieces.index("<|end_of_text|>")

    @property
    def original_window(self) -> int:
        """The window before scaling, in tokens."""
        return self.window if self.rope is None else int(self.window / FACTORS[self.rope])


def build_toy_family(
    folder: Path,
    *,
    tokenizer_model: bytes = b"",
    byte_pair: BytePairVocabulary | None = None,
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int | None = None,
    feed_forward: int = 176,
    window: int = 4096,
    rope: RopeScaling | None = None,
    seed: int = 0,
    name: str | None = None,
    kind: Literal["chat", "base"] = "chat",
    dtype: WeightType = "float32",
    favoured: Mapping[str, float] | None = None,
) -> ToyCheckpoint:
    """Write the checkpoint under ``folder`` and say where.

    ``tokenizer_model`` is a SentencePiece proto; with ``byte_pair`` instead it is a model of the third
    generation. ``window`` is the trained window after scaling: a 16K model of the family is
    ``window=16384, rope="linear-4"``. ``kv_heads`` below ``heads`` shares keys and values among heads.
    Without a ``name`` it is called as the family calls models of its ``kind``. ``favoured`` adds to the
    logits of pieces, spelt as the vocabulary spells them, at every position: see ``_favour``.
    """
    pieces = [] if byte_pair else _read_pieces(tokenizer_model)
    texts: Sequence[str] = byte_pair.pieces if byte_pair else [piece.piece for piece in pieces]
    named = name or NAMES[byte_pair is not None, kind]
    shared = kv_heads or heads
    shape = Shape(named, len(texts), layers, hidden, heads, feed_forward, window, rope, dtype, shared, byte_pair)
    weights = dict(_draw_weights(shape, np.random.default_rng(seed)))
    if favoured:
        _favour(weights, shape, {texts.index(piece): added for piece, added in favoured.items()})
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
        keys = shape.hidden // shape.heads * shape.kv_heads
        yield prefix + "self_attn.k_proj.weight", matrix(keys, shape.hidden, SHARPNESS)
        yield prefix + "self_attn.v_proj.weight", matrix(keys, shape.hidden)
        yield prefix + "self_attn.o_proj.weight", matrix(shape.hidden, shape.hidden)
        yield prefix + "post_attention_layernorm.weight", norm()
        yield prefix + "mlp.gate_proj.weight", matrix(shape.feed_forward, shape.hidden)
        yield prefix + "mlp.up_proj.weight", matrix(shape.feed_forward, shape.hidden)
        yield prefix + "mlp.down_proj.weight", matrix(shape.hidden, shape.feed_forward)
    yield "model.norm.weight", norm()
    yield "lm_head.weight", matrix(shape.vocabulary, shape.hidden)


def _favour(weights: dict[str, Matrix], shape: Shape, added: Mapping[int, float]) -> None:
    """Make the logits of the ids in ``added`` higher by about as much at every position (or lower).

    The last coordinate of the residual stream is the same for every token and no layer writes to it: it
    reaches the head as the same value everywhere, but for the final norm's scale. Weights that read from
    it are left alone: to them it is a bias.
    """
    weights["model.embed_tokens.weight"][:, -1] = FAVOUR * np.sqrt(1.0 + shape.layers)
    for layer in range(shape.layers):
        weights[f"model.layers.{layer}.self_attn.o_proj.weight"][-1] = 0.0
        weights[f"model.layers.{layer}.mlp.down_proj.weight"][-1] = 0.0
    weights["model.norm.weight"][-1] = 1.0
    head = weights["lm_head.weight"]
    head[:, -1] = 0.0
    for index, logit in added.items():
        head[index, -1] = logit / FAVOUR


def _write_transformers(folder: Path, shape: Shape, weights: dict[str, Matrix], tokenizer_model: bytes) -> None:
    tensors = {name: tensor.astype(shape.dtype) for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if shape.byte_pair is None:
        (folder / "tokenizer.model").write_bytes(tokenizer_model)
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer_json_bytes(shape.byte_pair))
    for file, content in {
        "config.json": _transformers_config(shape),
        "tokenizer_config.json": SENTENCEPIECE_CONFIG if not shape.byte_pair else shape.byte_pair.tokenizer_config(),
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
        "bos_token_id": shape.ends[0],
        "eos_token_id": shape.ends[1],
        "pad_token_id": 0 if shape.byte_pair is None else None,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.window,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": NORM_EPSILON,
        "rope_scaling": scaling,
        "rope_theta": shape.theta,
        "tie_word_embeddings": False,
        "torch_dtype": shape.dtype,
        "vocab_size": shape.vocabulary,
    }


def _write_gguf(path: Path, shape: Shape, weights: dict[str, Matrix], pieces: list[Any]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    _add_architecture(writer, shape)
    if shape.byte_pair is None:
        _add_vocabulary(writer, pieces)
    else:
        _add_byte_pairs(writer, shape.byte_pair, *shape.ends)
    for hf_name, gguf_name in _tensor_names(shape.layers):
        tensor = weights[hf_name]
        if ".q_proj." in hf_name or ".k_proj." in hf_name:
            tensor = interleave_halves(tensor, shape.heads if ".q_proj." in hf_name else shape.kv_heads)
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


def interleave_halves(matrix: Matrix, heads: int) -> Matrix:
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
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(shape.theta)
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


def _add_byte_pairs(writer: gguf.GGUFWriter, vocabulary: BytePairVocabulary, bos_id: int, eos_id: int) -> None:
    """The third generation's vocabulary, in the words of llama.cpp's own converter."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([piece.encode() for piece in vocabulary.pieces])
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges([" ".join(merge) for merge in vocabulary.merges])
    writer.add_bos_token_id(bos_id)
    writer.add_eos_token_id(eos_id)
