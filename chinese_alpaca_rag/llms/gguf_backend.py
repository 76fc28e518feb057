"""llama.cpp as a ``Backend``: one model, one context, and all sequences in one store of cells."""

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
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.gguf_batch import TokenBatch
from chinese_alpaca_rag.llms.gguf_states import SequenceStates
from chinese_alpaca_rag.llms.live_sequences import LEAST_OWN, MOST, LiveSequences
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
_MAX_OUTPUTS: Final = 16
_FLASH_ATTENTION_AUTO: Final = -1
# llama.cpp's numbers of sequences: those that live (with one more, while another takes over its beginning), the
# rows of a fork, and one for states on their way in or out.
_LIVE: Final = range(MOST + 1)
_ROWS: Final = range(len(_LIVE), len(_LIVE) + MAX_ROWS)
_SCRATCH: Final = len(_LIVE) + MAX_ROWS
_SEQUENCES: Final = _SCRATCH + 1
# llama_decode's status where there are not enough free cells.
_NO_ROOM: Final = 1
# Where strlen is: the process itself, or the C library of Windows.
_C_LIBRARY: Final = "msvcrt" if sys.platform == "win32" else None


class LlamaCppBackend:
    """See ``backend.Backend``. Row ``i`` is llama.cpp's sequence ``_sequences[i]``; the live one stays beside rows.

    All sequences share one store of cells, so that what one took over from another is held and counted once.
    """

    batch = _BATCH
    max_rows = MAX_ROWS
    max_outputs = _MAX_OUTPUTS
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
        self._batch = TokenBatch(self._lib, _BATCH + MAX_ROWS, _SEQUENCES)
        self._finalizer = weakref.finalize(self, _free, self._lib, self._context, model)
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
        self.state_format = self._state_format(kv_type, loading.get("n_gpu_layers", 0))
        self._states = SequenceStates(self._lib, self._context, _SCRATCH)
        self._free_numbers = list(_LIVE)
        self._live = LiveSequences(self._free_numbers.pop(0), self._release)
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
        self._drop_rows()
        # The last id's logits have to be computed.
        wanted = np.fromiter(ids, np.int32, len(ids))[:-1]
        before = self._live.current
        sequence, kept = self._live.beginning_of(wanted)
        self._live.use(sequence)
        if len(sequence) - kept < LEAST_OWN:
            self.drop(kept)
        else:
            number = self._free_numbers.pop()
            if kept:
                self._lib.llama_memory_seq_cp(self._memory, sequence.store, number, 0, kept)
            self._live.begin(number, wanted[:kept])
        self._live.settle(before)
        return kept

    def turn_to(self, ids: Sequence[int]) -> int:
        """See ``Backend.turn_to``."""
        self._drop_rows()
        sequence, kept = self._live.beginning_of(np.fromiter(ids, np.int32, len(ids)))
        self._live.use(sequence)
        return kept

    def drop(self, position: int) -> None:
        """See ``Backend.drop``."""
        current = self._live.current
        self._lib.llama_memory_seq_rm(self._memory, current.store, position, -1)
        current.cut(position)

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        """See ``Backend.evaluate``."""
        if not 1 <= outputs <= min(len(ids), self.max_outputs):
            # llama.cpp would end the process.
            raise ValueError(f"{outputs} logits of {len(ids)} tokens")
        current = self._live.current
        held = len(current)
        self._batch.clear()
        self._batch.add(ids, held, current.store, outputs)
        status = self._decode()
        if status != 0:
            self.drop(held)
            raise self._failed(status, len(ids), held)
        current.append(ids)
        self.evaluated += len(ids)

    def logits(self, back: int = 0) -> Logits:
        """See ``Backend.logits``."""
        return self._logits_at(-1 - back)

    def snapshot(self, start: int, end: int) -> memoryview:
        """See ``Backend.snapshot``."""
        return self._states.taken(self._live.current.store, start, end)

    def restore(self, ids: Sequence[int], state: memoryview) -> bool:
        """See ``Backend.restore``."""
        current = self._live.current
        start, end = len(current), len(current) + len(ids)
        if end > self.capacity or not self._states.put(state, current.store, start, end, self._live.drop_oldest):
            return False
        current.append(ids)
        return True

    def fork(self, rows: int) -> None:
        """See ``Backend.fork``."""
        current = self._live.current
        self._sequences = list(_ROWS[:rows])
        self._lengths = [len(current)] * rows
        for sequence in self._sequences:
            self._lib.llama_memory_seq_cp(self._memory, current.store, sequence, -1, -1)

    def extend(self, rows: Sequence[Sequence[int]]) -> None:
        """See ``Backend.extend``."""
        batch = self._batch
        batch.clear()
        self._places = [-1] * len(rows)
        for row, ids in enumerate(rows):
            if ids:
                batch.add(ids, self._lengths[row], self._sequences[row], 1)
                self._places[row] = len(batch) - 1
        status = self._decode()
        if status != 0:
            held = sum(self._lengths)
            self._drop_rows()
            raise self._failed(status, len(batch), held)
        self._lengths = [length + len(ids) for length, ids in zip(self._lengths, rows, strict=True)]
        self.evaluated += len(batch)

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
        free += [sequence for sequence in _ROWS if sequence not in self._sequences]
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
        self._sequences, self._lengths, self._places = [], [], []
        self._free_numbers = list(_LIVE)
        self._live.clear(self._free_numbers.pop(0))
        self._lib.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """See ``Backend.close``."""
        self._finalizer()

    def _logits_at(self, place: int) -> Logits:
        first = self._lib.llama_get_logits_ith(self._context, place)
        values: Any = self._logits_type.from_address(ctypes.addressof(first.contents))
        logits: Logits = np.frombuffer(values, dtype=np.float32)
        return logits

    def _decode(self) -> int:
        """llama.cpp's status; cells that are missing are taken from the other live sequences."""
        while True:
            status = int(self._lib.llama_decode(self._context, self._batch.structure))
            if status != _NO_ROOM or not self._live.drop_oldest():
                return status

    def _release(self, number: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, number, -1, -1)
        self._free_numbers.append(number)

    def _drop_rows(self) -> None:
        """Back to the one sequence that was held before the fork."""
        if self._sequences:
            for sequence in _ROWS:
                self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._sequences, self._lengths, self._places = [], [], []

    def _state_format(self, kv_type: KvType, n_gpu_layers: int) -> str:
        import llama_cpp

        on_gpu = n_gpu_layers != 0 and self._lib.llama_supports_gpu_offload()
        return f"llama-cpp-python {llama_cpp.__version__}, {kv_type}, {'gpu' if on_gpu else 'cpu'}"

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
            n_seq_max=_SEQUENCES,
            kv_unified=True,
            # Not, as by default, room for the logits of a whole batch; llama.cpp wants some for each sequence.
            n_outputs_max=max(_SEQUENCES, _MAX_OUTPUTS),
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


def _free(lib: Any, context: Any, model: Any) -> None:
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
