"""Which strategy reads the sources, decided by counting tokens.

``stuff`` reads everything in one prompt. ``map_reduce`` reads the sources in parts, then answers from
what the parts gave. One prompt is cheaper and loses nothing between the steps, so it is preferred as
long as it holds the passages that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chinese_alpaca_rag.chains.measuring import Measure
from chinese_alpaca_rag.chains.packing import SHORTEST_PART, CountSources, PartTooLongError, batch, best_fitting, pack
from chinese_alpaca_rag.chains.prompts import TaskTexts, fill, note_messages, source_messages
from chinese_alpaca_rag.chains.results import Place, StrategyName
from chinese_alpaca_rag.chains.sources import Excerpt, Source, lay_out
from chinese_alpaca_rag.errors import AlpacaRagError, QuestionTooLongError, WrongUsageError
from chinese_alpaca_rag.language import Language, Words

StrategyChoice = Literal["auto", "stuff", "map_reduce"]

# Given the number of parts, says why the sources are read in parts.
Because = Callable[[int], Words]

# When not every passage fits, so many of the best (or half of them, if fewer) are enough to answer from.
ENOUGH_PASSAGES = 4


@dataclass(frozen=True)
class Plan:
    """The sources in the prompts they go into: one for ``stuff``, one a part for ``map_reduce``.

    ``used`` counts the passages in them, ``kept`` those of them that were not found but stay for the sake of what
    stands behind them. ``left`` are the passages that did not fit; ``taken``, for ``stuff``, those that did, by rank.
    """

    strategy: StrategyName
    batches: tuple[tuple[Source, ...], ...]
    used: int
    left: tuple[Excerpt, ...]
    prompt_tokens: int
    reason: Words
    taken: tuple[Excerpt, ...] = ()
    kept: int = 0

    @property
    def dropped(self) -> tuple[Place, ...]:
        """The places of what did not fit."""
        return tuple(excerpt.place for excerpt in self.left)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, by number."""
        return tuple(source for sources in self.batches for source in sources)


def plan_answer(
    excerpts: Sequence[Excerpt],
    question: str,
    measure: Measure,
    texts: TaskTexts,
    *,
    language: Language,
    strategy: StrategyChoice = "auto",
) -> Plan:
    """The plan for answering from ``excerpts``, best first. Raises QuestionTooLongError."""

    def counting(task: str, asked: str = question) -> CountSources:
        return count_sources(texts, task, asked, measure, language)

    answering, extracting = counting(texts.answer), counting(texts.extract)
    if measure.limit is None:
        return _read_at_once(excerpts, answering)
    notes_need = max(
        measure.count(note_messages(texts, ["", ""], fill(task, question=question)))
        for task in (texts.merge_extracts, texts.answer_from_extracts)
    )
    question_alone = answering(()) - counting(texts.answer, "")(())
    try:
        if strategy != "map_reduce":
            plan = _answer_at_once(excerpts, answering, measure.limit, strategy)
            if isinstance(plan, Plan):
                return plan
            return _in_parts(excerpts, extracting, measure.limit, notes_need, plan)
        return _in_parts(excerpts, extracting, measure.limit, notes_need, _asked_for())
    except PartTooLongError as error:
        raise _no_room(error, error.needed - question_alone <= error.limit) from error


def count_sources(texts: TaskTexts, task: str, question: str, measure: Measure, language: Language) -> CountSources:
    """The tokens of the prompt of a task about ``question``, by its sources."""
    filled = fill(task, question=question)
    return lambda sources: measure.count(source_messages(texts, sources, filled, language=language))


def plan_summary(
    excerpts: Sequence[Excerpt],
    measure: Measure,
    count_whole: CountSources,
    count_part: CountSources,
    notes_need: int,
    *,
    strategy: StrategyChoice = "auto",
) -> Plan:
    """The plan for summarising ``excerpts`` in the order given.

    ``notes_need`` are the tokens of the prompts that merge notes, without any note.
    """
    limit = measure.limit
    if limit is None:
        return _read_at_once(excerpts, count_whole, canonical=False)
    try:
        if strategy == "map_reduce":
            return _in_parts(excerpts, count_part, limit, notes_need, _asked_for(), canonical=False)
        sources = lay_out(excerpts, canonical=False)
        tokens = count_whole(sources)
        if tokens <= limit:
            return _all_in_one(excerpts, sources, tokens, limit)
        if strategy == "stuff":
            best = best_fitting(excerpts, count_whole, limit, canonical=False)
            return _stuff(excerpts, count_whole, limit, best, canonical=False)
        because = _does_not_fit(len(excerpts), tokens, limit)
        return _in_parts(excerpts, count_part, limit, notes_need, because, canonical=False)
    except PartTooLongError as error:
        raise _no_room(error, question_is_long=False) from error


