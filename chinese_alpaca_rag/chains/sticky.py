"""A prompt that begins as an earlier one did: what a model holds of that one it need not read again.

What was found for a question has to be in its prompt, and canonical order decides how it is laid out. But a model holds
keys and values only of beginnings, and another question finds other passages: in canonical order most prompts soon
part from one another. So the sources of an earlier prompt stay as they were laid out, from the first one on, while each
still ranks for the new question; what they lack follows in canonical order, numbered on. Where to stop is a matter of
cost: a source that was not found for the question only makes the prompt longer, but it may stand before one that was.
``benchmarks/prefix_packing.py`` measures what this saves; the figures below were chosen there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from chinese_alpaca_rag.chains.measuring import Measure
from chinese_alpaca_rag.chains.packing import CountSources
from chinese_alpaca_rag.chains.packings import (
    PackedSource,
    Packing,
    PackingMemory,
    beginning_of,
    digest_of_name,
    packed,
    packing_of,
)
from chinese_alpaca_rag.chains.planner import Plan
from chinese_alpaca_rag.chains.prompts import TaskTexts, source_messages
from chinese_alpaca_rag.chains.sources import Excerpt, Source, lay_out, size_of
from chinese_alpaca_rag.language import Language, Words

#: A passage still ranks when it is among so many times the passages that a question asks for, and so many at most.
WIDER = 32
MOST_RANKED = 512
#: What a token that stays though it was not asked for costs (attention, and room), against one that is evaluated.
EXTRA_COST = 0.25
#: At most so much text stays beside what was found, against its own length: distraction, not only cost.
MOST_EXTRA = 0.75
# Layouts that are counted before canonical order is taken.
_ATTEMPTS = 6
_MOST_MISSES = 3


@dataclass(frozen=True)
class Beginning:
    """A plan whose prompt begins as ``packing`` does, with these ``sources``."""

    plan: Plan
    packing: Packing
    sources: tuple[Source, ...]


class Stickiness:
    """What a chain knows of the prompts that its model holds.

    Only the model knows what it still holds, and it tells afterwards how much it reused. A beginning that it did not
    hold is forgotten with all that are older, and a model that proves wrong ``_MOST_MISSES`` times in a row (it keeps
    nothing, or does not tell) is given canonical order from then on.
    """

    def __init__(self, memory: PackingMemory, model: str, measure: Measure) -> None:
        self._memory = memory
        self._model = model
        self._measure = measure
        self._misses = 0

    def begin(
        self,
        plan: Plan,
        texts: TaskTexts,
        language: Language,
        *,
        rank: Callable[[], Sequence[Excerpt]],
        count: CountSources,
    ) -> Beginning | None:
        """``plan`` behind a beginning that the model should hold, if that saves anything; see ``begin_as_before``.

        ``count`` gives the tokens of the question's prompt by its sources. ``rank`` gives the passages that still
        rank, and is asked only where there is an earlier prompt with a page of which something was found.
        """
        limit = self._measure.limit
        if limit is None or plan.strategy != "stuff" or not plan.taken or self._misses >= _MOST_MISSES:
            return None
        found = {(digest_of_name(excerpt.source), excerpt.page) for excerpt in plan.taken}
        packings = [
            packing
            for packing in self._memory.recall(self._under(texts, language))
            if any((source.document, source.page) in found for source in packing.sources)
        ]
        return begin_as_before(plan, packings, Ranking(rank(), language), count, limit) if packings else None

    def learn(
        self, plan: Plan, texts: TaskTexts, language: Language, *, begun: Beginning | None = None, reused: int | None
    ) -> None:
        """A prompt of ``plan`` was read, of which ``reused`` tokens were held; None where that is not known."""
        if self._measure.limit is None or plan.strategy != "stuff" or not plan.sources:
            return
        if begun is not None and reused is not None:
            empty, whole = (
                self._measure.count(source_messages(texts, sources, "", language=language))
                for sources in ((), begun.sources)
            )
            if reused < (empty + whole) // 2:
                self._memory.forget(begun.packing)
                self._misses += 1
            else:
                self._misses = 0
        self._memory.remember(packing_of(plan.sources, self._under(texts, language), language))

    def _under(self, texts: TaskTexts, language: Language) -> str:
        return beginning_of(self._model, self._measure.window, texts, language)


@dataclass(frozen=True)
class _Kept:
    """The first sources of a packing, with the passages of the ranking that stand in them; sizes in bytes."""

    packing: Packing
    sources: tuple[Source, ...]
    passages: tuple[Excerpt, ...]
    gain: float
    extra: int


class Ranking:
    """Passages that rank for a question now, from which the sources of earlier prompts are put together again."""

    def __init__(self, excerpts: Sequence[Excerpt], language: Language) -> None:
        self._language = language
        self._pages: defaultdict[tuple[str, int], list[Excerpt]] = defaultdict(list)
        for excerpt in sorted(excerpts, key=lambda excerpt: excerpt.reading_order):
            self._pages[digest_of_name(excerpt.source), excerpt.page].append(excerpt)
        self._known: dict[PackedSource, tuple[Source, tuple[Excerpt, ...]] | None] = {}

    def source(self, wanted: PackedSource) -> tuple[Source, tuple[Excerpt, ...]] | None:
        """The source, made of the ranking's own text, and the passages in it; None where any of it is missing."""
        if wanted not in self._known:
            self._known[wanted] = self._put_together(wanted)
        return self._known[wanted]

    def _put_together(self, wanted: PackedSource) -> tuple[Source, tuple[Excerpt, ...]] | None:
        page = self._pages.get((wanted.document, wanted.page), [])
        whole = [excerpt for excerpt in page if (excerpt.start, excerpt.end) == (wanted.start, wanted.end)]
        ways = [(excerpt, (excerpt,)) for excerpt in whole]
        joined = _stretch(page, wanted.start, wanted.end)
        for excerpt, passages in [*ways, joined] if joined else ways:
            source = Source(wanted.number, excerpt)
            if packed(source, self._language) == wanted:
                return source, passages
        return None


