"""Reading a LoRA adapter in PEFT's form: ``adapter_config.json`` and the head of ``adapter_model.safetensors``.

Settings are PEFT's ``LoraConfig``. One that changes the result is either applied (rank, alpha, rsLoRA,
patterns, layers) or refused; one that this module does not know is refused unless it is empty.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.adapter import PROJECTIONS, Adapter, LoraPair
from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.checkpoint import path_name
from chinese_alpaca_rag.family.figures import check_safetensors, read_json, refused
from chinese_alpaca_rag.language import Words

WEIGHTS: Final = "adapter_model.safetensors"

# What trains, names or records, and what is read below: none of it changes the result by being passed over.
_KNOWN: Final = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "ephemeral_gpu_offload",
        "inference_mode",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "merge_weights",
        "modules_to_save",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "use_rslora",
    }
)
# What has to have one of these values where it is said.
_USUAL: Final[dict[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none", None),
    "layers_pattern": ("layers", ["layers"], None, []),
    # The other ways of starting (PiSSA, OLoRA, CorDA, LoftQ) change the base's weights as well.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
_LINEAR: Final = r"(?:model\.layers\.(?:0|[1-9]\d{0,3})\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)|lm_head)"
_PAIR: Final = re.compile(rf"(?:base_model\.model\.)?({_LINEAR})\.lora_([AB])(?:\.default)?\.weight", re.ASCII)
_SAVED: Final = re.compile(
    r"(?:base_model\.model\.)?"
    r"(model\.embed_tokens|lm_head|model\.norm|model\.layers\.(?:0|[1-9]\d{0,3})\.(?:input|post_attention)_layernorm)"
    r"(?:\.modules_to_save(?:\.default)?)?\.weight",
    re.ASCII,
)
_PLAIN_NAME: Final = re.compile(r"[\w.]+", re.ASCII)
_FLOATS: Final = frozenset({"F32", "F16", "BF16"})


def read(folder: Path, *, card: ModelCard | None) -> Adapter:
    """The adapter in ``folder``; ``card`` is what the catalogue knows by its name. Raises ``CheckpointError``."""
    config = read_json(folder / "adapter_config.json")
    _refuse_unknown(folder, config)
    pairs, saved = _read_tensors(folder)
    targets, layers = _targets(folder, config), _layers(folder, config)
    alpha = _number(folder, "lora_alpha", config.get("lora_alpha", 8))
    _check_saved_modules(folder, config, saved)
    return Adapter(
        path=folder,
        format="hf",
        name=path_name(folder).rpartition("/")[2],
        card=card,
        base=str(config.get("base_model_name_or_path") or ""),
        rank=int(_number(folder, "r", config.get("r", 8))),
        alpha=alpha,
        pairs=_scaled(folder, config, pairs, alpha),
        saved=saved,
        targets=targets,
        layers=layers,
        brings_tokenizer=any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json")),
    )


def tensor_name(key: str) -> tuple[str, Literal["A", "B", ""]] | None:
    """The module and side of a pair's tensor, or the name of a replaced tensor and ""; ``None`` for others."""
    pair = _PAIR.fullmatch(key)
    if pair:
        return pair[1], "A" if pair[2] == "A" else "B"
    saved = _SAVED.fullmatch(key)
    return (f"{saved[1]}.weight", "") if saved else None


def _refuse_unknown(folder: Path, config: Mapping[str, Any]) -> None:
    if "peft_type" not in config:
        raise _unknown(folder, "peft_type", None)
    for key, value in config.items():
        if key in _USUAL:
            if not any(value == usual and type(value) is type(usual) for usual in _USUAL[key]):
                raise _unknown(folder, key, value)
        elif key not in _KNOWN and value not in (None, False, [], {}, ""):
            raise _unknown(folder, key, value)


def _read_tensors(folder: Path) -> tuple[dict[str, tuple[int, int, int]], dict[str, tuple[int, ...]]]:
    """(outputs, inputs, rank) by module, and the shapes of what is replaced as a whole."""
    sides: dict[tuple[str, str], tuple[int, ...]] = {}
    saved: dict[str, tuple[int, ...]] = {}
    for key, shape in _safetensors_shapes(folder).items():
        named = tensor_name(key)
        if named is None:
            raise _wrong_tensor(folder, key, "不认识的张量", "a tensor that is not known here")
        module, side = named
        known: dict[Any, tuple[int, ...]] = sides if side else saved
        place: Any = (module, side) if side else module
        if place in known:
            raise _wrong_tensor(folder, key, "出现两次", "a tensor that stands twice")
        known[place] = shape
    pairs: dict[str, tuple[int, int, int]] = {}
    for module in sorted({module for module, _ in sides}):
        a, b = sides.get((module, "A"), ()), sides.get((module, "B"), ())
        if not a or not b:
            raise _wrong_tensor(folder, module, "缺少 A 或 B", "the pair lacks its A or its B")
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
            raise _wrong_tensor(folder, module, f"形状 {a} 与 {b} 不符", f"shapes {a} and {b} do not fit each other")
        pairs[module] = (b[0], a[1], a[0])
    if not pairs and not saved:
        raise refused(folder, "没有任何张量", "it holds no tensor")
    return pairs, saved


