"""Who may use a model's one context: answers take turns, and one that stands still does not block the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Words

# How long, in seconds, an answer may stand still between two tokens before another may begin. Its
# consumer may be thinking, or gone for good; either way it can go on later, only more slowly.
PATIENCE: Final = 1.0
# The same when the one who waits runs in the thread that made the last token: most likely that thread
# began a second answer in the middle of the first, and the first cannot move before the second ends.
PATIENCE_IN_THREAD: Final = 0.05


class Turns:
    """A lock held for a whole answer but released between its tokens to whoever finds it standing still.

    Two answers at once would otherwise throw each other's keys and values away at every token; a plain
    lock held from the first token to the last would wait for ever for an answer that nobody reads on.
    """

    def __init__(self, patience: float = PATIENCE, patience_in_thread: float = PATIENCE_IN_THREAD) -> None:
        # Held by its own name, never by the condition's: that one is taken in Python code, where a Ctrl-C can come
        # between taking it and being able to give it back.
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        self._patience = patience
        self._patience_in_thread = patience_in_thread
        self._holder: object | None = None
        self._working = False
        self._rested_since = 0.0
        self._thread = 0

    @contextmanager
    def step(self, who: object) -> Iterator[bool]:
        """The model is ``who``'s alone inside; true when nobody else used it since its last step."""
        with self._lock:
            while (wait := self._seconds_to_wait(who)) > 0:
                self._condition.wait(wait)
            undisturbed = self._holder is who
            self._holder, self._working, self._thread = who, True, threading.get_ident()
        try:
            yield undisturbed
        finally:
            with self._lock:
                self._working = False
                self._rested_since = time.monotonic()

    @contextmanager
    def step_if_free(self, who: object) -> Iterator[bool | None]:
        """As ``step`` without waiting: ``None``, and the model not to be used, where others have it now."""
        with self._lock:
            free = not self._working and self._seconds_to_wait(who) <= 0
            undisturbed = self._holder is who
            if free:
                self._holder, self._working, self._thread = who, True, threading.get_ident()
        if not free:
            yield None
            return
        try:
            yield undisturbed
        finally:
            with self._lock:
                self._working = False
                self._rested_since = time.monotonic()

    def leave(self, who: object) -> None:
        """``who`` is done (a second call does nothing)."""
        with self._lock:
            if self._holder is who:
                # Working is over, too: an interruption may have come before ``step`` could say so.
                self._holder, self._working = None, False
                self._condition.notify_all()

    def _seconds_to_wait(self, who: object) -> float:
        if self._working:
            if self._thread == threading.get_ident():
                raise _in_its_own_call()
            return self._patience
        if self._holder is None or self._holder is who:
            return 0.0
        same_thread = self._thread == threading.get_ident()
        patience = self._patience_in_thread if same_thread else self._patience
        return self._rested_since + patience - time.monotonic()


def _in_its_own_call() -> WrongUsageError:
    """A callback that is called while the model computes would wait for itself."""
    return WrongUsageError(
        Words(
            zh="不能在模型计算或加载的过程中（如 on_progress 里）再使用它。",
            en="The model cannot be used from inside its own loading or evaluation (from on_progress, say).",
        ),
        hint=Words(zh="请在调用结束之后再使用。", en="Use it when the call has returned."),
    )
