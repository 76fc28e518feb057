"""``ChatAlpacaHF`` and ``AlpacaHF``: transformers checkpoints (safetensors only) through PyTorch.

transformers' own tokenizer is not used: it cuts Chinese text differently from the SentencePiece
model that the family was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field

from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.memory import MemoryNeed
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.llms.completion import Alpaca
from chinese_alpaca_rag.llms.huggingface_backend import MAX_ROWS, TransformersBackend
from chinese_alpaca_rag.llms.local import LocalModel
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.torch_devices import DeviceMap
from chinese_alpaca_rag.llms.transformers_loading import (
    Attention,
    Quantization,
    TorchType,
    load_transformers,
    memory_and_need,
)


class TransformersModel(LocalModel):
    """What is said of loading a transformers folder."""

    backend_format: ClassVar[Literal["gguf", "hf"]] = "hf"
    max_rows: ClassVar[int] = MAX_ROWS
    loading_fields: ClassVar[tuple[str, ...]] = ("device", "dtype", "attention", "quantization")
    opening_fields: ClassVar[tuple[str, ...]] = ("device_map",)

    device: str = Field(default="auto", frozen=True)
    """Where it is evaluated, in PyTorch's words; "auto" is a GPU where there is one."""
    device_map: DeviceMap = Field(default=None, frozen=True)
    """How layers are spread over several devices, in accelerate's words ("auto", or a dict); ``None``: one device."""
    dtype: TorchType = Field(default="auto", frozen=True)
    """The type of weights and keys. "auto" is the checkpoint's own on a GPU and float32 on a CPU, where
    half precision is slower on most machines; bfloat16 halves the memory (and on processors with AMX or
    AVX512-BF16 is quick as well)."""
    attention: Attention = Field(default="auto", frozen=True)
    """How attention is computed. "auto": FlashAttention-2 where it is installed and fits, else PyTorch's sdpa."""
    quantization: Quantization | None = Field(default=None, frozen=True)
    """"8bit" or "4bit" weights through bitsandbytes, on NVIDIA GPUs."""
    on_progress: Callable[[float], None] | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """Is told 0.0 to 1.0 while weights load; what it raises stops the loading and is raised by the call."""

    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> TransformersBackend:
        return TransformersBackend(
            load_transformers(
                checkpoint,
                plan,
                device=self.device,
                device_map=self.device_map,
                dtype=self.dtype,
                attention=self.attention,
                quantization=self.quantization,
                lora_path=self.lora_path,
                on_progress=self.on_progress,
            ),
            window=plan.window,
        )

    def _memory(self) -> tuple[MemoryNeed, int | None] | None:
        return memory_and_need(
            self.checkpoint,
            self.rope,
            device=self.device,
            device_map=self.device_map,
            dtype=self.dtype,
            quantization=self.quantization,
        )


class ChatAlpacaHF(TransformersModel, LocalChat):
    """A transformers folder of the family as a LangChain chat model.

    ::

        model = ChatAlpacaHF(model_path="chinese-alpaca-2-7b-64k", window=32768)
        model.invoke("你好")
    """


class AlpacaHF(TransformersModel, Alpaca):
    """A transformers folder of the family that continues text: for base models, and for raw prompts.

    ::

        AlpacaHF(model_path="chinese-llama-2-7b").invoke("长江是")
    """
