"""transformers as a ``Backend``: one model, and the keys and values of one sequence or of several rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.family.memory import available_memory
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits, common_prefix
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.growing_cache import growing_cache

MAX_ROWS: Final = 64
CPU_BATCH: Final = 512
GPU_BATCH: Final = 2048


class TransformersBackend:
    """See ``backend.Backend``. ``model`` is a loaded ``LlamaForCausalLM``.

    Rows of different lengths are padded on the left, each time anew for the ids that an ``extend`` brings:
    the mask says which columns of the cache a row may see, and positions count its own ids only.
    """

    max_rows = MAX_ROWS
    shares_cells = False

    def __init__(self, model: Any) -> None:
        import torch

        self._torch = torch
        self._model: Any = model
        self._device = model.device
        self.batch = CPU_BATCH if self._device.type == "cpu" else GPU_BATCH
        self.vocabulary = int(model.config.vocab_size)
        self._cache: Any = growing_cache()
        self._held: list[int] = []
        self._last: Logits = np.empty((1, 0), dtype=np.float32)
        self._mask: Any = None
        self._lengths: list[int] = []
        self.evaluated = 0
        self._cancelled = Cancellation()
        for layer in model.model.layers:
            layer.register_forward_pre_hook(self._stop_when_called_off)

    @property
    def capacity(self) -> int | None:
        """See ``Backend.capacity``: what half of the memory that is free now holds, beside what is held already."""
        free = self._torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else available_memory()
        config = self._model.config
        width = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
        token = 2 * config.num_hidden_layers * width * self._model.dtype.itemsize
        return None if free is None else free // 2 // token

    def watch(self, cancelled: Cancellation) -> None:
        """See ``Backend.watch``. Before each layer the event is looked at."""
        self._cancelled = cancelled

    def keep(self, ids: Sequence[int]) -> int:
        """See ``Backend.keep``."""
        if self._lengths:
            self._drop_rows()
        kept = common_prefix(self._held, ids)
        if kept == 0:
            self._cache = growing_cache()
        else:
            self._cache.crop(kept - len(self._held))  # takes the number of tokens to remove, negative
        del self._held[kept:]
        return kept

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        """See ``Backend.evaluate``."""
        self.evaluated += len(ids)
        self._forward(input_ids=self._torch.tensor([list(ids)], device=self._device))
        self._held.extend(ids)

    def logits(self) -> Logits:
        """See ``Backend.logits``."""
        return cast("Logits", self._last[0])

    def fork(self, rows: int) -> None:
        """See ``Backend.fork``. The keys and values of the prefix are held once a row from then on."""
        if self._held:
            self._cache.batch_repeat_interleave(rows)
        self._lengths = [len(self._held)] * rows
        self._mask = self._torch.ones((rows, len(self._held)), dtype=self._torch.long, device=self._device)

    def extend(self, rows: Sequence[Sequence[int]]) -> None:
        """See ``Backend.extend``."""
        torch = self._torch
        width = max(map(len, rows))
        paddings = [width - len(ids) for ids in rows]
        tokens = [[0] * padding + list(ids) for padding, ids in zip(paddings, rows, strict=True)]
        shown = [[0] * padding + [1] * len(ids) for padding, ids in zip(paddings, rows, strict=True)]
        positions = [
            [0] * padding + list(range(length, length + len(ids)))
            for padding, length, ids in zip(paddings, self._lengths, rows, strict=True)
        ]
        self._mask = torch.cat([self._mask, torch.tensor(shown, device=self._device)], dim=1)
        self._forward(
            input_ids=torch.tensor(tokens, device=self._device),
            attention_mask=self._mask,
            position_ids=torch.tensor(positions, device=self._device),
        )
        self._lengths = [length + len(ids) for length, ids in zip(self._lengths, rows, strict=True)]

    def row_logits(self, row: int) -> Logits:
        """See ``Backend.row_logits``."""
        return cast("Logits", self._last[row])

    def reorder(self, order: Sequence[int]) -> None:
        """See ``Backend.reorder``."""
        if list(order) == list(range(len(self._lengths))):
            return
        rows = self._torch.tensor(list(order), device=self._device)
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._lengths = [self._lengths[row] for row in order]

    def forget(self) -> None:
        """See ``Backend.forget``."""
        self._cache, self._held, self._lengths, self._mask = growing_cache(), [], [], None

    def close(self) -> None:
        """See ``Backend.close``."""
        self._model = self._cache = self._mask = None
        self._held, self._lengths = [], []
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def _forward(self, **inputs: Any) -> None:
        """One evaluation; ``_last`` becomes the logits after the last column, of shape (rows, vocabulary)."""
        columns = self._cache.get_seq_length()
        try:
            with self._torch.inference_mode():
                output = self._model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
                self._last = output.logits[:, -1].float().cpu().numpy()
        except EvaluationStopped:
            # Between two layers: those before it hold the new keys and values already.
            for layer in self._cache.layers:
                layer.crop(columns - layer.get_seq_length())
            if columns == 0:
                self._cache = growing_cache()
            raise
        except BaseException as problem:
            held = len(self._held)
            self.forget()
            if isinstance(problem, RuntimeError) and "memory" in str(problem).lower():
                raise out_of_memory(held + inputs["input_ids"].shape[-1], problem) from problem
            raise

    def _stop_when_called_off(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise EvaluationStopped

    def _drop_rows(self) -> None:
        """Back to one sequence with what was held before the fork: the same in every row."""
        if self._held:
            beyond = self._cache.get_seq_length() - len(self._held)
            self._cache.batch_select_indices(self._torch.tensor([0], device=self._device))
            self._cache.crop(-beyond)
        self._lengths, self._mask = [], None


def out_of_memory(tokens: int, problem: Exception) -> ModelError:
    """The error for memory that ran out at ``tokens`` tokens."""
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
