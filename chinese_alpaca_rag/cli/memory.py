"""Amounts of memory in words."""

from __future__ import annotations

import re

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)


def in_bytes(count: float) -> str:
    """``count`` bytes in the binary unit that fits: ``512 KiB``, ``4.25 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def parse_bytes(text: str) -> int | None:
    """The bytes that ``in_bytes`` or a person writes: ``20G``, ``500 MiB``, ``1.5g``, ``0``; units are binary.

    None for anything else.
    """
    match = _AMOUNT.fullmatch(text.strip().replace(",", ""))
    return int(float(match[1]) * 1024 ** _UNITS[match[2].lower()]) if match else None
