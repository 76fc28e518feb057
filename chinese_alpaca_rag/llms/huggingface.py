"""``ChatAlpacaHF``: transformers checkpoints (safetensors only) through PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelError, WrongUsageError
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits, common_prefix
from chinese_alpaca_rag.llms.core import ChatAlpaca
from chinese_alpaca_rag.llms.growing_cache import growing_cache
from chinese_alpaca_rag.offline import stay_offline

TorchType = Literal["auto", "float32", "float16", "bfloat16"]

_CPU_BATCH: Final = 512
_GPU_BATCH: Final = 2048
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


class ChatAlpacaHF(ChatAlpaca):
    """A transformers folder of the family as a LangChain chat model.

    ::

        model = ChatAlpacaHF(model_path="chinese-alpaca-2-7b-64k", window=32768)
        model.invoke("你好")

    transformers' own tokenizer is not used: it cuts Chinese text differently from the SentencePiece
    model that the family was trained with.
    """

    backend_format: ClassVar[Literal["gguf", "hf"]] = "hf"

    device: str = Field(default="auto", frozen=True)
    """Where it is evaluated, in PyTorch's words; "auto" is a GPU where there is one."""
    dtype: TorchType = Field(default="auto", frozen=True)
    """The type of weights and keys. "auto" is the checkpoint's own on a GPU and float32 on a CPU, where
    half precision is slower on most machines; bfloat16 halves the memory (and on processors with AMX or
    AVX512-BF16 is quick as well)."""

    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> TransformersBackend:
        return TransformersBackend(checkpoint.path, plan, device=self.device, dtype=self.dtype)


class TransformersBackend:
    """One transformers model with the keys and values of one sequence. See ``backend.Backend``."""

    def __init__(self, folder: Path, plan: RopePlan, *, device: str, dtype: TorchType) -> None:
        self._torch, transformers = _libraries()
        self._device = _device(self._torch, device)
        self._model: Any = _load_model(self._torch, transformers, folder, plan, device=self._device, dtype=dtype)
        self._cache: Any = growing_cache()
        self._held: list[int] = []
        self._last: Logits = np.empty(0, dtype=np.float32)

    @property
    def batch(self) -> int:
        """See ``Backend.batch``."""
        return _CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH

    def keep(self, ids: Sequence[int]) -> int:
        """See ``Backend.keep``."""
        kept = common_prefix(self._held, ids)
        if kept == 0:
            self._cache = growing_cache()
        else:
            self._cache.crop(kept - len(self._held))  # takes the number of tokens to remove, negative
        del self._held[kept:]
        return kept

    def evaluate(self, ids: Sequence[int]) -> None:
        """See ``Backend.evaluate``."""
        torch = self._torch
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.tensor([list(ids)], device=self._device),
                    past_key_values=self._cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                self._last = output.logits[0, -1].float().cpu().numpy()
        except BaseException as problem:
            # Whatever broke in (Ctrl-C, too): some layers may hold the new keys and others not.
            held = len(self._held)
            self._cache, self._held = growing_cache(), []
            if isinstance(problem, RuntimeError) and "memory" in str(problem).lower():
                raise _out_of_memory(held + len(ids), problem) from problem
            raise
        self._held.extend(ids)

    def logits(self) -> Logits:
        """See ``Backend.logits``."""
        return self._last

    def close(self) -> None:
        """See ``Backend.close``."""
        self._model = self._cache = None
        self._held = []
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()


def _load_model(torch: Any, transformers: Any, folder: Path, plan: RopePlan, *, device: Any, dtype: TorchType) -> Any:
    config_file = folder / "config.json"
    stated: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    _refuse_what_changes_weights(folder, stated)
    config = transformers.LlamaConfig(
        **{name: value for name, value in stated.items() if name in _HANDED_ON},
        max_position_embeddings=plan.window,
        rope_parameters=plan.for_transformers(),
    )
    try:
        with _without_progress_bars(transformers):
            model, report = transformers.LlamaForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=_dtype(torch, dtype, device, stated),
                attn_implementation="sdpa",
                device_map={"": device} if device.type != "cpu" else None,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except torch.OutOfMemoryError as problem:
        raise _out_of_memory(0, problem) from problem
    except (OSError, ValueError, RuntimeError, KeyError) as problem:
        raise _damaged(folder, str(problem)) from problem
    # transformers fills what is missing with random numbers and goes on.
    wrong = [*report["missing_keys"], *report["mismatched_keys"], *report["unexpected_keys"]]
    if wrong:
        raise _damaged(folder, f"{len(wrong)} tensors do not fit, such as {wrong[0]}")
    return model.eval()


def _refuse_what_changes_weights(folder: Path, stated: dict[str, Any]) -> None:
    """Leave nothing to transformers that it would do unasked: load an adapter, unpack a quantisation."""
    if (folder / "adapter_config.json").exists():
        remedy = Words(zh="请先把 LoRA 合并进权重。", en="Merge the LoRA into the weights first.")
        raise _damaged(folder, "adapter_config.json", remedy)
    if stated.get("quantization_config"):
        remedy = Words(zh="请使用未量化的权重，或 GGUF 版本。", en="Use the plain weights, or a GGUF form.")
        raise _damaged(folder, "quantization_config", remedy)


def _dtype(torch: Any, dtype: TorchType, device: Any, stated: dict[str, Any]) -> Any:
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cpu":
        return torch.float32
    own = stated.get("dtype") or stated.get("torch_dtype") or "float16"
    return getattr(torch, own) if own in ("float32", "float16", "bfloat16") else torch.float16


def _device(torch: Any, device: str) -> Any:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as problem:
        raise WrongUsageError(
            Words(zh=f"没有名为“{device}”的设备。", en=f"There is no device called “{device}”."),
            hint=Words(zh="可用：auto、cpu、cuda、cuda:0、mps。", en="Use auto, cpu, cuda, cuda:0 or mps."),
        ) from problem


def _libraries() -> tuple[Any, Any]:
    """PyTorch and transformers, the network switched off before the latter looks."""
    stay_offline(keep_tracing=True)
    try:
        import torch
        import transformers
    except ImportError as missing:
        raise MissingExtraError.for_package("transformers", "hf") from missing
    return torch, transformers


@contextmanager
def _without_progress_bars(transformers: Any) -> Iterator[None]:
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _damaged(folder: Path, reason: str, remedy: Words | None = None) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"无法加载 {folder}：{reason}", en=f"{folder} cannot be loaded: {reason}"),
        hint=remedy or Words(zh="请重新下载该模型。", en="Fetch the model again."),
    )


def _out_of_memory(tokens: int, problem: Exception) -> ModelError:
    return ModelError(
        Words(
            zh=f"内存或显存不足（到 {tokens} 个词元时）：{problem}",
            en=f"Memory ran out at {tokens} tokens: {problem}",
        ),
        hint=Words(
            zh="请用更小的窗口、dtype='bfloat16'，或量化的 GGUF 版本。",
            en="Use a smaller window, dtype='bfloat16', or a quantised GGUF form.",
        ),
    )
