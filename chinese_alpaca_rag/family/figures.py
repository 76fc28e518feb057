"""The figures that a checkpoint states of itself: ``config.json``, or the head of a GGUF file.

What would change the model's behaviour and cannot be said on a card is refused, never passed over.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.gguf_header import GgufHeader, read_gguf_header
from chinese_alpaca_rag.language import Words

_LARGEST_JSON: Final = 16 * 1024 * 1024
_LARGEST_SAFETENSORS_HEAD: Final = 64 * 1024 * 1024

_FETCH_AGAIN: Final = Words(zh="请重新下载该文件。", en="Fetch the file again.")

# What a scaling may hold beside its factor without being another RoPE than the card's.
_ROPE_DEFAULTS: Final[dict[str, float]] = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "partial_rotary_factor": 1.0,
    "attn_factor": 1.0,
    "extrapolation_factor": 1.0,
}
_ROPE_KNOWN: Final = frozenset(
    {"type", "rope_type", "factor", "rope_theta", "original_max_position_embeddings", "finetuned", "attention_factor"}
)

# The same for GGUF's keys under llama.rope.scaling: what a plan says in their place, or cannot say.
_GGUF_ROPE_USUAL: Final[dict[str, float]] = {
    "attn_factor": 1.0,
    "alpha": 0.0,
    "yarn_ext_factor": 1.0,
    "yarn_attn_factor": 1.0,
    "yarn_beta_fast": 32.0,
    "yarn_beta_slow": 1.0,
    "yarn_log_multiplier": 0.0,
}


@dataclass(frozen=True)
class Figures:
    """A checkpoint's own words. ``theta`` is ``None`` where it says nothing.

    ``scaling_stated``: whether RoPE scaling, or its absence, is said at all (old GGUF files of the
    long models say nothing). ``own_code``: the folder brings Python code. ``byte_pair``: the
    tokenizer is not SentencePiece.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    window: int
    theta: float | None
    linear_factor: float
    yarn_factor: float
    original_window: int
    scaling_stated: bool
    declared_name: str
    own_code: bool = False
    byte_pair: bool = False


