"""Reading a LoRA adapter in GGUF: its settings and the shapes of its tensors, before llama.cpp sees it.

llama.cpp ends the process at a setting of the wrong type, passes over tensors of norms, and applies an
adapter without alpha at full strength: such files are refused here. Its key names are those of
``convert_lora_to_gguf.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.adapter import Adapter, LoraPair
from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.checkpoint import path_name
from chinese_alpaca_rag.family.figures import refused
from chinese_alpaca_rag.family.gguf_header import GgufTensor, read_gguf_header
from chinese_alpaca_rag.language import Words

_ALPHA: Final = "adapter.lora.alpha"
_FLOAT32_VALUE: Final = 6
# ggml_type: F32, F16, Q8_0, BF16, which llama.cpp can multiply an adapter's matrices in.
_TENSOR_TYPES: Final = frozenset({0, 1, 8, 30})
_TENSOR: Final = re.compile(r"(?:blk\.(0|[1-9]\d{0,3})\.(\w+)|(output))\.weight\.lora_([ab])", re.ASCII)
_MODULES: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read(file: Path, *, card: ModelCard | None) -> Adapter:
    """The adapter in ``file``; ``card`` is what the catalogue knows by its name. Raises ``CheckpointError``."""
    header = read_gguf_header(file)
    values = header.values
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")):
        if values.get(key) != wanted:
            raise refused(
                file, f"{key} 是 {values.get(key)}，不是 {wanted}", f"its {key} is {values.get(key)}, not {wanted}"
            )
    if any(key.startswith("adapter.alora.") for key in (*values, *header.lengths)):
        raise refused(file, "不支持 aLoRA", "it is an aLoRA, which is not applied here")
    alpha = values.get(_ALPHA)
    if not isinstance(alpha, float) or header.kinds.get(_ALPHA) != _FLOAT32_VALUE or not 0 < alpha < math.inf:
        raise refused(file, f"{_ALPHA} 为 {alpha}", f"its {_ALPHA} is {alpha}")
    pairs = _pairs(file, header.tensors, alpha)
    return Adapter(
        path=file,
        format="gguf",
        name=str(values.get("general.name") or path_name(file)),
        card=card,
        base=str(values.get("general.base_model.0.name") or values.get("general.base_model.0.repo_url") or ""),
        rank=max(pair.rank for pair in pairs.values()),
        alpha=alpha,
        pairs=pairs,
    )


def _pairs(file: Path, tensors: Sequence[GgufTensor], alpha: float) -> dict[str, LoraPair]:
    """The pairs by module; GGUF gives a matrix's shape as (inputs, outputs)."""
    sides: dict[tuple[str, str], tuple[int, ...]] = {}
    for tensor in tensors:
        name, shape, kind = tensor.name, tensor.shape, tensor.kind
        named = _TENSOR.fullmatch(name)
        part = "" if named is None else "lm_head" if named[3] else _MODULES.get(named[2], "")
        if named is None or not part:
            raise _unknown_tensor(file, name)
        if kind not in _TENSOR_TYPES or len(shape) != 2:
            raise refused(file, f"{name} 的类型或形状不对", f"{name} is of type {kind} and shape {shape}")
        sides[part if named[3] else f"model.layers.{named[1]}.{part}", named[4]] = shape
    pairs: dict[str, LoraPair] = {}
    for module in sorted({module for module, _ in sides}):
        a, b = sides.get((module, "a")), sides.get((module, "b"))
        if a is None or b is None or a[1] != b[0] or not b[0]:
            raise refused(file, f"{module} 的 A、B 不成对", f"the A {a} and B {b} of {module} are no pair")
        pairs[module] = LoraPair(inputs=a[0], outputs=b[1], rank=b[0], scale=alpha / b[0])
    if not pairs:
        raise refused(file, "没有任何张量", "it holds no tensor")
    return pairs


def _unknown_tensor(file: Path, name: str) -> CheckpointError:
    return refused(
        file,
        f"llama.cpp 不会正确应用张量 {name[:80]}（词嵌入、归一化层和词表不能用 GGUF 适配器修改）",
        f"llama.cpp would not apply its tensor {name[:80]} rightly: embeddings, norms and a vocabulary "
        "cannot be changed by a GGUF adapter",
        hint=Words(
            zh="请先把该 LoRA 合并进权重，再转换为 GGUF。",
            en="Merge the LoRA into the weights and convert those to GGUF.",
        ),
    )
