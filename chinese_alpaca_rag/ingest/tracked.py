"""Text that is edited and still knows, for each of its characters, where that stood before."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable


class TrackedText:
    """A text with the place of each character in the original: ``original[start:end]``, in code points.

    Edits keep places in order; a character that stands for several, or several that stand for one (ﬁ and fi), have the
    place of all that they stand for.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = array("I", range(len(text)))
        self._ends = array("I", range(1, len(text) + 1))

    def sub(self, pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str]) -> None:
        """What ``pattern.sub`` does; a literal ``replacement`` has no escapes."""
        pieces: list[str] = []
        starts, ends = array("I"), array("I")
        kept = 0
        for match in pattern.finditer(self.text):
            begin, end = match.span()
            written = replacement if isinstance(replacement, str) else replacement(match)
            pieces += (self.text[kept:begin], written)
            starts += self._starts[kept:begin]
            ends += self._ends[kept:begin]
            if written == match.group():
                starts += self._starts[begin:end]
                ends += self._ends[begin:end]
            elif written:
                first = self._starts[begin] if begin < len(self._starts) else self._end()
                last = self._ends[end - 1] if end > begin else first
                starts.extend([first] * len(written))
                ends.extend([last] * len(written))
            kept = end
        if kept or pieces:
            self.text = "".join(pieces) + self.text[kept:]
            self._starts = starts + self._starts[kept:]
            self._ends = ends + self._ends[kept:]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Where ``text[start:end]`` stood in the original; an empty stretch has the place of its neighbour."""
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(f"no such place: {start}-{end} of {len(self.text)}")
        if start == end:
            place = self._starts[start] if start < len(self.text) else self._end()
            return place, place
        return self._starts[start], self._ends[end - 1]

    def _end(self) -> int:
        return self._ends[-1] if self._ends else 0
