from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from chinese_alpaca_rag.chains import Answer, Finished, PlanMade, create_qa_chain
from chinese_alpaca_rag.chains.measuring import measure_model
from chinese_alpaca_rag.chains.planner import Plan, plan_answer
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS
from chinese_alpaca_rag.chains.sources import excerpts_of
from chinese_alpaca_rag.errors import QuestionTooLongError, WrongUsageError
from tests.chains.libraries import FixedRetriever, passage, ranked_passages
from tests.chains.reading_model import ReadingModel, shown_sources

Library = tuple[list[Document], dict[tuple[str, int], str]]
STRATEGIES = st.sampled_from(("auto", "stuff", "map_reduce"))
# With this much room for prompts the generated passages always fit, whole or in parts.
AMPLE = 650


def plan(texts: list[str], window: int, strategy: Any = "auto") -> Plan:
    found = [passage(text, source=f"/{number}", start=10) for number, text in enumerate(texts)]
    measure = measure_model(ReadingModel(window=window, max_tokens=100))
    return plan_answer(
        excerpts_of(found), "年假有几天？", measure, DEFAULT_PROMPTS.zh, language="zh", strategy=strategy
    )


@pytest.mark.parametrize(
    ("passages", "fitting", "strategy"),
    [
        (12, 12, "stuff"),
        (12, 4, "stuff"),
        (12, 3, "map_reduce"),
        (6, 3, "stuff"),
        (6, 2, "map_reduce"),
        (3, 2, "stuff"),
        (3, 1, "map_reduce"),
        (2, 1, "stuff"),
    ],
)
def test_the_four_best_or_half_of_them_are_enough(passages: int, fitting: int, strategy: str) -> None:
    texts = ["年假" * 100] * passages
    whole = plan(texts[:fitting], 100_000).prompt_tokens
    made = plan(texts, whole + 100 + 50)
    assert made.strategy == strategy
    if strategy == "stuff":
        assert (made.used, len(made.dropped)) == (fitting, passages - fitting)
    else:
        assert (made.used, made.dropped) == (passages, ())
        assert str(fitting) in made.reason.en


def test_reasons_give_the_numbers_in_both_languages() -> None:
    made = plan(["年假" * 100] * 3, 2000)
    for reason in (made.reason.zh, made.reason.en):
        assert str(made.prompt_tokens) in reason
        assert "1900" in reason


@settings(max_examples=150, deadline=None)
@given(
    ranked_passages(),
    st.integers(200, 2500),
    st.integers(20, 400),
    STRATEGIES,
    st.sampled_from(["年假有几天？", "How many days?"]),
)
def test_no_library_window_or_reserve_overflows_or_loses_a_passage(
    library: Library, room: int, reply: int, strategy: Any, question: str
) -> None:
    """The model double itself refuses any prompt that does not leave room for the reply."""
    found, shelf = library
    assume(found)
    model = ReadingModel(window=room + reply, max_tokens=reply)
    chain = create_qa_chain(model, FixedRetriever(documents=found), strategy=strategy)
    try:
        events = list(chain.stream(question))
    except WrongUsageError as error:
        assert room < AMPLE + 400 * (question[0] == "H"), error.message.en
        assert model.prompts == []
        return
    made, last = events[0], events[-1]
    assert isinstance(made, PlanMade)
    assert isinstance(last, Finished)
    answer: Answer = last.result
    receipt = answer.receipt
    excerpts = excerpts_of(found)
    assert receipt.passages_used + receipt.passages_dropped >= len(excerpts)
    assert (made.passages_used, made.passages_dropped) == (receipt.passages_used, receipt.passages_dropped)
    reading = model.prompts[: made.parts]
    shown = [source for prompt in reading for source in shown_sources(prompt).items()]
    assert [number for number, _ in shown] == list(range(1, len(shown) + 1))
    # Everything found is either shown or named as left out.
    text = "\0".join(stretch for _, stretch in shown)
    left = [shelf[place.source, place.page][place.start : place.end] for place in receipt.dropped]
    for excerpt in excerpts:
        for line in excerpt.text.splitlines():
            assert (
                line.strip() in text
                or any(line.strip() in one or one.strip() in line for one in left)
                or (receipt.passages_used + receipt.passages_dropped > len(excerpts))
            )
    for citation in answer.citations:
        if sum(character.isalnum() for character in citation.quote) < 3:
            continue  # a passage that begins within a sentence can give a word as its first one
        assert citation.verified
        assert shelf[citation.source, citation.page][citation.start : citation.end] == citation.quote


@settings(max_examples=60, deadline=None)
@given(ranked_passages(), st.integers(600, 2500), st.randoms(use_true_random=False))
def test_the_order_of_the_ranking_does_not_change_a_prompt_that_holds_everything(
    library: Library, window: int, random: Any
) -> None:
    found, _ = library
    assume(found)
    shuffled = random.sample(found, len(found))
    prompts = []
    for documents in (found, shuffled):
        model = ReadingModel(window=100_000)
        create_qa_chain(model, FixedRetriever(documents=documents)).invoke("年假有几天？")
        prompts.append(model.prompts[0])
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize("strategy", ["auto", "stuff", "map_reduce"])
@pytest.mark.parametrize("length", [600, 5000])
def test_long_question_is_the_questions_fault(strategy: Any, length: int) -> None:
    measure = measure_model(ReadingModel(window=1000))
    excerpts = excerpts_of([passage("年假" * 30)])
    with pytest.raises(QuestionTooLongError):
        plan_answer(excerpts, "问" * length, measure, DEFAULT_PROMPTS.zh, language="zh", strategy=strategy)
