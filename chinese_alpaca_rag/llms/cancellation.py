"""Calling work off: an event that native code can see as well."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from langchain_core.runnables.config import run_in_executor

T = TypeVar("T")


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


async def in_a_thread(work: Callable[[], T], cancelled: Cancellation) -> T:
    """What ``work`` gives; a task that is cancelled meanwhile calls it off."""
    try:
        return await run_in_executor(None, work)
    except asyncio.CancelledError:
        cancelled.set()
        raise


async def one_by_one(chunks: Generator[T], cancelled: Cancellation) -> AsyncGenerator[T]:
    """What ``chunks`` give, from a thread of their own; who stops reading calls the work off.

    The threads that a loop's tasks share would be full of answers waiting for one another.
    """
    own = ThreadPoolExecutor(1)
    try:
        while (chunk := await run_in_executor(own, next, chunks, None)) is not None:
            yield chunk
    finally:
        cancelled.set()
        # A step that still runs in the thread sees the event and ends; then the generator is closed there.
        own.submit(chunks.close)
        own.shutdown(wait=False)
