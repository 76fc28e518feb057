"""Making sure that what was written is still there after a loss of power."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def wait_for_disk(folder: Path | str) -> None:
    """Wait until the disk has the names in ``folder``, where the system can say so."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
