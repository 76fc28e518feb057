"""Opened weights, shared by every model object that would open them in the same way.

Two chains with different temperatures, or LangChain's ``configurable_fields`` (which makes a new object for
every call), take one copy of the weights and one context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet, WeakValueDictionary

from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.turns import Turns
from chinese_alpaca_rag.llms.weight_identity import Identity


class Claim:
    """What one model object holds on to: the shared weights, and the tokenizer once it was asked for.

    It goes with its object. Copies and pickles begin without any.
    """

    def __init__(self) -> None:
        self.weights: Weights | None = None
        self.tokenizer: Tokenizer | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> Claim:
        return Claim()

    def __copy__(self) -> Claim:
        return Claim()

    def __reduce__(self) -> tuple[type[Claim], tuple[()]]:
        return Claim, ()


class Weights:
    """The backend once it is opened, whose turn it is, and who has used it since."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.pace = Pace()
        self._prefixes: dict[Path | None, Prefixes] = {None: Prefixes()}
        self.backend: Backend | None = None
        #: The files that the backend was loaded from; empty where that is not known.
        self.loaded_from: Identity = ()
        self._claims: WeakSet[Claim] = WeakSet()

    def prefixes(self, folder: Path | None, make: Callable[[Path], Prefixes]) -> Prefixes:
        """The reading of prompts, with the store in ``folder``; ``make`` makes it the first time."""
        with _guard:
            if folder is not None and folder not in self._prefixes:
                self._prefixes[folder] = make(folder)
            return self._prefixes[folder]

    def opened(self, claim: Claim, load: Callable[[], Backend], files: Callable[[], Identity] = tuple) -> Backend:
        """The backend, loaded when it is not. Only inside a turn. ``files`` tells what it would be loaded from."""
        if self.backend is None:
            before = files()
            self.backend = load()
            # Replaced meanwhile, nobody knows what was loaded.
            self.loaded_from = before if before == files() else ()
        self._claims.add(claim)
        return self.backend

    def release(self, claim: Claim) -> None:
        """Free the backend unless another object uses it. Only inside a turn."""
        self._claims.discard(claim)
        if self._claims or self.backend is None:
            return
        backend, self.backend = self.backend, None
        backend.close()


_opened: Final[WeakValueDictionary[Hashable, Weights]] = WeakValueDictionary()
_guard: Final = threading.Lock()


def weights_of(key: Hashable) -> Weights:
    """The weights that all objects with the same ``key`` share, for as long as one of them lives."""
    with _guard:
        weights = _opened.get(key)
        if weights is None:
            weights = _opened[key] = Weights()
        return weights
