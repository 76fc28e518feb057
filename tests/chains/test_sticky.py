"""Prompts that begin as earlier ones did: what stays, what never stays, and that nothing that was found is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from chinese_alpaca_rag.chains import Answer, create_qa_chain
from chinese_alpaca_rag.chains.packings import Packing, RecentPackings, packing_of
from chinese_alpaca_rag.chains.planner import plan_answer
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS
from chinese_alpaca_rag.chains.sources import Excerpt, Source, excerpts_of, lay_out
from chinese_alpaca_rag.chains.sticky import MOST_EXTRA, Ranking, begin_as_before, holds
from tests.chains.keeping_model import KeepingModel, RankedRetriever
from tests.chains.libraries import FixedRetriever, passage, ranked_passages
from tests.chains.reading_model import ReadingModel, shown_sources
from tests.chains.test_packing import BASE, Counter

LEAVE, PRICE, TRAVEL, SAFETY, PARKING, MEALS = (
    f"关于{about}的规定：{text}" * 3
    for about, text in (
        ("年假", "工作满一年的员工享有5天年假。"),
        ("价格", "ZX-200的价格为25.5元，不含税。"),
        ("差旅", "差旅费用由总经理审批后报销。"),
        ("安全", "进入车间必须佩戴安全帽和手套。"),
        ("停车", "访客的车辆停在北门的停车场内。"),
        ("用餐", "午餐时间为十一点半到十二点半。"),
    )
)


def at(text: str, number: int, **more: Any) -> Document:
    return passage(text, source=f"/docs/{number}.txt", **more)


DOCUMENTS = [at(text, number) for number, text in enumerate((LEAVE, PRICE, TRAVEL, SAFETY, PARKING, MEALS))]
LEAVES, PRICES, TRAVELS, SAFE, PARKS, MEAL = DOCUMENTS


def ask(model: ReadingModel, *rankings: list[Document], k: int = 3, **choices: Any) -> list[Answer]:
    """The answers to one question a ranking, asked one after another."""
    asked = {f"第{number}个问题？": ranking for number, ranking in enumerate(rankings)}
    chain = create_qa_chain(model, RankedRetriever(rankings=asked, k=k), **choices)
    return [chain.invoke(question) for question in asked]


def shown(model: ReadingModel) -> list[list[str]]:
    """The texts of the sources of each prompt, by number."""
    return [list(shown_sources(prompt).values()) for prompt in model.prompts]


def test_what_was_read_stays_in_front_and_what_is_missing_follows() -> None:
    model = KeepingModel()
    answers = ask(model, [PRICES, TRAVELS, SAFE], [LEAVES, SAFE, PRICES, TRAVELS])
    # In canonical order LEAVE would come first, and nothing would be reused.
    assert shown(model) == [[PRICE, TRAVEL, SAFETY], [PRICE, TRAVEL, SAFETY, LEAVE]]
    receipt = answers[1].receipt
    assert (receipt.passages_used, receipt.passages_kept) == (4, 1)
    assert receipt.reused_tokens > len(PRICE + TRAVEL + SAFETY)
    assert receipt.evaluated_tokens == receipt.prompt_tokens - receipt.reused_tokens
    assert answers[0].receipt.passages_kept == 0
    assert all(citation.verified for answer in answers for citation in answer.citations)


def test_a_source_that_does_not_rank_ends_the_beginning() -> None:
    model = KeepingModel()
    ask(model, [PRICES, TRAVELS, SAFE], [SAFE, LEAVES, PRICES])
    assert shown(model)[1] == [PRICE, LEAVE, SAFETY]


def test_the_beginning_ends_with_a_source_that_was_found() -> None:
    model = KeepingModel()
    ask(model, [PRICES, TRAVELS, SAFE], [LEAVES, PRICES, PARKS, SAFE, TRAVELS])
    assert shown(model)[1] == [PRICE, LEAVE, PARKING]


def sized(number: int, tenths: int) -> Document:
    """A passage of so many tens of characters."""
    return at(f"{number}号文件".ljust(10 * tenths, "续"), number)


def test_a_beginning_that_costs_more_than_it_saves_is_left() -> None:
    model = KeepingModel()
    in_front, small, other = sized(1, 30), sized(2, 5), sized(3, 60)
    ask(model, [in_front, small], [small, other, in_front], k=2)
    assert shown(model)[1] == [small.page_content, other.page_content]


def test_what_stays_is_never_as_much_as_was_found() -> None:
    one, between, two, three = sized(1, 20), sized(2, 50), sized(3, 20), sized(0, 20)
    model = KeepingModel()
    ask(model, [one, between, two], [two, three, one, between], k=3)
    assert shown(model)[1] == [each.page_content for each in (one, three, two)]
    model = KeepingModel()
    between = sized(2, 40)
    ask(model, [one, between, two], [two, three, one, between], k=3)
    assert shown(model)[1] == [each.page_content for each in (one, between, two, three)]


def test_of_several_prompts_the_one_that_saves_most_is_continued() -> None:
    model = KeepingModel(window=8000)
    ask(model, [PRICES, TRAVELS, SAFE], [TRAVELS, SAFE, PARKS], [PARKS, SAFE, MEAL, TRAVELS], k=3)
    assert shown(model)[2] == [TRAVEL, SAFETY, PARKING, MEALS]


def test_a_retriever_that_cannot_be_asked_for_more_is_taken_at_its_word() -> None:
    model = KeepingModel()
    chain = create_qa_chain(model, FixedRetriever(documents=[PRICES, TRAVELS, SAFE]))
    chain.invoke("价格？")
    other = create_qa_chain(model, FixedRetriever(documents=[SAFE, LEAVES, PRICES]), packings=chain._sticky._memory)
    assert other.invoke("安全？").receipt.passages_kept == 0
    assert shown(model)[1] == [PRICE, LEAVE, SAFETY]


def test_changed_or_removed_text_never_comes_back() -> None:
    changed = at(PRICE.replace("25.5", "19.9"), 1)
    model = KeepingModel()
    ask(model, [PRICES, TRAVELS, SAFE], [TRAVELS, SAFE, LEAVES, changed], [LEAVES, SAFE, TRAVELS], k=3)
    assert all("25.5" not in prompt for prompt in model.prompts[1:])
    assert shown(model)[1] == [LEAVE, TRAVEL, SAFETY]
    relabelled = [at(text, number, document=f"new {number}") for number, text in enumerate((LEAVE, PRICE))]
    again = KeepingModel()
    ask(again, [PRICES, TRAVELS], [LEAVES, *relabelled[1:], TRAVELS], k=2)
    assert shown(again)[1] == [LEAVE, PRICE]


def test_a_document_with_another_label_is_another_document() -> None:
    model = KeepingModel()
    first, second = at(PRICE, 5, document="one version"), at(PRICE, 5, document="the next version")
    ask(model, [first, at(SAFETY, 6)], [at(SAFETY, 6), at(LEAVE, 1), second], k=2)
    assert shown(model)[1] == [LEAVE, SAFETY]


def test_a_model_that_does_not_hold_what_it_read_is_given_canonical_order() -> None:
    model = ReadingModel()  # it reports a reuse of nothing but the template
    rankings = [[PRICES, TRAVELS, SAFE], [LEAVES, SAFE, PRICES, TRAVELS]] * 6
    answers = ask(model, *rankings)
    assert [answer.receipt.passages_kept for answer in answers[:2]] == [0, 1]
    assert [answer.receipt.passages_kept for answer in answers[8:]] == [0] * 4
    assert shown(model)[-1] == [LEAVE, PRICE, SAFETY]


def test_what_is_no_longer_held_is_forgotten_with_all_that_is_older() -> None:
    model = KeepingModel(holds=1)
    memory = RecentPackings()
    ask(model, [sized(9, 5)], [PRICES, TRAVELS, SAFE], [MEAL, PARKS], packings=memory)
    oldest, stale, newer = reversed(memory._packings)
    elsewhere = replace(oldest, under="another model")
    memory._packings.append(elsewhere)
    ask(model, [LEAVES, TRAVELS, PRICES], packings=memory)
    assert stale not in memory._packings
    assert memory._packings[1:] == [newer, elsewhere]


def test_languages_prompts_models_and_windows_do_not_share_beginnings() -> None:
    asked = {"价格？": [PRICES, TRAVELS, SAFE], "What leave?": [LEAVES, SAFE, PRICES, TRAVELS]}
    memory = RecentPackings()
    model = KeepingModel()
    retriever = RankedRetriever(rankings=asked, k=3)
    for question in asked:
        create_qa_chain(model, retriever, packings=memory).invoke(question)
    create_qa_chain(model, retriever, packings=memory, window=3000, language="zh").invoke("What leave?")
    own = replace(DEFAULT_PROMPTS, zh=replace(DEFAULT_PROMPTS.zh, sources_heading="材料："))
    create_qa_chain(model, retriever, packings=memory, prompts=own, language="zh").invoke("What leave?")
    assert shown(model)[1:] == [[LEAVE, PRICE, SAFETY]] * 3


def test_a_question_that_was_given_up_half_way_leaves_its_prompt_remembered() -> None:
    model = KeepingModel()
    asked = {"价格？": [PRICES, TRAVELS, SAFE], "年假？": [LEAVES, SAFE, PRICES, TRAVELS]}
    chain = create_qa_chain(model, RankedRetriever(rankings=asked, k=3))
    events = chain.stream("价格？")
    for event in events:
        if type(event).__name__ == "Token":
            events.close()
            break
    assert chain.invoke("年假？").receipt.passages_kept == 1


def test_what_had_no_room_may_be_read_because_it_was_there_before() -> None:
    model = KeepingModel(window=900, max_tokens=100)
    ranking = [*DOCUMENTS[1:6], LEAVES]
    answers = ask(model, [PRICES, TRAVELS], ranking, k=6)
    receipt = answers[1].receipt
    assert receipt.passages_used + receipt.passages_dropped == 6 + receipt.passages_kept
    texts = shown(model)[1]
    left = [document.page_content for document in ranking if document.page_content not in texts]
    assert len(left) == receipt.passages_dropped


def test_a_reader_of_sources_is_asked_as_ever() -> None:
    from tests.chains.reading_model import SourceReadingModel

    model = SourceReadingModel()
    answers = ask(model, [PRICES, TRAVELS, SAFE], [LEAVES, SAFE, PRICES, TRAVELS])
    assert [len(sources) for _, sources in model.given] == [3, 3]
    assert [answer.receipt.passages_kept for answer in answers] == [0, 0]


# Any library, any ranking, any window.

Library = tuple[list[Document], dict[tuple[str, int], str]]


@st.composite
def two_rankings(draw: st.DrawFn) -> tuple[list[Excerpt], list[Excerpt], list[Excerpt]]:
    """What an earlier question found, what a later one finds, and what still ranks for that one."""
    documents, _ = draw(ranked_passages())
    everything = excerpts_of(documents)
    assume(len(everything) >= 2)
    earlier = draw(st.lists(st.sampled_from(everything), min_size=1, max_size=8, unique=True))
    ranked = draw(st.permutations(everything))
    found = ranked[: draw(st.integers(1, len(ranked)))]
    still = ranked[: draw(st.integers(len(found), len(ranked)))]
    return earlier, found, still


@settings(max_examples=250, deadline=None)
@given(two_rankings(), st.integers(BASE, BASE + 1500), st.lists(st.integers(0, 3), max_size=2))
def test_nothing_is_lost_nothing_overflows_and_nothing_stale_is_shown(
    rankings: tuple[list[Excerpt], list[Excerpt], list[Excerpt]], limit: int, grown: list[int]
) -> None:
    earlier, found, still = rankings
    count = Counter()
    packings = [packing_of(lay_out(earlier), "u", "zh")]
    plan = _plan(found, limit)
    if plan is None or plan.strategy != "stuff":
        return
    for _ in range(1 + len(grown)):
        begun = begin_as_before(plan, packings, Ranking(still, "zh"), count, limit)
        if begun is None:
            return
        sources = begun.plan.sources
        _check(begun.plan.sources, found, plan.taken, still)
        assert count(sources) == begun.plan.prompt_tokens <= limit
        assert sources[: len(begun.sources)] == begun.sources
        assert begun.plan.used == len(plan.taken) + len(plan.left) - len(begun.plan.left) + begun.plan.kept
        # It begins as it says, source by source.
        same = packing_of(sources, "u", "zh").sources
        assert same[0] == begun.packing.sources[0]
        kept = next(
            (n for n, pair in enumerate(zip(same, begun.packing.sources, strict=False)) if pair[0] != pair[1]),
            min(len(same), len(begun.packing.sources)),
        )
        shown = sources[:kept]
        extra = sum(len(source.excerpt.text.encode()) for source in shown if not _any_in(plan.taken, source))
        assert extra <= MOST_EXTRA * sum(len(excerpt.text.encode()) for excerpt in plan.taken)
        assert begin_as_before(plan, packings, Ranking(still, "zh"), count, limit) == begun  # the same every time
        packings = [packing_of(sources, "u", "zh"), *packings]


def _plan(found: list[Excerpt], limit: int) -> Any:
    from chinese_alpaca_rag.chains.measuring import measure_model
    from chinese_alpaca_rag.errors import AlpacaRagError

    model = ReadingModel(window=limit + 40, max_tokens=40)
    try:
        return plan_answer(
            found, "概括？", measure_model(model), replace(DEFAULT_PROMPTS.zh, answer="概括。{question}"), language="zh"
        )
    except AlpacaRagError:
        return None


def _check(sources: tuple[Source, ...], found: list[Excerpt], taken: tuple[Excerpt, ...], still: list[Excerpt]) -> None:
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))
    for excerpt in taken:
        assert any(holds(source, excerpt) for source in sources)
    # Every character shown is one of a passage that ranks now, at its place.
    texts = {(one.source, one.page, one.start + i): c for one in [*found, *still] for i, c in enumerate(one.text)}
    for source in sources:
        one = source.excerpt
        assert [texts[one.source, one.page, one.start + i] for i in range(len(one.text))] == list(one.text)
        assert one.end - one.start == len(one.text)
    assert len({(one.excerpt.place, one.excerpt.text) for one in sources}) == len(sources)


def _any_in(taken: tuple[Excerpt, ...], source: Source) -> bool:
    return any(holds(source, excerpt) for excerpt in taken)


@given(two_rankings())
def test_sources_are_put_together_again_only_as_they_were(
    rankings: tuple[list[Excerpt], list[Excerpt], list[Excerpt]],
) -> None:
    earlier, _, still = rankings
    sources = lay_out(earlier)
    ranking = Ranking(still, "zh")
    for source, remembered in zip(sources, packing_of(sources, "u", "zh").sources, strict=True):
        again = ranking.source(remembered)
        if again is not None:
            assert (again[0].label("zh"), again[0].excerpt.text) == (source.label("zh"), source.excerpt.text)
            assert again[0].excerpt.place == source.excerpt.place
        elif set(earlier) <= set(still):
            raise AssertionError("everything ranks, and it was not found")


@pytest.mark.parametrize(
    "change", [{"start": -5}, {"end": 1 << 39}, {"start": 40, "end": 3}, {"number": 7}, {"page": 0}]
)
def test_places_that_cannot_be_are_no_beginning(change: dict[str, Any]) -> None:
    excerpts = excerpts_of([PRICES, TRAVELS, SAFE])
    whole = packing_of(lay_out(excerpts), "u", "zh")
    wrong = Packing("u", (replace(whole.sources[0], **change), *whole.sources[1:]))
    plan = _plan(excerpts, 2000)
    assert begin_as_before(plan, [wrong], Ranking(excerpts, "zh"), Counter(), 2000) is None
    behind = Packing("u", whole.sources[1:])
    for packing in (behind, Packing("u", ())):
        assert begin_as_before(plan, [packing], Ranking(excerpts, "zh"), Counter(), 2000) is None
