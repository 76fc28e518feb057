"""What memory a model takes at a window, before its weights are opened, and what the machine has.

"Takes" is the growth of the process from before loading to the peak while a prompt fills the window.
The work buffers' sizes are those that llama.cpp's allocator reserves for this architecture in batches
of 512 tokens (its log's "compute buffer size"), and what was measured of PyTorch on a CPU;
``benchmarks/llms_memory.py`` holds both against processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chinese_alpaca_rag.errors import MissingExtraError
from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.weight_files import TORCH_BYTES, TorchType, WeightSize

KvType = Literal["f16", "q8_0", "q4_0"]

#: enum ggml_type.
GGML_TYPES: Final[dict[KvType, int]] = {"f16": 1, "q4_0": 2, "q8_0": 8}
#: Bytes of one element of the KV cache; the quantised types hold 32 elements in 34 and in 18 bytes.
KV_BYTES: Final[dict[KvType, float]] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
#: Bytes an element of released GGUF files: half precision, and q4_k, in which a tenth of the weights are finer.
RELEASED_BYTES: Final[dict[str, float]] = {"f16": 2.0, "q4_k": 4.85 / 8}

_BATCH: Final = 512
# llama.cpp pads a context to a multiple of this many tokens.
_CONTEXT_STEP: Final = 256
#: llama.cpp's tables of one piece of the vocabulary: its text three times over, a hash entry, score and type.
BYTES_A_PIECE: Final = 250
# transformers' cache: an eighth more than it has to hold, and at least so many tokens (llms/growing_cache.py).
_GROWTH: Final = 8
# What activations take of the heap over what they hold, because of the holes between what is still in use: measured
# on glibc, 2.3 to 3.1 for models of 50 to 300 million weights. It matters less the larger the model is.
_HEAP_HOLES: Final = 2.5


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: weights, keys and values of a full window, and work buffers (and tables of the vocabulary).

    ``loading`` is the peak while weights load, before there are keys and values. ``droppable`` of the
    weights are pages of the file that the system may take back without loss.
    """

    weights: int
    kv: int
    work: int
    loading: int = 0
    droppable: int = 0

    @property
    def total(self) -> int:
        """What the process grows by at its peak."""
        return max(self.loading, self.weights + self.kv + self.work)

    @property
    def required(self) -> int:
        """What has to be free for it to run: pages of files that the system may take back are left out."""
        return self.weights - self.droppable + self.kv + self.work


def context_length(window: int) -> int:
    """The tokens that a llama.cpp context is opened with for ``window`` tokens to be used: it pads to 256."""
    return -(-window // _CONTEXT_STEP) * _CONTEXT_STEP


def llama_cpp_need(
    card: ModelCard,
    weights: WeightSize,
    window: int,
    kv_type: KvType = "f16",
    *,
    sequences: int = 16,
    first_on_gpu: int | None = None,
) -> MemoryNeed:
    """What ``card`` takes under llama.cpp with a context of ``window`` tokens, shared by all sequences.

    ``sequences`` is how many rows of logits are held. Keys and values of layers from ``first_on_gpu``
    on are left out; the work buffers are counted as if none were there.
    """
    cells = context_length(window)
    layers = card.layers if first_on_gpu is None else min(card.layers, first_on_gpu)
    kv = card.kv_bytes_per_token(KV_BYTES[kv_type]) * cells * layers // card.layers
    tables = card.vocabulary * (BYTES_A_PIECE + 4 * sequences)
    work = _compute_buffer(card, cells, kv_type) + round(_BATCH * card.feed_forward * weights.converted)
    return MemoryNeed(weights.held, kv, work + tables, weights.loading + tables, weights.droppable)


def transformers_need(
    card: ModelCard, weights: WeightSize, window: int, dtype: TorchType, *, sequences: int = 1, batch: int = _BATCH
) -> MemoryNeed:
    """What ``card`` takes under transformers in ``dtype`` with ``sequences`` rows of ``window`` tokens each."""
    size = TORCH_BYTES[dtype]
    kv = card.kv_bytes_per_token(size) * window * sequences
    tokens = min(batch, window) * sequences
    # Gate, up, their product and the activation; the residual, its norm, the queries and the attention's output.
    activations = tokens * 4 * (card.feed_forward + card.hidden) * size
    mask = tokens * window * (1 + size)
    # Buffers are enlarged one at a time: beside the new one stands the old.
    enlarged = kv // (2 * card.layers) * (_GROWTH - 1) // _GROWTH
    logits = 2 * sequences * card.vocabulary * 4
    work = round(_HEAP_HOLES * activations) + mask + enlarged + logits
    return MemoryNeed(weights.held, kv, work, weights.loading)


def released_weights(card: ModelCard, bytes_per_element: float) -> WeightSize:
    """The size of weights that are not on this machine, counted from the card."""
    size = round(parameters(card) * bytes_per_element)
    return WeightSize(held=size, loading=size, converted=2.0)


def parameters(card: ModelCard) -> int:
    """The number of weights: embedding, output, and four attention and three feed-forward matrices a layer."""
    attention = 2 * card.hidden * card.hidden + 2 * card.hidden * card.kv_heads * card.head_dim
    layer = attention + 3 * card.hidden * card.feed_forward + 2 * card.hidden
    return 2 * card.vocabulary * card.hidden + card.layers * layer + card.hidden


def largest_window(need_at: Callable[[int], MemoryNeed], available: int, limit: int) -> int | None:
    """The most tokens, in whole steps of 256 (or ``limit`` itself), that need no more than ``available`` bytes."""
    if need_at(limit).required <= available:
        return limit
    fitting, beyond = 0, -(-limit // _CONTEXT_STEP)
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if need_at(middle * _CONTEXT_STEP).required <= available:
            fitting = middle
        else:
            beyond = middle
    return fitting * _CONTEXT_STEP or None


def available_memory() -> int | None:
    """Bytes that this process could still take: what the system has free, within the container's limit.

    Raises ``MissingExtraError`` where psutil is not installed; ``None`` where the system does not tell.
    """
    try:
        import psutil
    except ImportError as missing:
        raise MissingExtraError.for_package("psutil", "all") from missing
    try:
        free = int(psutil.virtual_memory().available)
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return min([free, *control_group_limits()])


def control_group_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Bytes left under each limit that this process's control groups (versions 1 and 2) and their parents set."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, place = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            folder, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the root is often its own group, and the place a name outside of it.
        inner = folder / place.strip("/")
        places = [inner, *inner.parents]
        for group in places[: places.index(folder) + 1] if folder in places else [folder]:
            room = _room(group, *names)
            if room is not None:
                left.append(room)
    return left


def _room(group: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    """Limit less usage; of the usage, files that were read and are not in use do not count."""
    try:
        limit = int((group / limit_name).read_text(encoding="ascii"))
        usage = int((group / usage_name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # "max", or no such group here
    try:
        statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        usage -= int(statistics.get(cache_name, 0))
    except (OSError, ValueError):
        pass
    return max(0, limit - usage)


def _compute_buffer(card: ModelCard, cells: int, kv_type: KvType) -> int:
    """llama.cpp's work area for a batch, with flash attention, in bytes.

    A mask of 2 bytes a token and cell, and f32 vectors: three of the feed-forward's width and four (with
    f16 keys) or three of the hidden width.
    """
    row, mask = _BATCH * 4, _BATCH * cells * 2
    vectors = 4 if kv_type == "f16" else 3
    return mask + row * (3 * card.feed_forward + vectors * card.hidden)
