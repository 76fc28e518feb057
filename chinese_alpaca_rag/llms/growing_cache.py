"""Keys and values for transformers that grow in place.

transformers' own ``DynamicCache`` copies all of them at every token: half a gigabyte a layer, and more
than the attention itself, for a 7B model at 16K tokens. Here they lie in a buffer with room to spare.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

# What a full buffer is enlarged by: an eighth of what it has to hold, and at least this many tokens.
_LEAST_ROOM: Final = 256
_SHARE_OF_ROOM: Final = 8


def growing_cache() -> Any:
    """An empty ``transformers`` cache for one model with full attention in every layer."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=_growing_layer())


@cache
def _growing_layer() -> type:
    import torch
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
        """One layer; ``keys`` and ``values`` are views of the buffers' used part (batch, heads, tokens, width)."""

        keys: Any
        values: Any

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            """Append the new states and give all of them."""
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self._key_buffer, self._value_buffer = self.keys, self.values
            used = self.get_seq_length()
            self._key_buffer, self.keys = _append(torch, self._key_buffer, used, key_states)
            self._value_buffer, self.values = _append(torch, self._value_buffer, used, value_states)
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


def _append(torch: Any, buffer: Any, used: int, states: Any) -> tuple[Any, Any]:
    """A buffer with ``states`` behind its first ``used`` tokens, enlarged if need be, and a view of them all."""
    needed = used + states.shape[-2]
    if buffer.dim() != states.dim() or buffer.shape[-2] < needed:
        room = max(_LEAST_ROOM, needed // _SHARE_OF_ROOM)
        larger = torch.empty(
            (*states.shape[:-2], needed + room, states.shape[-1]), dtype=states.dtype, device=states.device
        )
        if used:
            larger[..., :used, :] = buffer[..., :used, :]
        buffer = larger
    buffer[..., used:needed, :] = states
    return buffer, buffer[..., :needed, :]
