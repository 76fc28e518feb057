"""``ChatAlpacaGGUF`` and ``AlpacaGGUF``: GGUF files through llama.cpp.

They stand on llama-cpp-python's bindings of ``llama.h`` and not on its ``Llama`` class. That class
compiles the prompt template that it finds in a file (these files are untrusted, and the family's
template is known), ignores arguments that it does not know, closes the process's standard output while
it loads, and holds the logits of a whole batch (113 MB with this vocabulary).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field

from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.memory import KvType, MemoryNeed, available_memory, context_length
from chinese_alpaca_rag.family.preflight import require_memory
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.llms.completion import Alpaca
from chinese_alpaca_rag.llms.gguf_backend import MAX_ROWS, MAX_THREADS, LlamaCppBackend
from chinese_alpaca_rag.llms.llama_cpp_loading import library
from chinese_alpaca_rag.llms.local import LocalModel
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.processors import physical_cores


class GgufModel(LocalModel):
    """What is said of loading a GGUF file."""

    backend_format: ClassVar[Literal["gguf", "hf"]] = "gguf"
    max_rows: ClassVar[int] = MAX_ROWS
    loading_fields: ClassVar[tuple[str, ...]] = ("kv_type", "n_gpu_layers")
    opening_fields: ClassVar[tuple[str, ...]] = ("n_threads", "use_mmap", "use_mlock")

    batch_size: int = Field(default=MAX_ROWS, le=MAX_ROWS)
    """The most prompts that ``batch`` evaluates side by side, where the window holds them all; 8 at most."""
    n_threads: int = Field(default_factory=physical_cores, ge=1, le=MAX_THREADS, frozen=True)
    """Threads that evaluate; by default one for each physical core."""
    n_gpu_layers: int = Field(default=0, ge=-1, frozen=True)
    """Layers to put on the GPU, where llama.cpp was built for one; -1 is all."""
    kv_type: KvType = Field(default="f16", frozen=True)
    """How keys and values are held. q8_0 takes 53 % and q4_0 28 % of f16's memory."""
    use_mmap: bool = Field(default=True, frozen=True)
    """Whether the file is mapped into memory instead of read."""
    use_mlock: bool = Field(default=False, frozen=True)
    """Whether the weights are kept from being swapped out."""
    on_progress: Callable[[float], None] | None = Field(default=None, exclude=True, repr=False, frozen=True)
    """Is told 0.0 to 1.0 while weights load; what it raises stops the loading and is raised by the call."""

    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> LlamaCppBackend:
        self._require_memory(checkpoint, plan)
        return LlamaCppBackend(
            checkpoint.path,
            plan,
            n_threads=self.n_threads,
            kv_type=self.kv_type,
            lora_path=self.lora_path,
            n_gpu_layers=self.n_gpu_layers,
            use_mmap=self.use_mmap,
            use_mlock=self.use_mlock,
            on_progress=self.on_progress,
        )

    def _require_memory(self, checkpoint: Checkpoint, plan: RopePlan, available: int | None = None) -> MemoryNeed:
        return require_memory(
            checkpoint,
            plan,
            available=available,
            kv_type=self.kv_type,
            n_gpu_layers=self.n_gpu_layers if library().llama_supports_gpu_offload() else 0,
            mapped=self.use_mmap,
            locked=self.use_mlock,
        )

    def _memory(self) -> tuple[MemoryNeed, int | None]:
        return self._require_memory(self.checkpoint, self.rope, sys.maxsize), available_memory()

    def _cells(self) -> int:
        return context_length(self.window)


class ChatAlpacaGGUF(GgufModel, LocalChat):
    """A GGUF file of the family as a LangChain chat model, evaluated by llama.cpp.

    ::

        model = ChatAlpacaGGUF(model_path="chinese-alpaca-2-7b-16k.gguf", window=16384)
        model.invoke("你好")

    Keys and values of a prompt stay between calls: a prompt that begins as the one before is evaluated
    from where it differs (``usage_metadata["input_token_details"]["cache_read"]`` tells how much that saved).
    """


class AlpacaGGUF(GgufModel, Alpaca):
    """A GGUF file of the family that continues text: for base models, and for raw prompts.

    ::

        AlpacaGGUF(model_path="chinese-llama-2-7b.gguf").invoke("长江是")
    """
