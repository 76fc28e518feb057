"""``ChatAlpacaGGUF``: GGUF files through llama.cpp.

It stands on llama-cpp-python's bindings of ``llama.h`` and not on its ``Llama`` class. That class
compiles the prompt template that it finds in a file (these files are untrusted, and the family's
template is known), ignores arguments that it does not know, closes the process's standard output while
it loads, and holds the logits of a whole batch (113 MB with this vocabulary).
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelError
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits, common_prefix
from chinese_alpaca_rag.llms.core import ChatAlpaca
from chinese_alpaca_rag.llms.processors import physical_cores

KvType = Literal["f32", "f16", "q8_0", "q4_0"]

_BATCH: Final = 512
# llama.cpp pads a context to a multiple of this many tokens; saying so keeps both sides' count the same.
_CONTEXT_STEP: Final = 256
_ALL_LAYERS: Final = 0x7FFFFFFF
_FLASH_ATTENTION_AUTO: Final = -1
# enum ggml_type.
_GGML_TYPES: Final[dict[KvType, int]] = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
# ggml_log_level to logging's; everything else (debugging, and lines continued) is for debugging.
_LOG_LEVELS: Final = {2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}

_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())
_complaints: deque[str] = deque(maxlen=8)
_keep_alive: list[Any] = []


class ChatAlpacaGGUF(ChatAlpaca):
    """A GGUF file of the family as a LangChain chat model, evaluated by llama.cpp.

    ::

        model = ChatAlpacaGGUF(model_path="chinese-alpaca-2-7b-16k.gguf", window=16384)
        model.invoke("你好")

    Keys and values of a prompt stay between calls: a prompt that begins as the one before is evaluated
    from where it differs (``usage_metadata["input_token_details"]["cache_read"]`` tells how much that saved).
    """

    backend_format: ClassVar[Literal["gguf", "hf"]] = "gguf"

    n_threads: int = Field(default_factory=physical_cores, ge=1, frozen=True)
    """Threads that evaluate; by default one for each physical core."""
    n_gpu_layers: int = Field(default=0, ge=-1, frozen=True)
    """Layers to put on the GPU, where llama.cpp was built for one; -1 is all."""
    kv_type: KvType = Field(default="f16", frozen=True)
    """How keys and values are held. q8_0 takes 53 % and q4_0 28 % of f16's memory."""

    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> LlamaCppBackend:
        return LlamaCppBackend(
            checkpoint.path,
            plan,
            n_threads=self.n_threads,
            n_gpu_layers=self.n_gpu_layers,
            kv_type=self.kv_type,
        )


