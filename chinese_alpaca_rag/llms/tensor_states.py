"""Keys and values of a part of a transformers cache, as a safetensors file in memory and back.

Its tensors are ``keys.0``, ``values.0``, ``keys.1`` and so on, each of shape (1, heads, tokens, width).
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from chinese_alpaca_rag.llms.state_buffers import StateBuffers

_TYPES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Where tensors begin, so that they can be used where they lie.
_ALIGNMENT: Final = 8


class CacheStates:
    """The states of growing caches of ``model``."""

    def __init__(self, torch: Any, model: Any) -> None:
        self._torch = torch
        config = model.config
        self._heads = int(config.num_key_value_heads)
        self._width = int(config.hidden_size // config.num_attention_heads)
        self._dtype = model.dtype
        # Weights that accelerate moves about have no place of their own.
        places = [next(layer.parameters()).device for layer in model.model.layers]
        self._places = [model.device if place.type == "meta" else place for place in places]
        self._buffers = StateBuffers()

    @property
    def token_bytes(self) -> int:
        """What a token's keys and values take, in bytes."""
        return 2 * len(self._places) * self._heads * self._width * int(self._dtype.itemsize)

    def taken(self, cache: Any, start: int, end: int) -> memoryview:
        """The keys and values of the tokens ``start`` to ``end`` (exclusive) of ``cache``."""
        header = self._header(end - start)
        state = self._buffers.take(len(header) + (end - start) * self.token_bytes)
        state[: len(header)] = header
        for layer, (keys, values) in zip(cache.layers, self._tensors(state, len(header), end - start), strict=True):
            keys.copy_(layer.keys[..., start:end, :])
            values.copy_(layer.values[..., start:end, :])
        return state

    def fits(self, state: memoryview, tokens: int) -> bool:
        """Whether the state is of so many tokens of this model, as far as its names, types and sizes tell."""
        header = self._header(tokens)
        size = len(header) + tokens * self.token_bytes
        return state.nbytes == size and state[: len(header)] == header

    def put(self, cache: Any, state: memoryview, tokens: int) -> None:
        """Append a state that fits to ``cache``."""
        start = len(self._header(tokens))
        if np.frombuffer(state, np.uint8).ctypes.data % _ALIGNMENT:
            aligned = self._buffers.take(state.nbytes)
            aligned[:] = state
            state = aligned
        for index, (keys, values) in enumerate(self._tensors(state, start, tokens)):
            cache.update(keys.to(self._places[index]), values.to(self._places[index]), index)

    def _tensors(self, state: memoryview, start: int, tokens: int) -> Iterator[tuple[Any, Any]]:
        """Each layer's keys and values where they lie, behind ``start`` bytes of the state."""
        # PyTorch warns of memory that is not to be written to, whether it is written or not.
        memory = (ctypes.c_uint8 * state.nbytes).from_address(np.frombuffer(state, np.uint8).ctypes.data)
        whole = self._torch.frombuffer(memory, dtype=self._dtype, offset=start)
        shape = (len(self._places), 2, 1, self._heads, tokens, self._width)
        yield from whole.view(shape)

    def _header(self, tokens: int) -> bytes:
        """What stands before the tensors: the length of the JSON that follows, and that."""
        shape = [1, self._heads, tokens, self._width]
        size = tokens * self.token_bytes // len(self._places) // 2
        names = [f"{kind}.{layer}" for layer in range(len(self._places)) for kind in ("keys", "values")]
        kind = _TYPES[str(self._dtype).removeprefix("torch.")]
        entries = {
            name: {"dtype": kind, "shape": shape, "data_offsets": [place * size, (place + 1) * size]}
            for place, name in enumerate(names)
        }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text
