"""transformers as a ``Backend``: one model, and a cache of keys and values for each sequence that lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.family.memory import available_memory
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.growing_cache import Room, beginning_of, growing_cache, room_of, trim
from chinese_alpaca_rag.llms.live_sequences import LEAST_OWN, LiveSequences
from chinese_alpaca_rag.llms.tensor_states import CacheStates

MAX_ROWS: Final = 64
CPU_BATCH: Final = 512
GPU_BATCH: Final = 2048
_MAX_OUTPUTS: Final = 16
# A sequence stays beside another that begins like it if it has so much more: what both have is held twice.
_LEAST_SHARE: Final = 1 / 4


class TransformersBackend:
    """See ``backend.Backend``. ``model`` is a loaded ``LlamaForCausalLM``.

    Rows of different lengths are padded on the left, each time anew for the ids that an ``extend`` brings:
    the mask says which columns of the cache a row may see, and positions count its own ids only.
    All live sequences together have memory for ``window`` tokens; without one, only the growing one lives.
    """

    max_rows = MAX_ROWS
    max_outputs = _MAX_OUTPUTS
    shares_cells = False

    def __init__(self, model: Any, window: int | None = None) -> None:
        import torch

        self._torch = torch
        self._model: Any = model
        self._device = model.device
        self.batch = CPU_BATCH if self._device.type == "cpu" else GPU_BATCH
        self.vocabulary = int(model.config.vocab_size)
        self.state_format = _state_format(torch, model)
        self._window = window
        self._states = CacheStates(torch, model)
        self._room = Room()
        self._live: LiveSequences[Any] = LiveSequences(growing_cache(self._room))
        self._last: Logits = np.empty((1, 1, 0), dtype=np.float32)
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
        if free is None:
            return None
        return int(free // 2 // self._states.token_bytes) + sum(room_of(other.store) for other in self._live.others)

    def watch(self, cancelled: Cancellation) -> None:
        """See ``Backend.watch``. Before each layer the event is looked at."""
        self._cancelled = cancelled

    def keep(self, ids: Sequence[int]) -> int:
        """See ``Backend.keep``."""
        self._drop_rows()
        self._room.tokens = len(ids)
        # The last id's logits have to be computed.
        wanted = np.fromiter(ids, np.int32, len(ids))[:-1]
        before = self._live.current
        sequence, kept = self._live.beginning_of(wanted)
        self._live.use(sequence)
        if self._stays(len(sequence), kept, len(ids)):
            self._make_room(len(sequence) + len(ids))
            with self._torch.inference_mode():
                begun = beginning_of(sequence.store, kept, self._room)
            self._live.begin(begun, wanted[:kept])
        else:
            self.drop(kept)
        self._live.settle(before)
        with self._torch.inference_mode():
            for other in self._live.others:
                trim(other.store)
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
        self._crop_layers(position)
        current.cut(position)

    def evaluate(self, ids: Sequence[int], outputs: int = 1) -> None:
        """See ``Backend.evaluate``."""
        current = self._live.current
        self._make_room(len(current) + len(ids))
        self._forward(outputs, input_ids=self._torch.tensor([list(ids)], device=self._device))
        current.append(ids)
        self.evaluated += len(ids)

    def logits(self, back: int = 0) -> Logits:
        """See ``Backend.logits``."""
        return cast("Logits", self._last[0, -1 - back])

    def snapshot(self, start: int, end: int) -> memoryview:
        """See ``Backend.snapshot``."""
        with self._torch.inference_mode():
            return self._states.taken(self._cache, start, end)

    def restore(self, ids: Sequence[int], state: memoryview) -> bool:
        """See ``Backend.restore``. A state says nothing of its place in a sequence."""
        if not self._states.fits(state, len(ids)):
            return False
        current = self._live.current
        self._make_room(len(current) + len(ids))
        self._protected(len(ids), lambda: self._states.put(self._cache, state, len(ids)))
        current.append(ids)
        return True

    def fork(self, rows: int) -> None:
        """See ``Backend.fork``. The keys and values of the prefix are held once a row from then on."""
        held = len(self._live.current)
        self._make_room(rows * held)
        if held:
            self._cache.batch_repeat_interleave(rows)
        self._lengths = [held] * rows
        self._mask = self._torch.ones((rows, held), dtype=self._torch.long, device=self._device)

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
        self._make_room(len(rows) * (self._mask.shape[1] + width))
        self._mask = torch.cat([self._mask, torch.tensor(shown, device=self._device)], dim=1)
        self._forward(
            1,
            input_ids=torch.tensor(tokens, device=self._device),
            attention_mask=self._mask,
            position_ids=torch.tensor(positions, device=self._device),
        )
        self._lengths = [length + len(ids) for length, ids in zip(self._lengths, rows, strict=True)]
        self.evaluated += sum(map(len, rows))

    def row_logits(self, row: int) -> Logits:
        """See ``Backend.row_logits``."""
        return cast("Logits", self._last[row, -1])

    def reorder(self, order: Sequence[int]) -> None:
        """See ``Backend.reorder``."""
        if list(order) == list(range(len(self._lengths))):
            return
        rows = self._torch.tensor(list(order))
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._lengths = [self._lengths[row] for row in order]

    def forget(self) -> None:
        """See ``Backend.forget``."""
        self._live.clear(growing_cache(self._room))
        self._lengths, self._mask = [], None

    def close(self) -> None:
        """See ``Backend.close``."""
        self.forget()
        self._model = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    @property
    def _cache(self) -> Any:
        return self._live.current.store

    def _forward(self, outputs: int, **inputs: Any) -> None:
        """One evaluation; ``_last`` becomes the logits after the last columns, of shape (rows, outputs, vocabulary)."""

        def evaluate() -> None:
            output = self._model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=outputs)
            self._last = output.logits.float().cpu().numpy()

        self._protected(inputs["input_ids"].shape[-1], evaluate)

    def _protected(self, tokens: int, work: Callable[[], None]) -> None:
        """Do ``work``, which appends so many tokens to the cache: whole, or not at all.

        Where memory runs out, it is tried again without the other sequences.
        """
        held = self._cache.get_seq_length()
        while True:
            try:
                with self._torch.inference_mode():
                    return work()
            except EvaluationStopped:
                # Between two layers: those before it hold the new keys and values already.
                self._crop_layers(held)
                raise
            except RuntimeError as problem:
                if "memory" not in str(problem).lower():
                    self.forget()
                    raise
                if not self._live.others:
                    self.forget()
                    raise out_of_memory(held + tokens, problem) from problem
            except BaseException:
                self.forget()
                raise
            # Not before the failed work's own tensors are gone with the exception.
            self._crop_layers(held)
            while self._live.drop_oldest():
                pass

    def _crop_layers(self, tokens: int) -> None:
        if tokens == 0:
            self._live.current.store = growing_cache(self._room)
        for layer in self._cache.layers:
            layer.crop(tokens - layer.get_seq_length())  # takes the number of tokens to remove, negative

    def _make_room(self, tokens: int) -> None:
        """See to it that the growing sequence may take memory for so many."""
        if self._window is not None:
            while tokens + sum(room_of(other.store) for other in self._live.others) > self._window:
                if not self._live.drop_oldest():
                    return

    def _stays(self, length: int, kept: int, prompt: int) -> bool:
        """Whether a sequence of so many tokens is to stay when a prompt has only the first ``kept`` of them."""
        worth_it = length - kept >= max(LEAST_OWN, _LEAST_SHARE * length)
        return worth_it and self._window is not None and length + prompt <= self._window

    def _stop_when_called_off(self, *_: Any) -> None:
        if self._cancelled.is_set():
            raise EvaluationStopped

    def _drop_rows(self) -> None:
        """Back to one sequence with what was held before the fork: the same in every row."""
        if self._lengths and len(self._live.current):
            self._cache.batch_select_indices(self._torch.tensor([0]))
            self._crop_layers(len(self._live.current))
        elif self._lengths:
            self._live.current.store = growing_cache(self._room)
        self._lengths, self._mask = [], None


def _state_format(torch: Any, model: Any) -> str:
    import transformers

    kind = str(model.dtype).removeprefix("torch.")
    return f"transformers {transformers.__version__}, torch {torch.__version__}, {kind}, {model.device.type}"


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
