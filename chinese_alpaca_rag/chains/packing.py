"""Fitting excerpts and notes into a window, measured in the tokens of the prompt as it is sent.

Token counts are not additive, so nothing is taken to fit before the whole prompt with it was counted.
To keep the counting cheap, sizes are guessed first from the bytes (a language-independent proxy: about
0.25 tokens a UTF-8 byte for Chinese and English alike), and the guess is corrected by what was counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

from chinese_alpaca_rag.chains.sources import Excerpt, Source, lay_out, size_of
from chinese_alpaca_rag.sentences import sentence_spans

# Excerpts are cut into parts of no fewer characters than this; a window that takes less is refused.
SHORTEST_PART = 48
_TOKENS_PER_BYTE = 0.25
# A batch is looked for among no more than what would fill it at this ratio.
_MOST_BYTES_PER_TOKEN = 12

CountSources = Callable[[Sequence[Source]], int]
CountNotes = Callable[[Sequence[str]], int]


class PartTooLongError(Exception):
    """Not even the shortest part fits: ``needed`` tokens against ``limit``. Planning turns it into words."""

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__(f"{needed} tokens needed, {limit} there")
        self.needed = needed
        self.limit = limit


@dataclass(frozen=True)
class Packed:
    """The excerpts that fit one prompt and those that do not, both by rank; ``tokens`` of that prompt."""

    taken: tuple[Excerpt, ...]
    dropped: tuple[Excerpt, ...]
    tokens: int


@dataclass(frozen=True)
class Batched:
    """Sources in batches that each fit a prompt. ``excerpts`` is how many excerpts went into them."""

    batches: tuple[tuple[Source, ...], ...]
    excerpts: int
    tokens: int


def longest_fitting(sizes: Sequence[int], count: Callable[[int], int], limit: int) -> tuple[int, int]:
    """How many of the first items fit, and the tokens of that prompt.

    ``sizes`` are the items' bytes; ``count(n)`` gives the tokens of the prompt with the first n items.
    The number returned was counted; that takes about log2(items) counts at worst, three or four mostly.
    Where none fits, it is 0 with the tokens of ``count(0)``.
    """
    ends = [0, *accumulate(max(1, size) for size in sizes)]
    empty = count(0)
    fits, fits_tokens = 0, empty
    fails, fails_tokens = len(sizes) + 1, 0
    while fails - fits > 1 and empty <= limit:
        if fails < len(ends):
            rate = (fails_tokens - fits_tokens) / (ends[fails] - ends[fits])
        else:
            rate = (fits_tokens - empty) / ends[fits] if fits else _TOKENS_PER_BYTE
        wanted = ends[fits] + (limit - fits_tokens) / max(rate, 1e-6)
        guess = bisect_right(ends, wanted, fits + 1, fails) - 1
        # Where sizes mislead, interpolation alone would creep: some of the span is decided every time.
        margin = max(1, (fails - fits) // 8)
        guess = min(max(guess, fits + margin), fails - margin)
        tokens = count(guess)
        if tokens <= limit:
            fits, fits_tokens = guess, tokens
        else:
            fails, fails_tokens = guess, tokens
    return fits, fits_tokens


def best_fitting(excerpts: Sequence[Excerpt], count: CountSources, limit: int, *, canonical: bool = True) -> int:
    """How many of the first excerpts fit one prompt together."""
    return longest_fitting(
        [size_of(excerpt) for excerpt in excerpts],
        lambda n: count(lay_out(excerpts[:n], canonical=canonical)),
        limit,
    )[0]


def pack(excerpts: Sequence[Excerpt], count: CountSources, limit: int, *, best: int, canonical: bool = True) -> Packed:
    """Take the ``best`` first excerpts (see ``best_fitting``) and each later one that still fits.

    An excerpt that does not fit even alone is cut into parts, which then stand at its rank; parts that
    are dropped side by side are named as one. Raises PartTooLongError where no part fits.
    """

    def tokens_of(chosen: Sequence[Excerpt]) -> int:
        return count(lay_out(chosen, canonical=canonical))

    taken = dict(enumerate(excerpts[:best]))
    tokens, empty = tokens_of(excerpts[:best]), tokens_of(())
    parts = [
        (origin, part, alone)
        for origin, excerpt in enumerate(excerpts[best:])
        for part, alone in split_to_fit(excerpt, tokens_of, limit)
    ]
    waiting = {rank: part for rank, (_, part, _) in enumerate(parts, start=best)}
    added = True
    while added:  # once more, because what was taken since can make its neighbour cheaper
        added = False
        for rank, part in list(waiting.items()):
            least = parts[rank - best][2] - empty - _saved_beside(part, taken.values())
            if tokens + least > limit:
                continue
            together = tokens_of([one for _, one in sorted({**taken, rank: part}.items())])
            if together <= limit:
                taken[rank] = waiting.pop(rank)
                tokens, added = together, True
    dropped = _rejoined([(parts[rank - best][0], part) for rank, part in waiting.items()])
    return Packed(tuple(one for _, one in sorted(taken.items())), dropped, tokens)


def _rejoined(parts: Sequence[tuple[int, Excerpt]]) -> tuple[Excerpt, ...]:
    """Parts, each with the number of the excerpt that it was cut from, put together where nothing is missing."""
    whole: list[tuple[int, Excerpt]] = []
    for origin, part in parts:
        if whole and whole[-1][0] == origin and whole[-1][1].end == part.start:
            before = whole[-1][1]
            whole[-1] = (origin, replace(before, end=part.end, text=before.text + part.text))
        else:
            whole.append((origin, part))
    return tuple(part for _, part in whole)


def _saved_beside(excerpt: Excerpt, others: Iterable[Excerpt]) -> int:
    """At most so many tokens less does ``excerpt`` take beside ``others`` than alone: a label, and shared text."""
    shared = sum(
        max(0, min(excerpt.end, other.end) - max(excerpt.start, other.start))
        for other in others
        if (other.source, other.page) == (excerpt.source, excerpt.page)
    )
    label = Source(0, excerpt).label("zh")
    return len(label.encode("utf-8", "surrogatepass")) + 4 * shared + 16


def batch(excerpts: Sequence[Excerpt], count: CountSources, limit: int, *, canonical: bool = True) -> Batched:
    """All ``excerpts`` as numbered sources, in batches as large as fit; none is left out.

    In canonical order or, with ``canonical`` False, as given. Raises PartTooLongError like ``pack``.
    """
    waiting = sorted(excerpts, key=lambda excerpt: excerpt.reading_order) if canonical else list(excerpts)
    waiting.reverse()
    batches: list[tuple[Source, ...]] = []
    number, used, total = 1, 0, 0
    while waiting:
        fitting, tokens, sources = _first_batch(waiting, number, count, limit)
        if not fitting:
            parts = split_to_fit(waiting.pop(), partial(_count_laid_out, count, number), limit)
            waiting.extend(part for part, _ in reversed(parts))
            continue
        batches.append(sources)
        number += len(sources)
        used += fitting
        total += tokens
        del waiting[-fitting:]
    return Batched(tuple(batches), used, total)


def _first_batch(
    waiting: Sequence[Excerpt], number: int, count: CountSources, limit: int
) -> tuple[int, int, tuple[Source, ...]]:
    """As many of the next excerpts (``waiting`` ends with the first of them) as fit, and their tokens."""
    near: list[Excerpt] = []
    total = 0
    for excerpt in reversed(waiting):
        near.append(excerpt)
        total += size_of(excerpt)
        if total > limit * _MOST_BYTES_PER_TOKEN:
            break
    tokens_of = partial(_count_laid_out, count, number)
    fitting, tokens = longest_fitting([size_of(excerpt) for excerpt in near], lambda n: tokens_of(near[:n]), limit)
    return fitting, tokens, lay_out(near[:fitting], first=number, canonical=False)


def _count_laid_out(count: CountSources, number: int, chosen: Sequence[Excerpt]) -> int:
    return count(lay_out(chosen, first=number, canonical=False))


def split_to_fit(
    excerpt: Excerpt, tokens_of: Callable[[Sequence[Excerpt]], int], limit: int
) -> list[tuple[Excerpt, int]]:
    """The excerpt if it fits alone, else parts of it that do, cut between sentences where possible.

    Each comes with the tokens of the prompt that holds it alone.
    """
    tokens = tokens_of([excerpt])
    if tokens <= limit:
        return [(excerpt, tokens)]
    if len(excerpt.text) < 2 * SHORTEST_PART:
        raise PartTooLongError(tokens, limit)
    base = tokens_of([excerpt.part(0, 0)])
    # A tenth of room to spare, so that even parts cut at sentences mostly fit at once.
    pieces = max(2, -(-10 * (tokens - base) // max(1, 9 * (limit - base))))
    parts: list[tuple[Excerpt, int]] = []
    for start, end in _even_cuts(excerpt.text, min(pieces, len(excerpt.text) // SHORTEST_PART)):
        parts.extend(split_to_fit(excerpt.part(start, end), tokens_of, limit))
    return parts


def _even_cuts(text: str, pieces: int) -> list[tuple[int, int]]:
    """``text`` in ``pieces`` of about equal length, cut behind sentences, else clauses or spaces, if one is near."""
    ends = [end for _, end in sentence_spans(text)]
    share = len(text) / pieces
    reach = max(1, int(share * 0.3))
    cuts = [0]
    for index in range(1, pieces):
        wanted = int(share * index)
        lowest, highest = max(cuts[-1] + 1, wanted - reach), min(len(text) - 1, wanted + reach)
        near = ends[bisect_left(ends, lowest) : bisect_right(ends, highest)]
        softer = near or [i for i in range(lowest, highest + 1) if text[i - 1] in "，、；：,;:\n\t "]
        cuts.append(min(softer, key=lambda end: abs(end - wanted)) if softer else wanted)
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True))


def shorten(note: str, count: CountNotes, limit: int) -> str:
    """As many whole sentences from the beginning of ``note`` as fit, or a part of the first; perhaps none."""
    ends = [0, *(end for _, end in sentence_spans(note))]
    sizes = [len(note[start:end].encode("utf-8", "surrogatepass")) for start, end in pairwise(ends)]
    fitting, _ = longest_fitting(sizes, lambda n: count([note[: ends[n]]]), limit)
    if fitting:
        return note[: ends[fitting]]
    length, _ = longest_fitting([1] * len(note), lambda n: count([note[:n]]), limit)
    return note[:length]


def group_notes(notes: Sequence[str], count: CountNotes, limit: int) -> tuple[list[list[str]], int]:
    """``notes`` in order, in groups that each fit: at least two a group while there are two.

    Notes that are too long for that are shortened; how many were is told. So merging every group leaves
    at most half as many notes, whatever their length. Raises PartTooLongError where two do not fit at all.
    """
    groups: list[list[str]] = []
    rest = list(notes)
    shortened = 0
    while rest:
        sizes = [len(note.encode("utf-8", "surrogatepass")) for note in rest]
        fitting, _ = longest_fitting(sizes, lambda n: count(rest[:n]), limit)
        group = rest[:fitting]
        if fitting < min(2, len(rest)):
            group = _shorten_together(rest[:2], count, limit)
            shortened += sum(note != short for note, short in zip(rest, group, strict=False))
        groups.append(group)
        del rest[: len(group)]
    return groups, shortened


def _shorten_together(notes: Sequence[str], count: CountNotes, limit: int) -> list[str]:
    """One or two notes, the longer ones shortened until they fit together."""
    base = count([""] * len(notes))
    room = limit - base
    while room >= SHORTEST_PART:
        share = base + room // len(notes)
        short = [note if count([note]) <= share else shorten(note, count, share) for note in notes]
        if count(short) <= limit:
            return short
        room = room * 9 // 10
    raise PartTooLongError(base + SHORTEST_PART, limit)
