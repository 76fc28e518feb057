"""Prompts for a server that takes text alone and cuts it up by itself (llama-cpp-python's).

llama.cpp, told to parse control tokens, takes ``</s>`` in a document for the end of a text, and
``[INST]`` gives the template's own ids wherever it stands. So the text is made from the ids that are
wanted, what comes from outside and reads like a control token or a mark is written full-width
(``＜/s＞``, ``［INST］``), and the server's way of cutting is gone through here beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chinese_alpaca_rag.errors import EndpointError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words

# The marks of the templates that are ordinary text to their tokenizers (see family/template.py).
_MARKS: Final = re.compile(r"\[/?INST\]|<</?SYS>>|### (?:Instruction|Response):|<(?:human|bot)>:|INST\]|SYS>>")
_FULL_WIDTH: Final = str.maketrans("[]<>#:|▁", "［］＜＞＃：｜＿")

Span = tuple[int, int]


@dataclass(frozen=True)
class TextPrompt:
    """``text`` is what to send; ``ids`` what the server will make of it, BOS included.

    ``rewritten`` counts the marks and control tokens that were written full-width.
    """

    text: str
    ids: tuple[int, ...]
    rewritten: int


def text_prompt(ids: Sequence[int], tokenizer: Tokenizer, *, adds_bos: bool) -> TextPrompt:
    """The text that llama.cpp cuts into ``ids``, but for what has to be written full-width.

    ``adds_bos``: whether the server puts BOS before every text. Raises ``EndpointError`` where no
    text gives those ids.
    """
    literals = {index: piece for piece, index in tokenizer.special_ids.items()}
    text, cut, rewritten = "", list[int](), 0
    for index, ordinary in _segments(ids, tokenizer):
        if index is not None:
            if index not in literals:
                raise _unspeakable(ids)
            text += literals[index]
            cut.append(index)
        if ordinary:
            safe, marks = _safe_text(ordinary, tokenizer)
            text += safe
            cut += tokenizer.encode(safe)
            rewritten += marks
    if adds_bos:
        bos = literals.get(tokenizer.bos_id, "")
        if not bos or not text.startswith(bos):
            raise _unspeakable(ids)
        text = text.removeprefix(bos)
    return TextPrompt(text, tuple(cut), rewritten)


def _segments(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[tuple[int | None, list[int]]]:
    """Stretches of ordinary ids, each with the control id before it (``None`` at the start)."""
    control: int | None = None
    ordinary: list[int] = []
    for index in ids:
        if index in tokenizer.control_ids:
            if control is not None or ordinary:
                yield control, ordinary
            control, ordinary = index, []
        else:
            ordinary.append(index)
    if control is not None or ordinary:
        yield control, ordinary


def _safe_text(ids: list[int], tokenizer: Tokenizer) -> tuple[str, int]:
    """The text of ``ids`` with foreign marks rewritten, and how many. Raises ``EndpointError``.

    A mark is foreign where its ids are not those that the tokenizer itself would give: that is how
    prompts tell what was handed in from their template.
    """
    text = tokenizer.decode(ids)
    # llama.cpp reads U+2581 as the space that SentencePiece writes by it.
    control = re.compile("|".join(map(re.escape, [*sorted(tokenizer.special_ids, key=len, reverse=True), "▁"])))
    spans = [match.span() for match in control.finditer(text)]
    differing = _differences(ids, tokenizer.encode(text), tokenizer)
    spans += [match.span() for match in _MARKS.finditer(text) if _touches(match.span(), differing)]
    merged = _merged(spans)
    safe = text
    for start, end in merged:
        # Every character becomes one other: positions stay.
        safe = safe[:start] + safe[start:end].translate(_FULL_WIDTH) + safe[end:]
    if control.search(safe):
        raise _unspeakable(ids)
    left = _differences(ids, tokenizer.encode(safe), tokenizer)
    if any(not _touches(span, merged) for span in left):
        raise _unspeakable(ids)
    return safe, len(merged)


def _differences(one: Sequence[int], other: Sequence[int], tokenizer: Tokenizer) -> list[Span]:
    """The stretches of characters that are cut differently; both are ids of texts of one length."""
    first, second = _cuts(one, tokenizer), _cuts(other, tokenizer)
    spans: list[Span] = []
    left = right = start = 0
    while left < len(first) and right < len(second):
        if first[left] == second[right] and (start == first[left][1] or _together(first, left, second, right)):
            start = first[left][1]
            left, right = left + 1, right + 1
            continue
        begin = start
        left, right, start = _rejoin(first, left, second, right)
        spans.append((begin, max(start, begin + 1)))
    if left < len(first) or right < len(second):
        spans.append((start, max([*(end for _, end in first), *(end for _, end in second), start + 1])))
    return spans


def _together(first: list[tuple[int, int]], left: int, second: list[tuple[int, int]], right: int) -> bool:
    """Whether both pieces begin where the piece before them ended on both sides."""
    return (first[left - 1][1] if left else 0) == (second[right - 1][1] if right else 0)


def _rejoin(first: list[tuple[int, int]], left: int, second: list[tuple[int, int]], right: int) -> tuple[int, int, int]:
    """The indexes behind the nearest position at which both have a cut, and that position."""
    left, right = left + 1, right + 1
    while True:
        here, there = first[left - 1][1], second[right - 1][1]
        if here == there and _ends(first, left) and _ends(second, right):
            return left, right, here
        if here < there or (here == there and not _ends(first, left)):
            if left == len(first):
                return len(first), len(second), there
            left += 1
        else:
            if right == len(second):
                return len(first), len(second), here
            right += 1


def _ends(cuts: list[tuple[int, int]], index: int) -> bool:
    """Whether no further piece ends at the position where the piece before ``index`` does."""
    return index == len(cuts) or cuts[index][1] > cuts[index - 1][1]


def _cuts(ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Each id with the number of whole characters up to it."""
    decoder = tokenizer.stream_decoder()
    position = 0
    cuts = []
    for index in ids:
        position += len(decoder.push(index))
        cuts.append((index, position))
    return cuts


def _touches(span: Span, others: Sequence[Span]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _unspeakable(ids: Sequence[int]) -> EndpointError:
    return EndpointError(
        Words(
            zh=f"这 {len(ids)} 个词元无法写成文本：该服务会把它切成别的词元。",
            en=f"These {len(ids)} tokens cannot be said as text: the server would cut it into others.",
        ),
        hint=Words(
            zh="请使用接受词元 id 的服务：llama-server 或 vLLM"
            "（alpaca-rag models command 名称 --engine llama-server）。",
            en="Use a server that takes token ids: llama-server or vLLM "
            "(alpaca-rag models command NAME --engine llama-server).",
        ),
    )