def begin_as_before(
    plan: Plan,
    packings: Sequence[Packing],
    ranking: Ranking,
    count: CountSources,
    limit: int,
) -> Beginning | None:
    """``plan``, a ``stuff`` plan, laid out behind the beginning of one of ``packings`` that saves most.

    Every passage of ``plan`` is in it and every source is the ranking's own text. None where nothing is saved,
    or where no such prompt has at most ``limit`` tokens.
    """
    size = max(1, sum(size_of(source.excerpt) for source in plan.sources))
    rate = plan.prompt_tokens / size
    attempts = 0
    tried: set[tuple[Source, ...]] = set()
    for kept in _candidates(plan.taken, packings, ranking):
        sources = _behind(kept.sources, plan.taken)
        # A prompt far beyond the limit need not be counted.
        if sources in tried or plan.prompt_tokens + kept.extra * rate > 1.1 * limit:
            continue
        tried.add(sources)
        tokens = count(sources)
        if tokens <= limit:
            return Beginning(_begun(plan, kept, sources, tokens, limit), kept.packing, kept.sources)
        attempts += 1
        if attempts == _ATTEMPTS:
            break
    return None


def holds(source: Source, excerpt: Excerpt) -> bool:
    """Whether a passage's text stands in a source, as the same stretch of the same page."""
    shown = source.excerpt
    if (shown.source, shown.page) != (excerpt.source, excerpt.page):
        return False
    if not (shown.placed and excerpt.placed):
        return (shown.start, shown.text) == (excerpt.start, excerpt.text)
    first = excerpt.start - shown.start
    return first >= 0 and shown.text[first : first + len(excerpt.text)] == excerpt.text


def _candidates(wanted: Sequence[Excerpt], packings: Sequence[Packing], ranking: Ranking) -> list[_Kept]:
    """Every beginning that saves something, the one that saves most first; of equals the one used last."""
    found = [kept for packing in packings for kept in _beginnings(wanted, packing, ranking)]
    return sorted(found, key=lambda kept: -kept.gain)


