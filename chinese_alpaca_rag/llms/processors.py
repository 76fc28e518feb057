"""How many threads are worth starting on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TOPOLOGY: Final = Path("/sys/devices/system/cpu")
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/cpu.max")


def physical_cores(topology: Path = _TOPOLOGY, cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """The physical cores that this process may use, at least 1.

    llama.cpp's threads wait for one another at every layer: a second thread on the same core, or more
    threads than a container's share of processors, make it slower. Where the machine does not tell
    which processors share a core, each counts as one.
    """
    processors = _usable_processors()
    cores = {_core(topology, processor) for processor in processors}
    return max(1, min(len(cores), _container_share(cgroup_limit, default=len(cores))))


def _usable_processors() -> Iterable[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _core(topology: Path, processor: int) -> str:
    """A text that processors of one core share."""
    try:
        return (topology / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(processor)


def _container_share(cgroup_limit: Path, default: int) -> int:
    """The whole processors that a cgroup (version 2) grants: ``cpu.max`` holds "QUOTA PERIOD" or "max PERIOD"."""
    try:
        quota, period = cgroup_limit.read_text().split()
        return default if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        return default
