"""Progress while weights load: transformers' progress bars become numbers, and nothing is drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Final


class Progress:
    """Rising numbers from 0.0 to 1.0 for a listener. ``raised`` is what the listener raised, which stops the work."""

    def __init__(self, listener: Callable[[float], None] | None) -> None:
        self._listener = listener
        self._told = -1.0
        self.raised: BaseException | None = None

    def report(self, done: float) -> None:
        """Tell the listener, unless it knows of as much already."""
        if self._listener is None or done <= self._told:
            return
        self._told = done
        try:
            self._listener(done)
        except BaseException as problem:
            self.raised = problem
            raise


# Who listens on which thread. transformers has one hook for the whole process: it is there while anybody loads, and
# the bars of threads that do not load here go on as they were.
_lock: Final = threading.Lock()
_listening: Final[dict[int, tuple[Progress, float]]] = {}
_before: Final[list[Any]] = []


@contextmanager
def silent_bars(transformers: Any, progress: Progress, *, until: float) -> Iterator[None]:
    """Inside the block this thread's loading bar tells ``progress`` 0.0 to ``until``; none of its bars is drawn."""
    logging = transformers.utils.logging
    thread = threading.get_ident()
    with _lock:
        if not _listening:
            _before.append(logging.set_tqdm_hook(_bar))
        outer = _listening.get(thread)
        _listening[thread] = (progress, until)
    try:
        yield
    finally:
        with _lock:
            if outer is None:
                del _listening[thread]
            else:
                _listening[thread] = outer
            if not _listening:
                logging.set_tqdm_hook(_before.pop())


def _bar(factory: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The hook that transformers makes its bars by: what it iterates over in place of a tqdm."""
    listener = _listening.get(threading.get_ident())
    if listener is not None:
        return _Bar(args[0] if args else keywords.get("iterable", ()), *listener)
    before = _before[-1] if _before else None
    return before(factory, args, keywords) if before is not None else factory(*args, **keywords)


class _Bar:
    """As much of tqdm as a loop needs."""

    def __init__(self, items: Iterable[Any], progress: Progress, until: float) -> None:
        self._items = items
        self._progress = progress
        self._until = until

    def __iter__(self) -> Iterator[Any]:
        total = len(self._items) if isinstance(self._items, Sized) else 0
        for count, item in enumerate(self._items):
            if total:
                self._progress.report(self._until * count / total)
            yield item
        if total:
            self._progress.report(self._until)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments, **_keywords: None