def _safetensors_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    file = folder / WEIGHTS
    if not file.is_file():
        raise _no_weights(folder)
    check_safetensors(file)
    with file.open("rb") as stream:
        head = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    shapes: dict[str, tuple[int, ...]] = {}
    for key, entry in head.items():
        if key == "__metadata__":
            continue
        shape = entry.get("shape")
        if entry.get("dtype") not in _FLOATS:
            raise _wrong_tensor(folder, key, f"类型 {entry.get('dtype')}", f"a tensor of type {entry.get('dtype')}")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise _wrong_tensor(folder, key, f"形状 {shape}", f"a tensor of shape {shape}")
        shapes[key] = tuple(shape)
    return shapes


def _targets(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The target modules' names; ``None`` for a pattern, where the tensors themselves say which they are."""
    stated = config.get("target_modules")
    if stated == "all-linear":
        return PROJECTIONS
    if stated is None or isinstance(stated, str):
        return None
    if not isinstance(stated, list) or not all(isinstance(name, str) and name for name in stated):
        raise _unknown(folder, "target_modules", stated)
    return tuple(stated)


def _layers(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...] | None:
    stated = config.get("layers_to_transform")
    if stated is None or stated == []:
        return None
    layers = stated if isinstance(stated, list) else [stated]
    if not all(type(layer) is int and layer >= 0 for layer in layers):
        raise _unknown(folder, "layers_to_transform", stated)
    return tuple(layers)


def _scaled(
    folder: Path, config: Mapping[str, Any], pairs: Mapping[str, tuple[int, int, int]], alpha: float
) -> dict[str, LoraPair]:
    ranks = _pattern(folder, config, "rank_pattern")
    alphas = _pattern(folder, config, "alpha_pattern")
    root = config.get("use_rslora", False)
    if not isinstance(root, bool):
        raise _unknown(folder, "use_rslora", root)
    default_rank = _number(folder, "r", config.get("r", 8))
    result: dict[str, LoraPair] = {}
    for module, (outputs, inputs, rank) in pairs.items():
        stated = _of_module(ranks, module, default_rank)
        if stated != rank:
            raise _wrong_tensor(
                folder, module, f"秩为 {rank}，应为 {stated:g}", f"of rank {rank} instead of {stated:g}"
            )
        own = _of_module(alphas, module, alpha)
        result[module] = LoraPair(inputs, outputs, rank, own / (math.sqrt(rank) if root else rank))
    return result


def _pattern(folder: Path, config: Mapping[str, Any], key: str) -> dict[str, float]:
    """Ranks or alphas by plain names; PEFT would take regular expressions, which a file could make endless."""
    stated = config.get(key) or {}
    if not isinstance(stated, dict) or not all(_PLAIN_NAME.fullmatch(str(name)) for name in stated):
        raise _unknown(folder, key, stated)
    return {name: _number(folder, key, value) for name, value in stated.items()}


def _of_module(pattern: Mapping[str, float], module: str, default: float) -> float:
    return next((value for name, value in pattern.items() if f".{module}".endswith(f".{name}")), default)


def _check_saved_modules(folder: Path, config: Mapping[str, Any], saved: Mapping[str, tuple[int, ...]]) -> None:
    stated = config.get("modules_to_save") or []
    if not isinstance(stated, list) or not all(isinstance(name, str) and name for name in stated):
        raise _unknown(folder, "modules_to_save", stated)
    for name in stated:
        if not any(f".{tensor}".endswith(f".{name}.weight") for tensor in saved):
            raise _wrong_tensor(folder, name, "modules_to_save 中有，文件中没有", "named in modules_to_save, not there")
    for tensor in saved:
        if not any(f".{tensor}".endswith(f".{name}.weight") for name in stated):
            raise _wrong_tensor(folder, tensor, "不在 modules_to_save 中", "there, but not named in modules_to_save")


def _number(folder: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise _unknown(folder, key, value)
    return float(value)


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in folder.glob(pattern))
    if not pickles:
        return refused(
            folder,
            f"没有 {WEIGHTS}",
            f"it holds no {WEIGHTS}",
            hint=Words(zh="请重新下载该适配器。", en="Fetch the adapter again."),
        )
    return refused(
        folder,
        f"权重是 pickle 文件（{pickles[0]}），打开时会执行其中的代码，一律不读",
        f"its weights are a pickle ({pickles[0]}), which runs code when opened",
        hint=Words(
            zh=f"请下载 safetensors 版本；或在可信的环境中用 torch.load(…, weights_only=True) 读出，"
            f"再用 safetensors.torch.save_file 存为 {WEIGHTS}。",
            en="Fetch the safetensors form; or, where you trust the file, read it with "
            f"torch.load(..., weights_only=True) and write {WEIGHTS} with safetensors.torch.save_file.",
        ),
    )


def _unknown(folder: Path, key: str, value: object) -> CheckpointError:
    shown = repr(value)[:80]
    return refused(
        folder,
        f"不支持 LoRA 设置 {key}={shown}",
        f"the LoRA setting {key}={shown} is not applied here",
        hint=Words(
            zh="请先用 PEFT 把该适配器合并进权重（merge_and_unload），再加载合并后的模型。",
            en="Merge the adapter into the weights with PEFT (merge_and_unload), and load the merged model.",
        ),
    )


def _wrong_tensor(folder: Path, key: str, zh: str, en: str) -> CheckpointError:
    return refused(
        folder,
        f"{key[:120]}：{zh}",
        f"{key[:120]}: {en}",
        hint=Words(zh="请重新下载该适配器。", en="Fetch the adapter again."),
    )
