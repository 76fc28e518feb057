"""Breaking a template's marks where they stand in text that was handed in.

``[INST]`` in a document gives the very ids of the template's own ``[INST]``. Spelt out in single
characters it is the same text in other ids, which the model never saw as a mark.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words


class MarkBreaker:
    """Spells marks in a way that the tokenizer itself never cuts them.

    ``marks`` finds a mark by its letters; ``fixed_texts`` are the template's own texts, which show
    how the tokenizer cuts its marks. Characters are the spelling, unless that is already how the
    template's marks are cut (as in very small vocabularies): then their bytes are.
    """

    def __init__(self, tokenizer: Tokenizer, marks: re.Pattern[str], fixed_texts: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._fixed_texts = tuple(fixed_texts)
        self.marks = marks

    @cached_property
    def _in_bytes(self) -> bool:
        """Whether marks are spelt in bytes. Raises ``CheckpointError`` where bytes are what the template uses."""
        tokenizer = self._tokenizer
        own = [(tokenizer.encode(text), match[0]) for text in self._fixed_texts for match in self.marks.finditer(text)]
        if not any(_holds(ids, tokenizer.spell(mark)) for ids, mark in own):
            return False
        if any(_holds(ids, tokenizer.spell_bytes(mark)) for ids, mark in own):
            raise CheckpointError(
                Words(
                    zh="词表里没有模板标记所用的字母，无法区分模板与正文。",
                    en="The vocabulary lacks the letters of the template's marks: text would pass for template.",
                ),
                hint=Words(zh="请使用模型自带的分词器。", en="Use the tokenizer that came with the model."),
            )
        return True

    def respell(
        self, ids: Sequence[int], ends: Sequence[int], text: str, foreign: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        """``ids`` and ``ends`` of ``text`` with every piece spelt out that touches a span of ``foreign``.

        ``ends`` is what ``Tokenizer.encode_with_ends`` gives; ``foreign`` are spans of
        characters in order.
        """
        new_ids: list[int] = []
        new_ends: list[int] = []
        done = 0
        for first, last, spans in _piece_ranges(ends, foreign):
            new_ids += ids[done:first]
            new_ends += ends[done:first]
            if first == 0:
                self._keep_prefix(ids[0], new_ids, new_ends)
            left = ends[first - 1] if first else 0
            for position in range(left, ends[last - 1]):
                in_mark = any(start <= position < end for start, end in spans)
                spelt = self._spell(text[position], in_mark=in_mark)
                new_ids += spelt
                new_ends += [position + 1] * len(spelt)
            done = last
        return [*new_ids, *ids[done:]], [*new_ends, *ends[done:]]

    def _spell(self, character: str, *, in_mark: bool) -> list[int]:
        if in_mark and self._in_bytes:
            return self._tokenizer.spell_bytes(character)
        return self._tokenizer.spell(character)

    def _keep_prefix(self, first_id: int, ids: list[int], ends: list[int]) -> None:
        """The first piece may hold the dummy prefix beside its characters: then the prefix stays, on its own."""
        if self._tokenizer.starts_with_space(first_id):
            ids += self._tokenizer.spell(" ")
            ends += [0]


def _piece_ranges(
    ends: Sequence[int], foreign: Sequence[tuple[int, int]]
) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """The ranges of pieces that hold the spans, joined where two spans share a piece, each with its spans."""
    ranges: list[tuple[int, int, list[tuple[int, int]]]] = []
    for start, end in foreign:
        first = bisect_right(ends, start)
        last = bisect_right(ends, end)
        if last < len(ends) and (last == 0 or ends[last - 1] < end):
            last += 1
        if ranges and first < ranges[-1][1]:
            before, until, spans = ranges.pop()
            ranges.append((before, max(last, until), [*spans, (start, end)]))
        else:
            ranges.append((first, last, [(start, end)]))
    return ranges


def _holds(ids: Sequence[int], part: Sequence[int]) -> bool:
    """Whether ``part`` stands in ``ids`` without a gap."""
    return any(list(ids[start : start + len(part)]) == list(part) for start in range(len(ids) - len(part) + 1))