def read_hf_figures(folder: Path) -> Figures:
    """The figures of a transformers folder whose weights are safetensors."""
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    architectures = config.get("architectures") or ["LlamaForCausalLM"]
    if kind != "llama" or architectures != ["LlamaForCausalLM"]:
        raise refused(
            folder,
            f"架构是 {kind} {architectures}，不是 Llama",
            f"its architecture is {kind} {architectures}, not Llama",
        )
    _check_weights(folder)
    heads = _whole(folder, config, "num_attention_heads")
    hidden = _whole(folder, config, "hidden_size")
    if config.get("head_dim") not in (None, hidden // heads):
        raise refused(folder, f"head_dim 为 {config['head_dim']}", f"its head_dim is {config['head_dim']}")
    window = _whole(folder, config, "max_position_embeddings")
    theta, linear, yarn, original = _hf_rope(folder, config, window)
    return _checked(
        folder,
        Figures(
            layers=_whole(folder, config, "num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=_whole(folder, config, "num_key_value_heads", default=heads),
            feed_forward=_whole(folder, config, "intermediate_size"),
            vocabulary=_whole(folder, config, "vocab_size"),
            window=window,
            theta=theta,
            linear_factor=linear,
            yarn_factor=yarn,
            original_window=original,
            scaling_stated=True,
            declared_name=str(config.get("_name_or_path") or ""),
            own_code=bool(config.get("auto_map")),
            byte_pair=not (folder / "tokenizer.model").is_file() and (folder / "tokenizer.json").is_file(),
        ),
    )


def read_gguf_figures(file: Path) -> Figures:
    """The figures in the head of a GGUF file."""
    header = read_gguf_header(file)
    values = header.values
    architecture = values.get("general.architecture")
    if architecture != "llama":
        raise refused(file, f"架构是 {architecture}，不是 llama", f"its architecture is {architecture}, not llama")
    heads = _whole(file, values, "llama.attention.head_count")
    hidden = _whole(file, values, "llama.embedding_length")
    for key in ("llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"):
        if values.get(key, hidden // heads) != hidden // heads:
            raise refused(file, f"{key} 为 {values[key]}", f"its {key} is {values[key]}")
    window = _whole(file, values, "llama.context_length")
    linear, yarn, original, scaling_stated = _gguf_rope(file, values, window)
    theta = values.get("llama.rope.freq_base")
    return _checked(
        file,
        Figures(
            layers=_whole(file, values, "llama.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=_whole(file, values, "llama.attention.head_count_kv", default=heads),
            feed_forward=_whole(file, values, "llama.feed_forward_length"),
            vocabulary=_gguf_vocabulary(file, header),
            window=window,
            theta=None if theta is None else _real(file, "llama.rope.freq_base", theta),
            linear_factor=linear,
            yarn_factor=yarn,
            original_window=original,
            scaling_stated=scaling_stated,
            declared_name=str(values.get("general.name", "")),
            byte_pair=values.get("tokenizer.ggml.model") != "llama",
        ),
    )


def refused(path: Path, zh: str, en: str, *, hint: Words | None = None) -> CheckpointError:
    """The error for a checkpoint that cannot be used, with the reason in both languages."""
    return CheckpointError(
        Words(zh=f"不能使用 {path.name}：{zh}。", en=f"{path.name} cannot be used: {en}."),
        hint=hint
        or Words(
            zh="请使用本家族的模型：alpaca-rag models list", en="Use a model of the family: alpaca-rag models list"
        ),
    )


def _hf_rope(folder: Path, config: Mapping[str, Any], window: int) -> tuple[float | None, float, float, int]:
    """(theta, linear factor, YaRN factor, original window) in the old spelling, ``rope_scaling``, or the new."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise refused(folder, "rope_scaling 不是对象", "its rope_scaling is no object")
    stated = scaling.get("rope_theta", config.get("rope_theta"))
    theta = None if stated is None else _real(folder, "rope_theta", stated)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "yarn"):
        raise refused(folder, f"不支持 RoPE 类型 {kind}", f"RoPE scaling of type {kind} is not known here")
    for key, value in scaling.items():
        if key not in _ROPE_KNOWN and value is not None and value != _ROPE_DEFAULTS.get(key):
            raise refused(
                folder, f"不支持 RoPE 设置 {key}={value}", f"the RoPE setting {key}={value} is not known here"
            )
    if kind == "default":
        return theta, 1.0, 1.0, window
    factor = _real(folder, "factor", scaling.get("factor"))
    if kind == "linear":
        return theta, factor, 1.0, max(1, round(window / factor))
    attention = scaling.get("attention_factor")
    if attention is not None and not math.isclose(
        _real(folder, "attention_factor", attention), 0.1 * math.log(factor) + 1.0, rel_tol=1e-6
    ):
        raise refused(folder, f"attention_factor 为 {attention}", f"its attention_factor is {attention}")
    original = scaling.get("original_max_position_embeddings")
    if original is None:
        return theta, 1.0, factor, max(1, round(window / factor))
    return theta, 1.0, factor, _whole(folder, scaling, "original_max_position_embeddings")


def _gguf_rope(file: Path, values: Mapping[str, Any], window: int) -> tuple[float, float, int, bool]:
    """(linear factor, YaRN factor, original window, whether anything is said)."""
    prefix = "llama.rope.scaling."
    for key, usual in _GGUF_ROPE_USUAL.items():
        value = values.get(prefix + key, usual)
        if value != usual:
            raise refused(file, f"不支持 {prefix}{key}={value}", f"{prefix}{key}={value} is not known here")
    legacy = values.get("llama.rope.scale_linear")
    kind = values.get(f"{prefix}type", "linear" if legacy is not None else None)
    if kind is None:
        return 1.0, 1.0, window, False
    if kind == "none":
        return 1.0, 1.0, window, True
    if kind not in ("linear", "yarn"):
        raise refused(file, f"不支持 RoPE 类型 {kind}", f"RoPE scaling of type {kind} is not known here")
    factor = _real(file, f"{prefix}factor", values.get(f"{prefix}factor", legacy))
    if kind == "linear":
        return factor, 1.0, max(1, round(window / factor)), True
    original = values.get(f"{prefix}original_context_length", round(window / factor))
    return 1.0, factor, _whole(file, {"original": original}, "original"), True


def _gguf_vocabulary(file: Path, header: GgufHeader) -> int:
    """The number of pieces, which must be the number of rows."""
    vocabulary = header.lengths.get("tokenizer.ggml.tokens", 0)
    stated = header.values.get("llama.vocab_size", vocabulary)
    if not vocabulary or stated != vocabulary:
        raise refused(
            file,
            f"词表有 {vocabulary} 个词，应有 {stated} 个",
            f"its vocabulary holds {vocabulary} pieces, not {stated}",
        )
    return vocabulary


def _checked(path: Path, figures: Figures) -> Figures:
    if figures.hidden % figures.heads or figures.heads % figures.kv_heads or (figures.hidden // figures.heads) % 2:
        raise refused(
            path,
            f"hidden {figures.hidden}、heads {figures.heads}、kv heads {figures.kv_heads} 互不整除",
            f"hidden {figures.hidden}, heads {figures.heads} and kv heads {figures.kv_heads} do not fit each other",
        )
    if figures.hidden // figures.heads < 4:
        raise refused(path, "注意力头过窄", "its attention heads are too narrow")
    return figures


def _whole(path: Path, values: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    """A positive whole number that a real model can have."""
    value = values.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 2**31 - 1:
        raise refused(path, f"{key} 为 {value}", f"its {key} is {value}")
    return value


def _real(path: Path, key: str, value: object) -> float:
    """A finite number of at least 1, as thetas and factors are."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 1:
        raise refused(path, f"{key} 为 {value}", f"its {key} is {value}")
    return float(value)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a small JSON file. Raises ``CheckpointError`` for anything else."""
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise refused(file, "文件过大", "it is too large", hint=_FETCH_AGAIN)
        content = json.loads(file.read_bytes())
    except OSError as problem:
        raise refused(file, str(problem.strerror), str(problem.strerror), hint=_FETCH_AGAIN) from problem
    except (ValueError, RecursionError) as problem:
        raise refused(file, "不是有效的 JSON", "it is no valid JSON", hint=_FETCH_AGAIN) from problem
    if not isinstance(content, dict):
        raise refused(file, "不是 JSON 对象", "it is no JSON object", hint=_FETCH_AGAIN)
    return content


def _check_weights(folder: Path) -> None:
    """Weights are safetensors, all there and none cut short; pickles run code when they are opened."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        table = read_json(index).get("weight_map")
        names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise refused(index, "分片表无效", "its table of files is not valid", hint=_FETCH_AGAIN)
    else:
        names = ["model.safetensors"] if any(folder.glob("*.safetensors")) else []
    if not names:
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
        found = f"（{pickles[0]}）" if pickles else ""
        raise refused(
            folder,
            f"没有 safetensors 权重{found}；pickle 文件打开时会执行其中的代码，一律不读",
            "it holds no safetensors weights"
            + (f" ({pickles[0]} is a pickle, which runs code when opened)" if pickles else ""),
            hint=Words(
                zh="请下载 safetensors 或 GGUF 版本，或用 transformers 另存：model.save_pretrained(目录)",
                en="Fetch the safetensors or GGUF form, or save again with transformers: model.save_pretrained(FOLDER)",
            ),
        )
    for name in names:
        check_safetensors(folder / name)


def check_safetensors(file: Path) -> None:
    """The head of a safetensors file: eight bytes of length, JSON, and as many bytes as it announces."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            lead = stream.read(8)
            length = struct.unpack("<Q", lead)[0] if len(lead) == 8 else 0
            if not 2 <= length <= min(_LARGEST_SAFETENSORS_HEAD, size - 8):
                raise refused(file, "文件头损坏", "its head is damaged", hint=_FETCH_AGAIN)
            head = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        needed = 8 + length + max(ends, default=0)
    except OSError as problem:
        raise refused(file, str(problem.strerror), str(problem.strerror), hint=_FETCH_AGAIN) from problem
    except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError) as problem:
        raise refused(file, "文件头损坏", "its head is damaged", hint=_FETCH_AGAIN) from problem
    if needed != size:
        raise refused(
            file,
            f"应有 {needed:,} 字节，实为 {size:,} 字节",
            f"{needed:,} bytes are announced, {size:,} are there",
            hint=_FETCH_AGAIN,
        )