class LlamaCppBackend:
    """One llama.cpp model with one context of one sequence. See ``backend.Backend``."""

    batch = _BATCH

    def __init__(self, path: Path, plan: RopePlan, *, n_threads: int, n_gpu_layers: int, kv_type: KvType) -> None:
        self._lib = _library()
        model = self._open_model(path, n_gpu_layers)
        try:
            self._context = self._open_context(model, plan, n_threads, kv_type)
        except ModelError:
            self._lib.llama_model_free(model)
            raise
        self._memory = self._lib.llama_get_memory(self._context)
        vocabulary = self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(model))
        self._logits_type = ctypes.c_float * vocabulary
        self._held = np.empty(context_length(plan.window), dtype=np.int32)
        self._held_count = 0
        self._finalizer = weakref.finalize(self, _free, self._lib, self._context, model)
        # At the process's end the system takes everything back; a daemon thread may still be evaluating then.
        self._finalizer.atexit = False

    def keep(self, ids: Sequence[int]) -> int:
        """See ``Backend.keep``."""
        kept = common_prefix(self._held[: self._held_count], ids)
        self._drop_from(kept)
        return kept

    def evaluate(self, ids: Sequence[int]) -> None:
        """See ``Backend.evaluate``."""
        tokens = np.asarray(ids, dtype=np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        # The batch leaves positions out: llama.cpp counts on from what the sequence holds.
        status = self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(pointer, len(tokens)))
        if status != 0:
            self._drop_from(self._held_count)
            raise _evaluation_failed(status, len(tokens), self._held_count)
        self._held[self._held_count : self._held_count + len(tokens)] = tokens
        self._held_count += len(tokens)

    def logits(self) -> Logits:
        """See ``Backend.logits``."""
        first = self._lib.llama_get_logits_ith(self._context, -1)
        values = self._logits_type.from_address(ctypes.addressof(first.contents))
        return np.frombuffer(values, dtype=np.float32)

    def close(self) -> None:
        """See ``Backend.close``."""
        self._finalizer()

    def _drop_from(self, position: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, 0, position, -1)
        self._held_count = position

    def _open_model(self, path: Path, n_gpu_layers: int) -> Any:
        parameters = self._lib.llama_model_default_params()
        parameters.n_gpu_layers = _ALL_LAYERS if n_gpu_layers == -1 else n_gpu_layers
        _complaints.clear()
        model = self._lib.llama_model_load_from_file(str(path).encode(), parameters)
        if model is None:
            reason = " ".join(_complaints) or "llama_model_load_from_file"
            raise CheckpointError(
                Words(zh=f"llama.cpp 无法加载 {path}：{reason}", en=f"llama.cpp cannot load {path}: {reason}"),
                hint=Words(
                    zh="请重新下载该文件；若格式较旧，请用 llama.cpp 重新转换。",
                    en="Fetch the file again; if its format is old, convert it again with llama.cpp.",
                ),
            )
        return model

    def _open_context(self, model: Any, plan: RopePlan, n_threads: int, kv_type: KvType) -> Any:
        parameters = self._lib.llama_context_default_params()
        _set_fields(
            parameters,
            n_ctx=context_length(plan.window),
            n_batch=_BATCH,
            n_ubatch=_BATCH,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            type_k=_GGML_TYPES[kv_type],
            type_v=_GGML_TYPES[kv_type],
            # Wherever the device can: without it a 16K prompt takes a gigabyte of scores, and quantised values need it.
            flash_attn_type=_FLASH_ATTENTION_AUTO,
            **plan.for_llama_cpp(),
        )
        _complaints.clear()
        context = self._lib.llama_init_from_model(model, parameters)
        if context is None:
            reason = " ".join(_complaints) or "llama_init_from_model"
            raise ModelError(
                Words(
                    zh=f"llama.cpp 无法打开 {plan.window} 个词元的窗口：{reason}",
                    en=f"llama.cpp cannot open a window of {plan.window} tokens: {reason}",
                ),
                hint=Words(
                    zh="若是内存不足，请用更小的窗口，或 kv_type='q8_0'。",
                    en="If memory ran out, use a smaller window, or kv_type='q8_0'.",
                ),
            )
        return context


def context_length(window: int) -> int:
    """The tokens that a context is opened with for ``window`` tokens to be used."""
    return -(-window // _CONTEXT_STEP) * _CONTEXT_STEP


def _set_fields(structure: Any, **values: Any) -> None:
    """Set fields of a C structure; ctypes would silently accept a name that the structure does not have."""
    known = {name for name, *_ in structure._fields_}
    for name, value in values.items():
        if name not in known:
            raise ModelError(
                Words(
                    zh=f"这个版本的 llama-cpp-python 没有参数 {name}。",
                    en=f"This version of llama-cpp-python has no parameter {name}.",
                ),
                hint=Words(
                    zh="请运行：pip install 'chinese-alpaca-rag[gguf]'",
                    en="Run: pip install 'chinese-alpaca-rag[gguf]'",
                ),
            )
        setattr(structure, name, value)


def _free(lib: Any, context: Any, model: Any) -> None:
    lib.llama_free(context)
    lib.llama_model_free(model)


def _library() -> Any:
    """llama-cpp-python's bindings, with llama.cpp's log sent to this module's logger. Imported once."""
    try:
        from llama_cpp import llama_cpp
    except ImportError as missing:
        raise MissingExtraError.for_package("llama-cpp-python", "gguf") from missing
    if not _keep_alive:
        callback = llama_cpp.llama_log_callback(_log)
        _keep_alive.append(callback)
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
    return llama_cpp


def _log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if not line:
        return
    if _LOG_LEVELS.get(level, 0) >= logging.WARNING:
        _complaints.append(line)
    _logger.log(_LOG_LEVELS.get(level, logging.DEBUG), line)


def _evaluation_failed(status: int, tokens: int, held: int) -> ModelError:
    return ModelError(
        Words(
            zh=f"llama.cpp 计算失败（代码 {status}，已有 {held} 个词元，新增 {tokens} 个）。",
            en=f"llama.cpp could not evaluate {tokens} tokens after {held} (status {status}).",
        ),
        hint=Words(
            zh="请用更小的窗口重试；若仍失败，请重新下载权重。",
            en="Try a smaller window; if it still fails, fetch the weights again.",
        ),
    )
