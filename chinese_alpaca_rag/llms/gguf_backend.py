"""llama.cpp as a ``Backend``: one model, one context, up to ``max_rows`` sequences in one store of cells."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.family.memory import GGML_TYPES, KvType, context_length
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits, common_prefix
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.llama_cpp_loading import (
    complaints,
    library,
    load_adapter,
    open_model,
    set_adapters,
    set_fields,
)

MAX_ROWS: Final = 8
#: ggml's own limit (GGML_MAX_N_THREADS): with far more it ends the process.
MAX_THREADS: Final = 512
_BATCH: Final = 512
_FLASH_ATTENTION_AUTO: Final = -1
# Where strlen is: the process itself, or the C library of Windows.
_C_LIBRARY: Final = "msvcrt" if sys.platform == "win32" else None


class LlamaCppBackend:
    """See ``backend.Backend``. Row ``i`` is llama.cpp's sequence ``_sequences[i]``; the first is always 0 until a fork.

    All sequences share one store of cells, so that what they have in common is held and counted once.
    """

    batch = _BATCH
    max_rows = MAX_ROWS
    shares_cells = True

    def __init__(
        self,
        path: Path,
        plan: RopePlan,
        *,
        n_threads: int,
        kv_type: KvType = "f16",
        lora_path: Path | None = None,
        **loading: Any,
    ) -> None:
        """``loading`` goes to ``open_model``. The adapter at ``lora_path`` is laid over the model."""
        self._lib = library()
        model = open_model(path, **loading)
        try:
            adapter = load_adapter(self._lib, model, lora_path) if lora_path else None
            self._context = self._open_context(model, plan, n_threads, kv_type)
        except ModelError:
            self._lib.llama_model_free(model)
            raise
        self._batch = self._lib.llama_batch_init(_BATCH + MAX_ROWS, 0, 1)
        self._finalizer = weakref.finalize(self, _free, self._lib, self._context, model, self._batch)
        # At the process's end the system takes everything back; a daemon thread may still be evaluating then.
        self._finalizer.atexit = False
        if adapter is not None:
            set_adapters(self._lib, self._context, [adapter])
        # bool f(void *), called between operations. A Python function would wait for the interpreter's lock each
        # time; that C text of the flag has a length as soon as it is set.
        self._is_set = ctypes.cast(ctypes.CDLL(_C_LIBRARY).strlen, self._lib.ggml_abort_callback)
        self._cancelled: Cancellation | None = None
        self._flags: tuple[Cancellation | None, ...] = ()
        self._memory = self._lib.llama_get_memory(self._context)
        self.vocabulary = int(self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(model)))
        self._logits_type = ctypes.c_float * self.vocabulary
        self.capacity = context_length(plan.window)
        self._held = np.empty(self.capacity, dtype=np.int32)
        self._held_count = 0
        self._sequences: list[int] = []
        self._lengths: list[int] = []
        self.evaluated = 0
        self._places: list[int] = []

    def watch(self, cancelled: Cancellation) -> None:
        """See ``Backend.watch``. Between two operations llama.cpp looks at the flag, on a CPU."""
        if cancelled is not self._cancelled:
            # Whichever of the two the library looks at when something breaks in here, it has to be there.
            self._flags = (self._cancelled, cancelled)
            self._lib.llama_set_abort_callback(self._context, self._is_set, ctypes.addressof(cancelled.flag))
            self._cancelled = cancelled

    def keep(self, ids: Sequence[int]) -> int:
        """See ``Backend.keep``."""
        if self._sequences:
            self._drop_rows()
        kept = common_prefix(self._held[: self._held_count], ids)
        self._drop_from(kept)
        return kept

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        """See ``Backend.evaluate``."""
        self.evaluated += len(ids)
        tokens = np.asarray(ids, dtype=np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        # The batch leaves positions out: llama.cpp counts on from what the sequence holds.
        status = self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(pointer, len(tokens)))
        if status != 0:
            self._drop_from(self._held_count)
            raise self._failed(status, len(tokens), self._held_count)
        self._held[self._held_count : self._held_count + len(tokens)] = tokens
        self._held_count += len(tokens)

    def logits(self) -> Logits:
        """See ``Backend.logits``."""
        return self._logits_at(-1)

    def fork(self, rows: int) -> None:
        """See ``Backend.fork``."""
        self._sequences = list(range(rows))
        self._lengths = [self._held_count] * rows
        for sequence in self._sequences[1:]:
            self._lib.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)

    def extend(self, rows: Sequence[Sequence[int]]) -> None:
        """See ``Backend.extend``."""
        batch, count = self._batch, 0
        self._places = [-1] * len(rows)
        for row, ids in enumerate(rows):
            for offset, index in enumerate(ids):
                batch.token[count] = index
                batch.pos[count] = self._lengths[row] + offset
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = self._sequences[row]
                batch.logits[count] = offset == len(ids) - 1
                count += 1
            if ids:
                self._places[row] = count - 1
        batch.n_tokens = count
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            held = sum(self._lengths)
            self._drop_rows()
            raise self._failed(status, count, held)
        self._lengths = [length + len(ids) for length, ids in zip(self._lengths, rows, strict=True)]

    def row_logits(self, row: int) -> Logits:
        """See ``Backend.row_logits``."""
        return self._logits_at(self._places[row])

    def reorder(self, order: Sequence[int]) -> None:
        """See ``Backend.reorder``. The first child of a row inherits its sequence; the others get copies."""
        free = [sequence for row, sequence in enumerate(self._sequences) if row not in order]
        for sequence in free:
            self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        inherited: set[int] = set()
        sequences = []
        free += [sequence for sequence in range(MAX_ROWS) if sequence not in self._sequences]
        for row in order:
            sequence = self._sequences[row]
            if row in inherited:
                copy = free.pop(0)
                self._lib.llama_memory_seq_cp(self._memory, sequence, copy, -1, -1)
                sequence = copy
            inherited.add(row)
            sequences.append(sequence)
        self._lengths = [self._lengths[row] for row in order]
        self._sequences = sequences

    def forget(self) -> None:
        """See ``Backend.forget``."""
        self._sequences, self._lengths, self._places, self._held_count = [], [], [], 0
        self._lib.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """See ``Backend.close``."""
        self._finalizer()

    def _logits_at(self, place: int) -> Logits:
        first = self._lib.llama_get_logits_ith(self._context, place)
        values: Any = self._logits_type.from_address(ctypes.addressof(first.contents))
        logits: Logits = np.frombuffer(values, dtype=np.float32)
        return logits

    def _drop_from(self, position: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, 0, position, -1)
        self._held_count = position

    def _drop_rows(self) -> None:
        """Back to one sequence, 0, with what was held before the fork."""
        if 0 not in self._sequences:
            # Every row begins with what was held before; whichever is left gives it back.
            self._lib.llama_memory_seq_cp(self._memory, self._sequences[0], 0, -1, -1)
        for sequence in range(1, MAX_ROWS):
            self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._sequences, self._lengths, self._places = [], [], []
        self._drop_from(self._held_count)

    def _failed(self, status: int, tokens: int, held: int) -> Exception:
        called_off = self._cancelled is not None and self._cancelled.is_set()
        return EvaluationStopped() if called_off else _evaluation_failed(status, tokens, held)

    def _open_context(self, model: Any, plan: RopePlan, n_threads: int, kv_type: KvType) -> Any:
        parameters = self._lib.llama_context_default_params()
        set_fields(
            parameters,
            n_ctx=context_length(plan.window),
            n_batch=_BATCH + MAX_ROWS,
            n_ubatch=_BATCH,
            n_seq_max=MAX_ROWS,
            kv_unified=True,
            # Logits of the last id of each row, and not, as by default, room for those of a whole batch.
            n_outputs_max=MAX_ROWS,
            n_threads=n_threads,
            n_threads_batch=n_threads,
            type_k=GGML_TYPES[kv_type],
            type_v=GGML_TYPES[kv_type],
            # Wherever the device can: without it a 16K prompt takes a gigabyte of scores, and quantised values need it.
            flash_attn_type=_FLASH_ATTENTION_AUTO,
            **plan.for_llama_cpp(),
        )
        complaints.clear()
        context = self._lib.llama_init_from_model(model, parameters)
        if context is None:
            reason = " ".join(complaints) or "llama_init_from_model"
            raise ModelError(
                Words(
                    zh=f"llama.cpp 无法打开 {plan.window} 个词元的窗口：{reason}",
                    en=f"llama.cpp cannot open a window of {plan.window} tokens: {reason}",
                ),
                hint=Words(zh="请用更小的窗口，或 kv_type='q8_0'。", en="Use a smaller window, or kv_type='q8_0'.")
                if kv_type == "f16"
                else Words(zh="请用 kv_type='f16'，或更小的窗口。", en="Use kv_type='f16', or a smaller window."),
            )
        return context


def _free(lib: Any, context: Any, model: Any, batch: Any) -> None:
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)


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
