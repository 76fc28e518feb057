"""Stop texts in streamed answers."""

from __future__ import annotations

from collections.abc import Sequence


class StopWatch:
    """Lets text through up to the first stop text, and holds back what may be the beginning of one.

    The stop text that is complete first ends the answer (of two that end together, the longer one), so
    that the outcome does not depend on how the text was cut into pieces. ``found`` says that it came.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What of the text so far can be shown now; nothing once a stop text was found."""
        if self.found:
            return ""
        self._held += text
        ends = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if ends:
            self.found = True
            return self._release(min(ends)[1])
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        return "" if self.found else self._release(len(self._held))

    def _release(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _undecided(self) -> int:
        """The length, in characters, of the longest end of the held text that begins some stop text."""
        longest = min(len(self._held), max(map(len, self._stops), default=1) - 1)
        return next(
            (
                length
                for length in range(longest, 0, -1)
                if any(stop.startswith(self._held[-length:]) for stop in self._stops)
            ),
            0,
        )
