"""What a person may read about the store: small frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class SpaceFacts:
    """What is shown of the weights and options that blocks were computed with; no part of their names.

    ``format`` is ``gguf`` or ``hf``, ``kv_type`` the type of keys and values, ``window`` is in tokens.
    """

    model: str
    format: str
    kv_type: str
    window: int
    rope: str = ""


@dataclass(frozen=True)
class PrefixEntry:
    """One beginning of a prompt that is kept, to its last block; ``digest`` is a short name of it in hex.

    ``tokens`` is its length; ``bytes`` what removing it would free, ``total_bytes`` with what others share with it.
    ``labels`` are those of its blocks in the order of the text, each once.
    """

    model: str
    format: str
    kv_type: str
    rope: str
    window: int
    space: str
    digest: str
    tokens: int
    bytes: int
    total_bytes: int
    last_used: datetime
    labels: tuple[str, ...]


@dataclass(frozen=True)
class StoreUsage:
    """How many blocks there are (or were removed), their bytes on disk, and the most bytes there may be."""

    blocks: int
    bytes: int
    limit: int
