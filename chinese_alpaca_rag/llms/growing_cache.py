"""Keys and values for transformers that grow in place.

transformers' own ``DynamicCache`` copies all of them at every token: half a gigabyte a layer, and more
than the attention itself, for a 7B model at 16K tokens. Here they lie in a buffer with room to spare.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

# What a full buffer is enlarged by: an eighth of what it has to hold, and at least this many tokens.
_LEAST_ROOM: Final = 256
_SHARE_OF_ROOM: Final = 8


class Room:
    """How many tokens are to come, as far as is known: a buffer is made for all of them at once."""

    def __init__(self, tokens: int = 0) -> None:
        self.tokens = tokens


def growing_cache(room: Room | None = None) -> Any:
    """An empty ``transformers`` cache for one model with full attention in every layer."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=partial(_growing_layer(), room or Room()))


def room_of(cache: Any) -> int:
    """The tokens that a growing cache has memory for, used or not."""
    return max((layer.room for layer in cache.layers), default=0)


def trim(cache: Any) -> None:
    """Give back memory of a growing cache that is not used, where that is worth copying the rest."""
    if room_of(cache) > _with_slack(cache.get_seq_length()):
        for layer in cache.layers:
            layer.trim()


def beginning_of(cache: Any, tokens: int, room: Room) -> Any:
    """A growing cache of the first ``tokens`` tokens of ``cache``, with memory of its own."""
    begun = growing_cache(room)
    for index, layer in enumerate(cache.layers if tokens else ()):
        begun.update(layer.keys[..., :tokens, :], layer.values[..., :tokens, :], index)
    return begun


def _with_slack(tokens: int) -> int:
    return tokens + max(_LEAST_ROOM, tokens // _SHARE_OF_ROOM)


@cache
def _growing_layer() -> type:
    import torch
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
        """One layer; ``keys`` and ``values`` are views of the buffers' used part (batch, heads, tokens, width)."""

        keys: Any
        values: Any

        def __init__(self, room: Room) -> None:
            super().__init__()
            self._room = room

        @property
        def room(self) -> int:
            """The tokens that the buffers hold."""
            return int(self._key_buffer.shape[-2]) if self.get_seq_length() else 0

        def trim(self) -> None:
            """Only the memory that is used."""
            self.keys, self.values = self.keys.clone(), self.values.clone()
            self._let_go()

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            """Append the new states and give all of them."""
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self._key_buffer, self._value_buffer = self.keys, self.values
            used = self.get_seq_length()
            self._key_buffer, self.keys = _append(torch, self._key_buffer, used, key_states, self._room)
            self._value_buffer, self.values = _append(torch, self._value_buffer, used, value_states, self._room)
            return self.keys, self.values

        def batch_repeat_interleave(self, repeats: int) -> None:
            """``repeats`` rows of what one row held."""
            super().batch_repeat_interleave(repeats)
            self._let_go()

        def batch_select_indices(self, indices: Any) -> None:
            """Only the rows of ``indices``, in their order."""
            super().batch_select_indices(indices)
            self._let_go()

        def _let_go(self) -> None:
            """Keys and values are copies now: what the buffers held is free."""
            if self.is_initialized:
                self._key_buffer, self._value_buffer = self.keys, self.values

    return GrowingLayer


def _append(torch: Any, buffer: Any, used: int, states: Any, room: Room) -> tuple[Any, Any]:
    """A buffer with ``states`` behind its first ``used`` tokens, enlarged if need be, and a view of them all."""
    needed = used + states.shape[-2]
    if buffer.dim() != states.dim() or buffer.shape[-2] < needed:
        larger = torch.empty(
            (*states.shape[:-2], _with_slack(max(needed, room.tokens)), states.shape[-1]),
            dtype=states.dtype,
            device=states.device,
        )
        if used:
            larger[..., :used, :] = buffer[..., :used, :]
        buffer = larger
    buffer[..., used:needed, :] = states
    return buffer, buffer[..., :needed, :]
