"""How long a stretch of text is: in characters, or in whatever a given function counts, such as a model's tokens."""

from __future__ import annotations

from collections.abc import Callable

#: The length of a text, as LangChain's splitters call it. It need not add up over the parts of a text.
LengthFunction = Callable[[str], int]

# No tokenizer's piece is longer; so many characters are at least one token.
_LONGEST_PIECE = 64


class Ruler:
    """Measures stretches of one text against ``size``. ``length`` None counts characters, which costs nothing."""

    def __init__(self, text: str, size: int, length: LengthFunction | None = None) -> None:
        self.size = size
        self._text = text
        self._length = None if length is len else length
        self._known: dict[tuple[int, int], int] = {}

    @property
    def is_strict(self) -> bool:
        """Whether lengths are a budget that nothing may exceed; characters are only a measure."""
        return self._length is not None

    def of(self, start: int, end: int) -> int:
        """The length of ``text[start:end]``."""
        if self._length is None:
            return end - start
        found = self._known.get((start, end))
        if found is None:
            found = self._known[start, end] = self._length(self._text[start:end])
        return found

    def fits(self, start: int, end: int, most: float | None = None) -> bool:
        """Whether ``text[start:end]`` is at most ``most`` long, by default the size."""
        size = self.size if most is None else most
        if self._length is not None and end - start > size * _LONGEST_PIECE:
            return False  # without counting a whole book for it
        return self.of(start, end) <= size

    def reach(self, start: int, end: int) -> int:
        """How far from ``start`` a stretch of the size goes, ``end`` at most, and one character at least."""
        size = self.size
        if self._length is None:
            return min(end, start + size)
        low, high = start + 1, min(end, start + size * _LONGEST_PIECE)
        while low < high:
            middle = (low + high + 1) // 2
            if self.of(start, middle) <= size:
                low = middle
            else:
                high = middle - 1
        return low
