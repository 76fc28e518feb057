"""Which files weights were loaded from, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.weight_files import gguf_parts, shards

#: Name, size in bytes, modification time (ns) and number of each file; empty where one cannot be looked at.
Identity = tuple[tuple[str, int, int, int], ...]


def weight_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """The files that the weights and their shapes come from."""
    if checkpoint.format == "gguf":
        yield from gguf_parts(checkpoint.path)
    else:
        yield checkpoint.path / "config.json"
        yield from shards(checkpoint.path)


def adapter_files(adapter: Path | None) -> Iterator[Path]:
    """An adapter's file, or those of its folder that say what it does; none without one."""
    if adapter is None:
        return
    if adapter.is_dir():
        yield from sorted(file for file in adapter.iterdir() if file.suffix in (".json", ".safetensors"))
    else:
        yield adapter


def identity_of(files: Iterable[Path]) -> Identity:
    """What changes when one of ``files`` is replaced or written to."""
    try:
        stats = [(str(file), file.stat()) for file in files]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