def _answer_at_once(
    excerpts: Sequence[Excerpt], answering: CountSources, limit: int, strategy: StrategyChoice
) -> Plan | Because:
    """The plan with one prompt or, where that is not enough to answer from, why not."""
    sources = lay_out(excerpts)
    tokens = answering(sources)
    if tokens <= limit:
        return _all_in_one(excerpts, sources, tokens, limit)
    needed = answering(())
    if needed > limit:
        raise PartTooLongError(needed, limit)
    best = best_fitting(excerpts, answering, limit)
    enough = min(ENOUGH_PASSAGES, -(-len(excerpts) // 2))
    if strategy == "stuff" or best >= enough:
        return _stuff(excerpts, answering, limit, best)
    return _too_few_fit(best, len(excerpts))


def _read_at_once(excerpts: Sequence[Excerpt], count: CountSources, *, canonical: bool = True) -> Plan:
    sources = lay_out(excerpts, canonical=canonical)
    reason = Words(
        zh=f"模型直接阅读全部 {len(excerpts)} 段原文，没有窗口限制。",
        en=f"The model reads all {len(excerpts)} passages themselves and has no window.",
    )
    return Plan("stuff", (sources,), len(excerpts), (), count(sources), reason, tuple(excerpts))


def _stuff(excerpts: Sequence[Excerpt], count: CountSources, limit: int, best: int, *, canonical: bool = True) -> Plan:
    packed = pack(excerpts, count, limit, best=best, canonical=canonical)
    sources = lay_out(packed.taken, canonical=canonical)
    used, left = len(packed.taken), len(packed.dropped)
    reason = Words(
        zh=f"窗口放得下 {used} 段（{packed.tokens} / {limit} 个词元），其余 {left} 段没有读。",
        en=f"{used} passages fit ({packed.tokens} of {limit} tokens); the other {left} were not read.",
    )
    return Plan("stuff", (sources,), used, packed.dropped, packed.tokens, reason, packed.taken)


def _in_parts(
    excerpts: Sequence[Excerpt],
    count: CountSources,
    limit: int,
    notes_need: int,
    because: Because,
    *,
    canonical: bool = True,
) -> Plan:
    # Refused before the first part is read rather than after the last.
    if notes_need + SHORTEST_PART > limit:
        raise PartTooLongError(notes_need + SHORTEST_PART, limit)
    batched = batch(excerpts, count, limit, canonical=canonical)
    reason = because(len(batched.batches))
    return Plan("map_reduce", batched.batches, batched.excerpts, (), batched.tokens, reason)


def _all_in_one(excerpts: Sequence[Excerpt], sources: tuple[Source, ...], tokens: int, limit: int) -> Plan:
    passages = len(excerpts)
    reason = Words(
        zh=f"全部 {passages} 段窗口都放得下（{tokens} / {limit} 个词元），一次读完。",
        en=f"All {passages} passages fit ({tokens} of {limit} tokens): read at once.",
    )
    return Plan("stuff", (sources,), passages, (), tokens, reason, tuple(excerpts))


def _asked_for() -> Because:
    return lambda parts: Words(zh=f"按要求分 {parts} 部分阅读。", en=f"Read in {parts} parts, as asked for.")


def _too_few_fit(best: int, passages: int) -> Because:
    return lambda parts: Words(
        zh=f"{passages} 段中窗口只放得下最相关的 {best} 段，因此分 {parts} 部分阅读。",
        en=f"Only the best {best} of {passages} passages fit: read in {parts} parts.",
    )


def _does_not_fit(passages: int, tokens: int, limit: int) -> Because:
    return lambda parts: Words(
        zh=f"全部 {passages} 段有 {tokens} 个词元，窗口放得下 {limit} 个，因此分 {parts} 部分阅读。",
        en=f"All {passages} passages are {tokens} tokens and {limit} fit: read in {parts} parts.",
    )


def _no_room(error: PartTooLongError, question_is_long: bool) -> AlpacaRagError:
    """The words for a prompt that does not fit: the question's fault, or the window's."""
    needed, limit = error.needed, error.limit
    if question_is_long:
        return QuestionTooLongError(
            Words(
                zh=f"问题太长：连同必要的提示需要 {needed} 个词元，窗口里只放得下 {limit} 个。",
                en=f"The question is too long: the shortest prompt with it takes {needed} tokens, and {limit} fit.",
            ),
            hint=Words(
                zh="请缩短问题，或用 --window 加大窗口。", en="Shorten the question, or take a longer --window."
            ),
        )
    return WrongUsageError(
        Words(
            zh=f"窗口太短：最短的提示也需要 {needed} 个词元，除去留给回答的，只放得下 {limit} 个。",
            en=f"The window is too short: the shortest prompt takes {needed} tokens, and {limit} fit beside the reply.",
        ),
        hint=Words(
            zh="请用 --window 加大窗口，或减小 max_tokens。", en="Take a longer --window, or a smaller max_tokens."
        ),
    )