def _beginnings(wanted: Sequence[Excerpt], packing: Packing, ranking: Ranking) -> Iterator[_Kept]:
    """The beginnings of one packing that end with a source in which something wanted stands, the longest first."""
    missing: defaultdict[tuple[str, int], list[Excerpt]] = defaultdict(list)
    for excerpt in wanted:
        missing[excerpt.source, excerpt.page].append(excerpt)
    most = MOST_EXTRA * sum(map(size_of, wanted))
    sources: list[Source] = []
    passages: list[Excerpt] = []
    saved = extra = 0
    found: list[_Kept] = []
    for place in packing.sources:
        standing = ranking.source(place) if place.number == len(sources) + 1 else None
        if standing is None:
            break
        source, inside = standing
        page = (source.excerpt.source, source.excerpt.page)
        covered = [excerpt for excerpt in missing[page] if holds(source, excerpt)]
        missing[page] = [excerpt for excerpt in missing[page] if not holds(source, excerpt)]
        sources.append(source)
        passages += inside
        useful = min(size_of(source.excerpt), sum(map(size_of, covered)))
        saved += useful
        extra += size_of(source.excerpt) - useful
        if extra > most:
            break
        gain = saved - EXTRA_COST * extra
        if covered and gain > 0:
            found.append(_Kept(packing, tuple(sources), tuple(passages), gain, extra))
    yield from reversed(found)


def _behind(kept: Sequence[Source], wanted: Sequence[Excerpt]) -> tuple[Source, ...]:
    """``kept`` as it is, and behind it what is wanted and does not stand in it, in canonical order."""
    missing = [excerpt for excerpt in wanted if not any(holds(source, excerpt) for source in kept)]
    return (*kept, *lay_out(missing, first=len(kept) + 1))


def _begun(plan: Plan, kept: _Kept, sources: tuple[Source, ...], tokens: int, limit: int) -> Plan:
    """``plan`` with these sources. What it had dropped may stand in them now."""
    dropped = tuple(excerpt for excerpt in plan.left if not any(holds(source, excerpt) for source in kept.sources))
    found = {*plan.taken, *plan.left}
    more = sum(not _is_found(passage, found) for passage in dict.fromkeys(kept.passages))
    used = plan.used + len(plan.left) - len(dropped) + more
    return replace(
        plan,
        batches=(sources,),
        used=used,
        left=dropped,
        prompt_tokens=tokens,
        kept=more,
        reason=_reason(used, more, len(dropped), tokens, limit),
    )


def _is_found(passage: Excerpt, found: AbstractSet[Excerpt]) -> bool:
    """Whether a passage of the ranking was found for the question, or a part of it was."""
    return passage in found or any(
        (part.source, part.page) == (passage.source, passage.page)
        and part.placed
        and passage.start <= part.start
        and part.end <= passage.end
        for part in found
    )


def _stretch(page: Sequence[Excerpt], start: int, end: int) -> tuple[Excerpt, tuple[Excerpt, ...]] | None:
    """The text of a page from ``start`` to ``end``, put together from passages that touch or overlap."""
    used: list[Excerpt] = []
    text = ""
    for excerpt in page:
        position = start + len(text)
        if not excerpt.placed or excerpt.end <= position:
            continue
        if position >= end:
            break
        if excerpt.start <= position:
            used.append(excerpt)
            text += excerpt.text[position - excerpt.start : end - excerpt.start]
    if not used or start + len(text) != end:
        return None
    return replace(used[0], start=start, end=end, text=text), tuple(used)


def _reason(used: int, kept: int, dropped: int, tokens: int, limit: int) -> Words:
    zh = f"读 {used} 段（{tokens} / {limit} 个词元），开头与之前的提示相同"
    en = f"{used} passages ({tokens} of {limit} tokens), beginning as an earlier prompt does"
    if kept:
        zh += f"，其中 {kept} 段是随开头保留的"
        en += f", of which {kept} stay for its sake"
    if dropped:
        zh += f"；另有 {dropped} 段没有读"
        en += f"; {dropped} were not read"
    return Words(zh=zh + "。", en=en + ".")
