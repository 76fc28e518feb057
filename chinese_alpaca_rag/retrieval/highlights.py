"""Where the terms of a question stand in a text, to be shown to a person."""

from __future__ import annotations

import re
from functools import lru_cache

from chinese_alpaca_rag.library.terms import query_terms, quotes_in
from chinese_alpaca_rag.script import comparable
from chinese_alpaca_rag.words import is_chinese

_WORD_CHARACTER = r"[^\W_]"


def highlights(text: str, query: str) -> list[tuple[int, int]]:
    """Start and end offsets (code points, end exclusive) of the terms of ``query`` in ``text``, in order.

    Width, case and script make no difference. Of Chinese, pairs of characters and longer are shown; single ones only
    where the question has nothing else. What overlaps or touches is one stretch.
    """
    folded = "".join(map(_folded, text))
    spans = sorted(match.span() for pattern in _patterns(query) for match in pattern.finditer(folded))
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=8)
def _patterns(query: str) -> tuple[re.Pattern[str], ...]:
    """What is looked for, taken from a query once for all the passages that it finds."""
    terms = query_terms(query)
    longer = [term for term in terms if len(term) > 1 or not is_chinese(term)]
    patterns = [re.escape(quote) for quote in quotes_in(query)]
    for term in longer or terms:
        escaped = re.escape(term)
        if not is_chinese(term):
            escaped = rf"(?<!{_WORD_CHARACTER}){escaped}(?:e?s)?(?!{_WORD_CHARACTER})"
        patterns.append(escaped)
    return tuple(map(re.compile, patterns))


@lru_cache(maxsize=8192)
def _folded(character: str) -> str:
    """``character`` made comparable where that is one character again, so that offsets stay."""
    plain = comparable(character)
    return plain if len(plain) == 1 else character
