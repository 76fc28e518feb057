"""Many questions in one go: who shares a prompt, what each question keeps for itself, and who is not lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda

from chinese_alpaca_rag.chains import Answer, create_qa_chain
from chinese_alpaca_rag.chains.grouping import group_questions
from chinese_alpaca_rag.chains.packings import RecentPackings
from chinese_alpaca_rag.chains.question_answering import QuestionAnswering
from chinese_alpaca_rag.chains.sources import Excerpt, excerpts_of, size_of
from chinese_alpaca_rag.chains.sticky import MOST_EXTRA
from chinese_alpaca_rag.chains.together import AT_ONCE
from chinese_alpaca_rag.errors import EmptyQuestionError, QuestionTooLongError
from tests.chains.keeping_model import KeepingModel, RankedRetriever
from tests.chains.libraries import ranked_passages
from tests.chains.reading_model import ReadingModel, SourceReadingModel, shown_sources
from tests.chains.test_running import Recorder
from tests.chains.test_sticky import DOCUMENTS, LEAVES, MEAL, PARKS, PRICES, SAFE, TRAVELS, at

ABOUT = {
    "年假有几天？": [LEAVES, PRICES, TRAVELS],
    "价格是多少？": [PRICES, TRAVELS, LEAVES],
    "谁来审批差旅？": [TRAVELS, LEAVES, PRICES],
    "几点吃饭？": [MEAL, PARKS, SAFE],
    "车停在哪里？": [PARKS, SAFE, MEAL],
}


class SideBySide(KeepingModel):
    """The keeping double with a ``batch`` of its own, which notes the questions that it was given together."""

    batch_size: int = 8
    batches: list[int] = []  # noqa: RUF012 - a pydantic field

    def batch(self, inputs: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        self.batches.append(len(inputs))
        return super().batch(inputs, config, **kwargs)


def chain_over(model: Any, about: dict[str, list[Document]] | None = None, **choices: Any) -> QuestionAnswering:
    return create_qa_chain(model, RankedRetriever(rankings=about or ABOUT, k=3), **choices)


def alone(question: str, about: dict[str, list[Document]] | None = None) -> Answer:
    return chain_over(KeepingModel(), about).invoke(question)


def test_questions_over_the_same_passages_share_one_prompt_and_keep_their_own_answers() -> None:
    model = SideBySide()
    answers = chain_over(model).batch(list(ABOUT))
    assert model.batches == [3, 2]
    beginnings = [prompt.rpartition("问题：")[0] for prompt in model.prompts]
    assert len(set(beginnings[:3])) == len(set(beginnings[3:])) == 1
    for question, answer in zip(ABOUT, answers, strict=True):
        by_itself = alone(question)
        assert answer.answer == by_itself.answer
        assert [one.quote for one in answer.citations] == [one.quote for one in by_itself.citations]
        assert all(citation.verified for citation in answer.citations)
        receipt = answer.receipt
        assert (receipt.strategy, receipt.passages_used, receipt.passages_kept) == ("stuff", 3, 0)
        assert receipt.evaluated_tokens == receipt.prompt_tokens - receipt.reused_tokens > 0
        assert 0 < receipt.seconds_to_first_token <= receipt.seconds
    assert sum(answer.receipt.evaluated_tokens for answer in answers) < sum(
        alone(question).receipt.evaluated_tokens for question in ABOUT
    )


def test_a_model_without_a_batch_is_asked_one_after_another_over_the_same_beginning() -> None:
    model = KeepingModel()
    answers = chain_over(model).batch(list(ABOUT))
    assert [answer.answer for answer in answers] == [alone(question).answer for question in ABOUT]
    assert len({prompt.rpartition("问题：")[0] for prompt in model.prompts[:3]}) == 1
    assert [answer.receipt.reused_tokens > 300 for answer in answers] == [False, True, True, False, True]


def test_answers_come_as_they_are_finished_and_in_order_from_batch() -> None:
    questions = [*list(ABOUT)[:1], *list(ABOUT)[3:4], *list(ABOUT)[1:3]]
    model = SideBySide()
    finished = list(chain_over(model).batch_as_completed(questions))
    assert [number for number, _ in finished] == [0, 2, 3, 1]
    assert model.batches == [3]  # the fourth has nothing in common with the others
    assert [answer.answer for answer in chain_over(SideBySide()).batch(questions)] == [
        alone(question).answer for question in questions
    ]


def test_what_was_found_for_others_counts_as_kept() -> None:
    about = {"年假有几天？": [LEAVES, PRICES, TRAVELS], "价格是多少？": [PRICES, TRAVELS, SAFE]}
    answers = chain_over(SideBySide(), about).batch(list(about))
    assert [(one.receipt.passages_used, one.receipt.passages_kept) for one in answers] == [(4, 1), (4, 1)]


def test_one_question_that_fails_does_not_cost_the_others() -> None:
    questions: list[Any] = [*ABOUT, "", "年假" * 3000, {"input": "?"}]  # the last three: empty, too long, none
    about = {**ABOUT, "年假" * 3000: DOCUMENTS}
    outcomes = chain_over(SideBySide(), about).batch(questions, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes[5:]] == [
        "EmptyQuestionError",
        "QuestionTooLongError",
        "WrongUsageError",
    ]
    assert [outcome.answer for outcome in outcomes[:5]] == [alone(question).answer for question in ABOUT]
    with pytest.raises(EmptyQuestionError):
        chain_over(SideBySide(), about).batch(questions)
    with pytest.raises(QuestionTooLongError):
        list(chain_over(SideBySide(), about).batch_as_completed([questions[6]]))


def test_a_reply_that_fails_among_several_is_one_answer_less() -> None:
    class Choking(SideBySide):
        def _stream(self, messages: Any, *more: Any, **kwargs: Any) -> Iterator[Any]:
            if "价格" in messages[-1].text.rpartition("问题：")[2]:
                raise OSError("no more memory for this row")
            yield from super()._stream(messages, *more, **kwargs)

    recorder = Recorder()
    outcomes = chain_over(Choking()).batch(list(ABOUT), {"callbacks": [recorder]}, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Answer", "OSError", "Answer", "Answer", "Answer"]
    assert [type(error) for error in recorder.failed].count(OSError) >= 1


def test_a_question_that_needs_parts_has_its_own_plan() -> None:
    long = [at(f"{number}。" + "本段与所问的事情没有关系。" * 12, 100 + number) for number in range(6)]
    about = {**dict(list(ABOUT.items())[:2]), "长文说了什么？": [*long, *DOCUMENTS[:2]]}
    model = SideBySide(window=1000, max_tokens=100)
    retriever = RankedRetriever(
        rankings={**about, "年假有几天？": [LEAVES, PRICES], "价格是多少？": [PRICES, LEAVES]}, k=8
    )
    answers = create_qa_chain(model, retriever).batch(list(about))
    assert [answer.receipt.strategy for answer in answers] == ["stuff", "stuff", "map_reduce"]
    assert model.batches == [2]


def test_languages_do_not_share_a_prompt() -> None:
    about = {"年假有几天？": [LEAVES, PRICES], "How many days?": [LEAVES, PRICES], "价格？": [PRICES, LEAVES]}
    model = SideBySide()
    chain_over(model, about).batch(list(about))
    assert model.batches == [2]
    assert sum("Question: " in prompt for prompt in model.prompts) == 1


def test_a_later_batch_begins_as_an_earlier_prompt() -> None:
    model = SideBySide()
    chain = chain_over(model, {**ABOUT, "安全？": [SAFE, LEAVES, PRICES], "帽子？": [LEAVES, SAFE, PRICES]})
    chain.invoke("价格是多少？")
    answers = chain.batch(["安全？", "帽子？"])
    assert list(shown_sources(model.prompts[1]).values()) == [each.page_content for each in (LEAVES, PRICES, SAFE)]
    assert all(answer.receipt.reused_tokens > len(LEAVES.page_content) for answer in answers)


def test_a_group_gives_no_question_more_to_read_than_it_may_have() -> None:
    extra, one, two, three = (at(f"{number}号".ljust(100, "续"), number) for number in range(4))
    about = {"前？": [extra, one], "甲？": [one, two, extra], "乙？": [one, three, extra]}
    model = SideBySide()
    chain = create_qa_chain(model, RankedRetriever(rankings=about, k=2))
    chain.invoke("前？")
    assert [answer.receipt.passages_used for answer in chain.batch(["甲？", "乙？"])] == [3, 3]
    assert chain.invoke("甲？").receipt.passages_used <= 3


def test_a_beginning_that_is_not_held_is_noticed_by_a_group_as_well() -> None:
    about = {**ABOUT, "安全？": [SAFE, LEAVES, PRICES], "帽子？": [LEAVES, SAFE, PRICES]}
    memory = RecentPackings()
    chain = chain_over(SideBySide(holds=0), {**about, "差旅？": [TRAVELS, LEAVES, SAFE]}, packings=memory)
    chain.invoke("差旅？")
    [stale] = memory._packings
    receipts = [answer.receipt for answer in chain.batch(["安全？", "帽子？"])]
    assert [receipt.reused_tokens for receipt in receipts] == [0, 0]
    assert stale not in memory._packings


def test_the_time_that_others_took_is_not_a_questions_own() -> None:
    chain = chain_over(KeepingModel(pace=lambda: time.sleep(0.01)))
    began = time.monotonic()
    answers = chain.batch(list(ABOUT))
    elapsed = time.monotonic() - began
    assert sum(answer.receipt.seconds for answer in answers) < elapsed
    assert all(answer.receipt.seconds > 0.01 for answer in answers)


def test_a_member_whose_own_prompt_does_not_fit_is_asked_alone() -> None:
    class Odd(SideBySide):
        """Counts prompts of more than one source about prices as far too long."""

        def count_prompt_tokens(self, messages: Sequence[BaseMessage]) -> int:
            odd = "价格" in messages[-1].text.rpartition("问题：")[2] and "[4]" in messages[-1].text
            return super().count_prompt_tokens(messages) + 10_000 * odd

    about = {
        "价格？": [PRICES, TRAVELS, SAFE],
        "关于年假的一个很长的问题：": [LEAVES, PRICES, TRAVELS],
        "还有一个关于年假的问题？": [LEAVES, TRAVELS, PRICES],
    }
    model = Odd()
    answers = chain_over(model, about).batch(list(about))
    assert model.batches == [2]
    assert [answer.answer for answer in answers] == [alone(question, about).answer for question in about]


def test_every_question_keeps_its_callbacks_and_config() -> None:
    recorders = [Recorder() for _ in ABOUT]
    configs: list[RunnableConfig] = [
        {"callbacks": [recorder], "run_name": f"question {number}"} for number, recorder in enumerate(recorders)
    ]
    chain_over(SideBySide()).batch(list(ABOUT), configs)
    for number, recorder in enumerate(recorders):
        assert [name for name, _ in recorder.started] == [f"question {number}", "RankedRetriever", "answer"]
        [outcome] = recorder.ended
        assert isinstance(outcome, Answer)
        assert recorder.started[0][1] is None
        assert len({parent for _, parent in recorder.started[1:]}) == 1


def test_a_batch_goes_through_a_sequence() -> None:
    model = SideBySide()
    text: Any = chain_over(model) | RunnableLambda(lambda answer: answer.answer)
    assert text.batch(list(ABOUT)) == [alone(question).answer for question in ABOUT]
    assert model.batches == [3, 2]
    failing = text.batch([*ABOUT, ""], return_exceptions=True)
    assert isinstance(failing[-1], EmptyQuestionError)


def test_no_questions_are_no_work() -> None:
    assert chain_over(SideBySide()).batch([]) == []
    assert asyncio.run(chain_over(SideBySide()).abatch([])) == []


def test_more_questions_than_are_looked_up_at_once() -> None:
    looked_up: list[str] = []

    class Counting(RankedRetriever):
        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
        ) -> list[Document]:
            looked_up.append(query)
            return [LEAVES, PRICES]

    chain = create_qa_chain(SideBySide(), Counting(rankings={}))
    outcomes = chain.batch_as_completed([f"第{number}问？" for number in range(AT_ONCE + 5)])
    next(outcomes)
    assert AT_ONCE <= len(looked_up) < AT_ONCE + 5
    assert len(list(outcomes)) == AT_ONCE + 4


def test_readers_of_sources_and_models_of_others_take_batches_as_well() -> None:
    reader = SourceReadingModel()
    assert [len(one.citations) for one in chain_over(reader).batch(list(ABOUT))] == [3] * 5
    plain = FakeListChatModel(responses=["没有[1]"])
    answers = chain_over(plain, window=4000).batch(list(ABOUT))
    assert [answer.answer for answer in answers] == ["没有[1]"] * 5
    assert len(list(chain_over(plain, window=4000).batch_as_completed(list(ABOUT)))) == 5
    assert len(asyncio.run(chain_over(plain, window=4000).abatch(list(ABOUT)))) == 5


def test_abatch_gives_the_same() -> None:
    together = asyncio.run(chain_over(SideBySide()).abatch(list(ABOUT)))
    assert [one.answer for one in together] == [alone(question).answer for question in ABOUT]
    failing = asyncio.run(chain_over(SideBySide()).abatch([*ABOUT, ""], return_exceptions=True))
    assert isinstance(failing[-1], EmptyQuestionError)

    async def first() -> int:
        async for number, _ in chain_over(SideBySide()).abatch_as_completed(list(ABOUT)):
            return number
        return -1

    assert asyncio.run(first()) == 0


class Watched(SideBySide):
    """Says when its batch is under way; it ends when it is cancelled, as the kit's own models do."""

    cancelled: Any = None
    under_way: Any = None

    async def abatch(self, inputs: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        self.under_way.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return []


def test_cancelling_stops_the_model_in_the_middle_of_a_batch() -> None:
    model = Watched(cancelled=threading.Event(), under_way=threading.Event())

    async def run() -> float:
        task = asyncio.create_task(chain_over(model).abatch(list(ABOUT)))
        await asyncio.to_thread(model.under_way.wait, 5)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(run()) < 5
    assert model.cancelled.wait(5)


@pytest.mark.parametrize("model", [SideBySide, KeepingModel])
def test_whoever_stops_listening_stops_the_work(model: Callable[[], KeepingModel]) -> None:
    asked = model()
    outcomes = chain_over(asked).batch_as_completed(list(ABOUT))
    next(outcomes)
    outcomes.close()
    assert len(asked.prompts) == (3 if isinstance(asked, SideBySide) else 1)


# Groups, of anything found for anything.


@st.composite
def found(draw: st.DrawFn) -> list[list[Excerpt]]:
    everything = excerpts_of(draw(ranked_passages())[0])
    some = st.lists(st.sampled_from(everything), max_size=6, unique=True) if everything else st.just([])
    return draw(st.lists(some, max_size=10))


def test_what_has_something_in_common_is_asked_in_a_row() -> None:
    leaves, prices, travels, safe, parks, meal = map(excerpts_of, ([each] for each in DOCUMENTS))
    needed = [leaves + prices, safe, prices + travels, [], safe + parks, travels + meal]
    assert group_questions(needed, 1, lambda *_: True) == [[0], [2], [5], [1], [4], [3]]
    assert group_questions(needed, 4, lambda *_: False) == [[0], [2], [5], [1], [4], [3]]
    same = [leaves + prices, safe, prices + leaves, leaves + prices]
    assert group_questions(same, 4, lambda *_: True) == [[0, 2, 3], [1]]
    assert group_questions(same, 2, lambda *_: True) == [[0, 2], [3], [1]]


@settings(max_examples=200, deadline=None)
@given(found(), st.integers(1, 6), st.integers(0, 2000))
def test_groups_hold_every_question_once_and_stay_within_bounds(
    needed: list[list[Excerpt]], most: int, room: int
) -> None:
    def fits(members: Sequence[int], passages: Sequence[Excerpt]) -> bool:
        assert set(passages) == {excerpt for member in members for excerpt in needed[member]}
        return sum(map(size_of, passages)) <= room

    groups = group_questions(needed, most, fits)
    assert sorted(place for group in groups for place in group) == list(range(len(needed)))
    assert not groups or groups[0][0] == 0
    for group in groups:
        assert len(group) <= most
        if len(group) == 1:
            continue
        whole = sum(map(size_of, {excerpt for place in group for excerpt in needed[place]}))
        assert whole <= room
        for place in group:
            own = sum(map(size_of, needed[place]))
            assert own > 0
            assert whole - own <= MOST_EXTRA * own


def test_a_question_that_shares_too_little_is_not_joined() -> None:
    def needs(*numbers: int) -> list[Excerpt]:
        return excerpts_of([at(f"{number}号".ljust(100, "续"), number) for number in numbers])

    def always(*_: object) -> bool:
        return True

    assert group_questions([needs(*range(10)), needs(*range(7, 17))], 8, always) == [[0], [1]]
    assert group_questions([needs(*range(10)), needs(*range(6, 16))], 8, always) == [[0, 1]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(DOCUMENTS), min_size=1, max_size=6, unique_by=id), min_size=1, max_size=6),
    st.integers(700, 1400),
    st.integers(0, 2),
)
def test_together_every_question_reads_all_that_it_would_read_alone(
    rankings: list[list[Document]], window: int, asked_before: int
) -> None:
    about = {f"第{number}问？": ranking for number, ranking in enumerate(rankings)}
    settings: dict[str, Any] = {"window": window, "max_tokens": 100}
    model = SideBySide(**settings)
    chain = create_qa_chain(model, RankedRetriever(rankings=about, k=4))
    for question in list(about)[:asked_before]:
        chain.invoke(question)
    model.prompts.clear()
    outcomes = chain.batch(list(about))
    for question, answer in zip(about, outcomes, strict=True):
        reading = ReadingModel(**settings)
        by_itself = create_qa_chain(reading, RankedRetriever(rankings=about, k=4)).invoke(question)
        assert answer.receipt.strategy == by_itself.receipt.strategy
        if answer.receipt.strategy == "map_reduce":
            continue
        assert set(answer.receipt.dropped) <= set(by_itself.receipt.dropped)
        [prompt] = [prompt for prompt in model.prompts if prompt.endswith(question)]
        texts, own = (set(shown_sources(one).values()) for one in (prompt, reading.prompts[0]))
        assert own <= texts
        places = {(place.source, place.start) for place in answer.receipt.dropped}
        for each in about[question][:4]:
            assert each.page_content in texts or (each.metadata["source"], each.metadata["start"]) in places
        assert answer.receipt.passages_used == len(texts)
        assert sum(map(len, texts)) <= (1 + MOST_EXTRA) * sum(map(len, own)) + 0.1 * len(LEAVES.page_content)
