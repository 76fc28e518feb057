"""Guesses of how an answer goes on, which the model then checks several at once.

A guess changes nothing of an answer but how soon it comes: see ``speculation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

#: The longest and the shortest stretch, in tokens, that a lookup compares.
LONGEST: Final = 8
SHORTEST: Final = 2
# Stretches of these lengths are looked up: the longer first, since of common pairs there are too many to compare.
_LOOKED_UP: Final = (4, SHORTEST)
# The most places that are compared for one guess: text that repeats itself has thousands.
_COMPARED: Final = 32
# The least lengths of matches that are told apart: the longer the match, the more often it goes on alike.
_CLASSES: Final = (LONGEST, 4, 3, SHORTEST)


@dataclass(frozen=True)
class Guess:
    """``ids`` that may come next, the nearest first. Guesses of one ``source`` are about equally often right."""

    ids: Sequence[int]
    source: str


NO_GUESS: Final = Guess((), "")


class Drafter(Protocol):
    """What guesses how one answer goes on. Made for that answer, and used by one thread at a time."""

    costly: bool
    """Whether guessing takes time that counts. What does not is asked at every token, so that how often it would
    have been right is known without evaluating anything."""
    source: str
    """The source of a costly drafter's guesses."""

    def get_ready(self) -> None:
        """Open what guessing needs, before the answer begins. Raises ``ModelError``."""

    def guess(self, written: Sequence[int], most: int) -> Guess:
        """At most ``most`` ids (at least 1 is asked for) that may follow the prompt and ``written``.

        ``written`` are the answer's ids so far; they only ever grow. ``NO_GUESS`` itself says that guessing was
        not tried, and took no time.
        """

    def close(self) -> None:
        """The answer is over."""


class PromptLookup:
    """Guesses that an answer goes on as the text did, where its last few ids stood before.

    Answers from documents quote them. Of the places in prompt and answer before which the same ids stand, the one
    with the longest match (up to ``LONGEST`` tokens) counts, of several the last. The index is built with the first
    guess (about 10 ms for 16K tokens) and grows with the answer.
    """

    costly = False
    source = "lookup"

    def __init__(self, prompt: Sequence[int]) -> None:
        self._ids = list(prompt)
        self._prompt_length = len(prompt)
        self._stretches = [_Stretches(length) for length in _LOOKED_UP]

    def get_ready(self) -> None:
        """See ``Drafter.get_ready``."""

    def guess(self, written: Sequence[int], most: int) -> Guess:
        """See ``Drafter.guess``. Text that repeats itself goes on repeating itself."""
        ids = self._ids
        ids.extend(written[len(ids) - self._prompt_length :])
        for stretches in self._stretches:
            stretches.index(ids)
        place, length = self._best_place()
        if not length:
            return NO_GUESS
        guessed = ids[place : place + most]
        distance = len(ids) - place
        while len(guessed) < most:
            guessed.append(guessed[len(guessed) - distance])
        return Guess(guessed, f"lookup {next(least for least in _CLASSES if length >= least)}")

    def close(self) -> None:
        """See ``Drafter.close``."""

    def _best_place(self) -> tuple[int, int]:
        """Where to go on, and how many ids before it match the last ones; 0 where none do."""
        best_place, best = 0, 0
        for stretches in self._stretches:
            for place in stretches.places(self._ids):
                length = self._match(place)
                if length > best:
                    best_place, best = place, length
                if best == LONGEST:
                    break
            if best:
                break
        return best_place, best

    def _match(self, place: int) -> int:
        """How many ids before ``place``, up to ``LONGEST``, are those that the text ends with."""
        ids = self._ids
        end = len(ids)
        length = 0
        while length < LONGEST and length < place and ids[place - 1 - length] == ids[end - 1 - length]:
            length += 1
        return length


class _Stretches:
    """Where each stretch of ``length`` ids ended, as chains from the last such place to the first."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._last: dict[tuple[int, ...], int] = {}
        # For each place the one before it on its chain; 0 ends a chain.
        self._before = [0] * length

    def index(self, ids: Sequence[int]) -> None:
        """Count in the stretches of ``ids`` that end before its last id."""
        first = len(self._before)
        if first >= len(ids):
            return
        start = first - self._length
        last, before = self._last, self._before
        parts = (ids[start + offset : len(ids) - self._length + offset] for offset in range(self._length))
        for place, stretch in enumerate(zip(*parts, strict=True), first):
            before.append(last.get(stretch, 0))
            last[stretch] = place

    def places(self, ids: Sequence[int]) -> list[int]:
        """The indices behind the stretches that equal the last of ``ids``, the last first, ``_COMPARED`` at most."""
        found: list[int] = []
        place = self._last.get(tuple(ids[-self._length :]), 0)
        while place and len(found) < _COMPARED:
            found.append(place)
            place = self._before[place]
        return found
