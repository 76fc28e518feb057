"""Checkpoint headers and tokenizers, read once as long as their files stay as they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.family.checkpoint import Checkpoint, checkpoint_tokenizer, read_checkpoint
from chinese_alpaca_rag.family.tokens import Tokenizer

# The files of a transformers folder, or of an adapter, that a header or a tokenizer is read from.
_HEADER_FILES: Final = (
    "config.json",
    "tokenizer.model",
    "tokenizer.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
)

Fingerprint = tuple[tuple[str, int, int], ...]


def header(path: Path, lora_path: Path | None = None) -> Checkpoint:
    """What the checkpoint at ``path`` says of itself, with the adapter laid over it. Raises ``CheckpointError``."""
    checkpoint = _read(path, fingerprint(path))
    return _adapted(checkpoint, lora_path, fingerprint(lora_path)) if lora_path is not None else checkpoint


def tokenizer(path: Path, lora_path: Path | None = None) -> Tokenizer:
    """The tokenizer of the checkpoint at ``path``, or its adapter's own. Raises ``CheckpointError``."""
    return _read_tokenizer(path, fingerprint(path), lora_path, fingerprint(lora_path) if lora_path else ())


def fingerprint(path: Path) -> Fingerprint:
    """Name, size in bytes and modification time (ns) of the files that ``path`` stands for, where they exist."""
    files = [*(path / name for name in _HEADER_FILES), *sorted(path.glob("*.gguf"))] if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=16)
def _read(path: Path, _fingerprint: Fingerprint) -> Checkpoint:
    return read_checkpoint(path)


@lru_cache(maxsize=16)
def _adapted(checkpoint: Checkpoint, lora_path: Path, _fingerprint: Fingerprint) -> Checkpoint:
    from chinese_alpaca_rag.family.adapter import adapted, read_adapter

    return adapted(checkpoint, read_adapter(lora_path))


@lru_cache(maxsize=4)
def _read_tokenizer(path: Path, known: Fingerprint, lora_path: Path | None, lora: Fingerprint) -> Tokenizer:
    checkpoint = _read(path, known)
    if lora_path is None:
        return checkpoint_tokenizer(checkpoint)
    from chinese_alpaca_rag.family.adapter import adapted_tokenizer, read_adapter

    return adapted_tokenizer(checkpoint, read_adapter(lora_path))
