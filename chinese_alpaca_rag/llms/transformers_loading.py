"""Opening transformers folders: one function, ``load_transformers``, and what each of its options means.

Nothing is left to the folder but its weights: RoPE comes from the plan, attention and types from the
caller, and code, kernels, adapters, quantisation and generation settings that it may hold have no say.
"""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from chinese_alpaca_rag.errors import AlpacaRagError, CheckpointError, MissingExtraError, ModelError, WrongUsageError
from chinese_alpaca_rag.family.adapter import Adapter, adapted, read_adapter
from chinese_alpaca_rag.family.checkpoint import Checkpoint, read_checkpoint
from chinese_alpaca_rag.family.memory import MemoryNeed, available_memory
from chinese_alpaca_rag.family.preflight import require_memory
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.huggingface_backend import CPU_BATCH, GPU_BATCH
from chinese_alpaca_rag.llms.loading_progress import Progress, silent_bars
from chinese_alpaca_rag.llms.lora_merging import merge_adapter
from chinese_alpaca_rag.llms.torch_devices import DeviceMap, find_device, placement
from chinese_alpaca_rag.offline import stay_offline

TorchType = Literal["auto", "float32", "float16", "bfloat16"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Quantization = Literal["8bit", "4bit"]

# What of config.json is handed on. RoPE and window come from the plan, and nothing else that a file may hold (code,
# kernels, types of attention) has a say.
_HANDED_ON: Final = frozenset(
    {
        "attention_bias",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "mlp_bias",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "tie_word_embeddings",
        "vocab_size",
    }
)
# The part of the progress that reading the weights is, where an adapter is merged afterwards.
_BEFORE_MERGING: Final = 0.8


def load_transformers(
    checkpoint: Checkpoint,
    plan: RopePlan,
    *,
    device: str = "auto",
    device_map: DeviceMap = None,
    dtype: TorchType = "auto",
    attention: Attention = "auto",
    quantization: Quantization | None = None,
    lora_path: Path | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Any:
    """The ``LlamaForCausalLM`` in the folder ``checkpoint.path``, ready to be evaluated under ``plan``.

    ``device``: where it is evaluated and takes its ids, in PyTorch's words; "auto" is a GPU where there is one.
    ``device_map``: ``None`` is all on ``device``; "auto" spreads it over the GPUs that there are (on a
    machine without one, or with ``device="cpu"``, it is the CPU); a dict of module names to devices is
    followed. ``dtype``: "auto" is the checkpoint's own on a GPU and float32 on a CPU.
    ``attention``: "auto" is FlashAttention-2 where the package is installed and a GPU computes in half
    precision, otherwise "sdpa". ``quantization`` (CUDA only, by bitsandbytes): "8bit" is LLM.int8, "4bit" NF4.
    ``lora_path``: a PEFT folder, merged into the weights (quantised weights keep it beside them);
    ``checkpoint`` may be the base or what ``family.adapter.adapted`` made of it.
    ``on_progress`` is called with rising numbers from 0.0 to 1.0; what it raises ends the loading, frees
    what was loaded and is raised here. Raises ``WrongUsageError`` for options that do not go together or with the
    machine, ``MissingExtraError``, ``CheckpointError`` for damaged or foreign files, ``ModelError`` out of memory.
    """
    torch, transformers = libraries()
    place = find_device(torch, device)
    folder = checkpoint.path
    stated = _read_config(folder)
    refuse_what_changes_weights(folder, stated)
    adapter = _fitting_adapter(folder, lora_path, stated)
    weight_type = find_dtype(torch, dtype, place, stated, quantization)
    options = {
        "dtype": weight_type,
        "attn_implementation": find_attention(torch, transformers, attention, place, weight_type),
        "device_map": placement(torch, device_map, place),
        **_quantized(torch, transformers, quantization, device=place, device_map=device_map, dtype=weight_type),
    }
    if device_map is None or place.type == "cpu":
        free = _free_memory(torch, place)
        _require_memory(checkpoint, plan, free, device=place, dtype=weight_type, quantization=quantization)
    progress = Progress(on_progress)
    try:
        progress.report(0.0)
        with silent_bars(transformers, progress, until=_BEFORE_MERGING if adapter else 1.0):
            model = _read_weights(transformers, folder, plan, stated, options)
        if adapter is not None:
            model = merge_adapter(torch, model, adapter, beside=quantization is not None)
        progress.report(1.0)
        return model.eval()
    except BaseException as problem:
        model = None
        # The frames of the traceback hold what was loaded for as long as somebody holds the exception.
        _forget_frames(problem)
        if problem is progress.raised or isinstance(problem, AlpacaRagError) or not isinstance(problem, Exception):
            raise
        raise _translated(torch, folder, problem) from problem


def memory_and_need(
    checkpoint: Checkpoint,
    plan: RopePlan,
    *,
    device: str,
    device_map: DeviceMap,
    dtype: TorchType,
    quantization: Quantization | None,
) -> tuple[MemoryNeed, int | None] | None:
    """What ``load_transformers`` takes, and the bytes that are free on its device; ``None`` for several devices."""
    torch, _ = libraries()
    place = find_device(torch, device)
    if device_map is not None and place.type != "cpu":
        return None
    weight_type = find_dtype(torch, dtype, place, _read_config(checkpoint.path), quantization)
    need = _require_memory(checkpoint, plan, sys.maxsize, device=place, dtype=weight_type, quantization=quantization)
    return need, _free_memory(torch, place) or available_memory()


def _free_memory(torch: Any, device: Any) -> int | None:
    """The free bytes of a GPU; ``None`` for the machine's own memory."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def _require_memory(
    checkpoint: Checkpoint,
    plan: RopePlan,
    available: int | None,
    *,
    device: Any,
    dtype: Any,
    quantization: Quantization | None,
) -> MemoryNeed:
    """Raise ``NotEnoughMemoryError`` where weights and window do not fit the one device."""
    return require_memory(
        checkpoint,
        plan,
        dtype=str(dtype).removeprefix("torch."),  # type: ignore[arg-type]  # one of the names of TorchType
        quantization=quantization,
        available=available,
        batch=GPU_BATCH if device.type == "cuda" else CPU_BATCH,
    )


def libraries() -> tuple[Any, Any]:
    """PyTorch and transformers, the network switched off before the latter looks."""
    stay_offline(keep_tracing=True)
    try:
        import torch
        import transformers
    except ImportError as missing:
        raise MissingExtraError.for_package("transformers", "hf") from missing
    return torch, transformers


def refuse_what_changes_weights(folder: Path, stated: Mapping[str, Any]) -> None:
    """Leave nothing to transformers that it would do unasked: load an adapter, unpack a quantisation."""
    if (folder / "adapter_config.json").exists():
        remedy = Words(
            zh="请把适配器移到单独的目录，用 lora_path= 指定。",
            en="Move the adapter into a folder of its own and name that with lora_path=.",
        )
        raise damaged(folder, "adapter_config.json", remedy)
    if stated.get("quantization_config"):
        remedy = Words(
            zh="请使用未量化的权重（可在加载时量化：quantization=），或 GGUF 版本。",
            en="Use the plain weights (quantization= packs them while they load), or a GGUF form.",
        )
        raise damaged(folder, "quantization_config", remedy)
    shards = next(folder.glob("shard-*.safetensors"), None)
    if shards is not None:  # transformers would read these in place of the weights that were checked
        raise damaged(folder, shards.name)


def find_dtype(
    torch: Any, dtype: TorchType, device: Any, stated: Mapping[str, Any], quantization: Quantization | None = None
) -> Any:
    """The type of weights (under quantisation: of what is not quantised, and of the arithmetic)."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    if quantization == "8bit":  # LLM.int8 computes in float16 whatever it is given
        return torch.float16
    if quantization == "4bit":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    own = stated.get("dtype") or stated.get("torch_dtype") or "float16"
    return getattr(torch, own) if own in ("float32", "float16", "bfloat16") else torch.float16


def find_attention(torch: Any, transformers: Any, attention: Attention, device: Any, dtype: Any) -> str:
    """The implementation that is meant, in transformers' words. Raises where FlashAttention-2 cannot be."""
    half = dtype in (torch.float16, torch.bfloat16)
    if attention == "auto":
        possible = device.type == "cuda" and half and transformers.utils.is_flash_attn_2_available()
        return "flash_attention_2" if possible else "sdpa"
    if attention in ("sdpa", "eager"):
        return attention
    if attention != "flash_attention_2":  # transformers would look a strange name up on the hub, and run what it finds
        raise WrongUsageError(
            Words(zh=f"attention 不能是 {attention!r}。", en=f"attention cannot be {attention!r}."),
            hint=Words(
                zh="用 'auto'、'sdpa'、'flash_attention_2' 或 'eager'。",
                en="Use 'auto', 'sdpa', 'flash_attention_2' or 'eager'.",
            ),
        )
    if device.type != "cuda" or not half:
        zh, en = f"{device.type}、{dtype}", f"{device.type} and {dtype}"
        raise WrongUsageError(
            Words(
                zh=f"FlashAttention-2 需要 NVIDIA GPU 和半精度，而这里是 {zh}。",
                en=f"FlashAttention-2 needs an NVIDIA GPU and half precision; this is {en}.",
            ),
            hint=Words(
                zh="请用 attention='sdpa'，或 device='cuda'、dtype='bfloat16'。",
                en="Use attention='sdpa', or device='cuda' with dtype='bfloat16'.",
            ),
        )
    if not transformers.utils.is_flash_attn_2_available():
        raise MissingExtraError(
            Words(zh="没有安装 flash-attn。", en="flash-attn is not installed."),
            hint=Words(
                zh="请运行：pip install flash-attn --no-build-isolation；或用 attention='sdpa'。",
                en="Run: pip install flash-attn --no-build-isolation; or use attention='sdpa'.",
            ),
        )
    return attention


def damaged(folder: Path, reason: str, remedy: Words | None = None) -> CheckpointError:
    """The error for a folder that cannot be loaded."""
    return CheckpointError(
        Words(zh=f"无法加载 {folder}：{reason}", en=f"{folder} cannot be loaded: {reason}"),
        hint=remedy or Words(zh="请重新下载该模型。", en="Fetch the model again."),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        stated = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise damaged(folder, f"config.json: {problem}") from problem
    if not isinstance(stated, dict):
        raise damaged(folder, "config.json")
    return stated


def _fitting_adapter(folder: Path, lora_path: Path | None, stated: Mapping[str, Any]) -> Adapter | None:
    if lora_path is None:
        return None
    adapter = read_adapter(lora_path)
    adapted(read_checkpoint(folder), adapter)
    if adapter.vocabulary is not None and stated.get("tie_word_embeddings"):
        remedy = Words(zh="请先把它合并进权重。", en="Merge it into the weights first.")
        raise damaged(lora_path, "tie_word_embeddings", remedy)
    return adapter


def _quantized(
    torch: Any,
    transformers: Any,
    quantization: Quantization | None,
    *,
    device: Any,
    device_map: DeviceMap,
    dtype: Any,
) -> dict[str, Any]:
    """from_pretrained's ``quantization_config``, or nothing."""
    if quantization is None:
        return {}
    if quantization not in ("8bit", "4bit"):
        raise WrongUsageError(
            Words(zh=f"quantization 不能是 {quantization!r}。", en=f"quantization cannot be {quantization!r}."),
            hint=Words(zh="用 '8bit' 或 '4bit'。", en="Use '8bit' or '4bit'."),
        )
    elsewhere = isinstance(device_map, dict) and any(str(part) in ("cpu", "mps") for part in device_map.values())
    if device.type != "cuda" or elsewhere:
        on = "cpu" if elsewhere else device.type
        raise WrongUsageError(
            Words(
                zh=f"{quantization} 量化（bitsandbytes）需要 NVIDIA GPU，而这里是 {on}。",
                en=f"{quantization} quantisation (bitsandbytes) needs an NVIDIA GPU; this is {on}.",
            ),
            hint=Words(
                zh="在 CPU 上请用量化的 GGUF 版本（如 q4_k、q8_0）和 ChatAlpacaGGUF。",
                en="On a CPU use a quantised GGUF form (q4_k, q8_0) with ChatAlpacaGGUF.",
            ),
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError.for_package("bitsandbytes", "cuda")
    if quantization == "8bit":
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        compute = dtype if dtype != torch.float32 else torch.bfloat16
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute,
            bnb_4bit_use_double_quant=True,
        )
    return {"quantization_config": config}


def _read_weights(
    transformers: Any, folder: Path, plan: RopePlan, stated: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    config = transformers.LlamaConfig(
        **{name: value for name, value in stated.items() if name in _HANDED_ON},
        max_position_embeddings=plan.window,
        rope_parameters=plan.for_transformers(),
    )
    model, report = transformers.LlamaForCausalLM.from_pretrained(
        folder,
        config=config,
        generation_config=transformers.GenerationConfig(),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    # transformers fills what is missing with random numbers and goes on.
    wrong = [*report["missing_keys"], *report["mismatched_keys"], *report["unexpected_keys"]]
    if wrong:
        raise damaged(folder, f"{len(wrong)} tensors do not fit, such as {wrong[0]}")
    return model


def _translated(torch: Any, folder: Path, problem: Exception) -> Exception:
    """``problem`` in this package's words."""
    words = str(problem).lower()
    starved = isinstance(problem, RuntimeError) and "memory" in words and "alloc" in words
    if isinstance(problem, MemoryError | torch.OutOfMemoryError) or starved:
        return ModelError(
            Words(zh=f"加载 {folder} 时内存或显存不足：{problem}", en=f"Memory ran out loading {folder}: {problem}"),
            hint=Words(
                zh="请用 dtype='bfloat16'、GPU 上的 quantization='4bit'，或量化的 GGUF 版本。",
                en="Use dtype='bfloat16', quantization='4bit' on a GPU, or a quantised GGUF form.",
            ),
        )
    return damaged(folder, str(problem) or type(problem).__name__)


def _forget_frames(problem: BaseException | None) -> None:
    """Empty the finished frames that ``problem`` and what led to it hold, and what they held in cycles."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        traceback.clear_frames(problem.__traceback__)
        problem = problem.__cause__ or problem.__context__
    gc.collect()
