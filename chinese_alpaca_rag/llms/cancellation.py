"""Calling work off: an event that native code can see as well."""

from __future__ import annotations

import ctypes
import threading


class EvaluationStopped(Exception):  # noqa: N818  # no error: what was asked for
    """An evaluation ended early because it was called off; what was held before it is still held."""


class Cancellation(threading.Event):
    """Set when an answer is no longer wanted. ``flag`` is two bytes in memory, the first not 0 from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.flag = ctypes.create_string_buffer(2)

    def set(self) -> None:
        """Call the work off."""
        self.flag[0] = b"\x01"
        super().set()
