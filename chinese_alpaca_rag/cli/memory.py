"""Amounts of memory in words."""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """``count`` bytes in the binary unit that fits: ``512 KiB``, ``4.25 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
