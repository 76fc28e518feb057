"""Keys and values of prompts' beginnings, kept on disk: computed once, reused exactly, by any process, on any day.

A state is opaque here: bytes that a backend gave for some ids and takes back behind the same ones.
"""

from __future__ import annotations

from chinese_alpaca_rag.llms.prefix_store.claims import Claim
from chinese_alpaca_rag.llms.prefix_store.facts import PrefixEntry, SpaceFacts, StoreUsage
from chinese_alpaca_rag.llms.prefix_store.folder import default_folder
from chinese_alpaca_rag.llms.prefix_store.keys import BlockKey, block_keys, space_of
from chinese_alpaca_rag.llms.prefix_store.store import DEFAULT_LIMIT, PrefixStore
from chinese_alpaca_rag.llms.prefix_store.weights_memory import weights_digest

__all__ = [
    "DEFAULT_LIMIT",
    "BlockKey",
    "Claim",
    "PrefixEntry",
    "PrefixStore",
    "SpaceFacts",
    "StoreUsage",
    "block_keys",
    "default_folder",
    "space_of",
    "weights_digest",
]
