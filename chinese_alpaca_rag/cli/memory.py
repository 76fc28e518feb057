"""How much memory there is, and amounts of it in words."""

from __future__ import annotations

import os
from pathlib import Path


def available_memory() -> int | None:
    """Bytes that a process could still take: what the system has free, within the container's limit."""
    limits = [found for measure in (_free_by_system, _free_by_control_group) if (found := measure()) is not None]
    return min(limits, default=None)


def in_bytes(count: float) -> str:
    """``count`` bytes in the binary unit that fits: ``512 KiB``, ``4.25 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _free_by_system() -> int | None:
    """Linux says what is free; elsewhere the memory that is built in has to do."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _free_by_control_group() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return max(0, int(limit) - used) if limit != "max" else None
    except (OSError, ValueError):
        return None
