"""Checkpoint headers and tokenizers, read once as long as their files stay as they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.family.checkpoint import Checkpoint, checkpoint_tokenizer, read_checkpoint
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer

# The files of a transformers folder that a header or a tokenizer is read from.
_HEADER_FILES: Final = ("config.json", "tokenizer.model", "model.safetensors", "model.safetensors.index.json")

Fingerprint = tuple[tuple[str, int, int], ...]


def header(path: Path) -> Checkpoint:
    """What the checkpoint at ``path`` says of itself. Raises ``CheckpointError``."""
    return _read(path, fingerprint(path))


def tokenizer(path: Path) -> FamilyTokenizer:
    """The tokenizer of the checkpoint at ``path``. Raises ``CheckpointError``."""
    return _read_tokenizer(path, fingerprint(path))


def fingerprint(path: Path) -> Fingerprint:
    """Name, size in bytes and modification time (ns) of the files that ``path`` stands for, where they exist."""
    files = [*(path / name for name in _HEADER_FILES), *sorted(path.glob("*.gguf"))] if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=16)
def _read(path: Path, _fingerprint: Fingerprint) -> Checkpoint:
    return read_checkpoint(path)


@lru_cache(maxsize=4)
def _read_tokenizer(path: Path, known: Fingerprint) -> FamilyTokenizer:
    return checkpoint_tokenizer(_read(path, known))
