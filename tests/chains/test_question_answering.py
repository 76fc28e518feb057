from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document

from chinese_alpaca_rag.chains import Answer, Finished, PlanMade, Progress, Token, create_qa_chain
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS
from chinese_alpaca_rag.errors import EmptyQuestionError, QuestionTooLongError, WrongUsageError
from tests.chains.libraries import FixedRetriever, passage
from tests.chains.reading_model import CHUNK, ReadingModel, SourceReadingModel, shown_sources

LEAVE = "工作满一年的员工每年享有15天年假。"
PRICE = "ZX-200的价格为25.5元。"
RULES = "差旅费用由总经理审批。"
QUESTION = "年假有几天？"
FILLER = "本段说明与所问的事情没有关系，只是占据位置而已。"


def apart(*texts: str) -> list[Document]:
    """Passages far apart from each other, in two documents by turns."""
    return [passage(text, source=f"/docs/{number % 2}.txt", start=10_000 * number) for number, text in enumerate(texts)]


def ask(model: ReadingModel, found: list[Document], question: Any = QUESTION, **choices: Any) -> Answer:
    return create_qa_chain(model, FixedRetriever(documents=found), **choices).invoke(question)


def test_answer_is_cited_and_accounted_for() -> None:
    model = ReadingModel()
    answer = ask(model, apart(PRICE, LEAVE, RULES))
    assert answer.answer.startswith(LEAVE)
    assert [citation.verified for citation in answer.citations] == [True] * 3
    leave = answer.citations[0]
    assert (leave.source, leave.page, leave.start, leave.end) == ("/docs/1.txt", 1, 10_000, 10_000 + len(LEAVE))
    assert leave.quote == LEAVE
    receipt = answer.receipt
    assert (receipt.model, receipt.strategy, receipt.window) == ("reading-double", "stuff", 4000)
    assert (receipt.passages_used, receipt.passages_dropped, receipt.dropped) == (3, 0, ())
    assert receipt.prompt_tokens == len(model.prompts[0]) - 1 - model.prompts[0].count("\n\n") + 11
    assert receipt.output_tokens == len(answer.answer)
    assert receipt.reused_tokens == 11
    assert 0 < receipt.seconds_to_first_token <= receipt.seconds
    assert answer.to_json()["citations"][0]["verified"] is True


def test_prompt_is_system_then_sources_in_canonical_order_then_the_question() -> None:
    model = ReadingModel()
    ask(model, apart(PRICE, LEAVE, RULES, FILLER))
    prompt = model.prompts[0]
    assert prompt.startswith(DEFAULT_PROMPTS.zh.system)
    assert shown_sources(prompt) == {1: PRICE, 2: RULES, 3: LEAVE, 4: FILLER}
    assert prompt.endswith("问题：" + QUESTION)


def test_another_question_over_the_same_passages_shares_everything_up_to_the_task() -> None:
    model = ReadingModel()
    ask(model, apart(PRICE, LEAVE, RULES), "年假有几天？")
    ask(model, list(reversed(apart(PRICE, LEAVE, RULES))), "价格是多少？")
    first, second = model.prompts
    shared = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    assert first[shared:] == QUESTION


def test_sources_are_labelled_with_title_page_and_heading() -> None:
    model = ReadingModel()
    found = [passage(LEAVE, page=3, heading="第二章 › 休假", title="员工手册")]
    ask(model, found)
    assert "\n\n[1] 员工手册 · 第 3 页 · 第二章 › 休假\n" + LEAVE in model.prompts[0]
    ask(model, found, "How many days?")
    assert "\n\n[1] 员工手册 · page 3 · 第二章 › 休假\n" + LEAVE in model.prompts[1]


@pytest.mark.parametrize(
    ("question", "language", "expected"),
    [
        ("年假有几天？", "auto", "zh"),
        ("How many days?", "auto", "en"),
        ("What is 年假?", "auto", "zh"),
        ("年假有几天？", "en", "en"),
        ("How many days?", "zh", "zh"),
    ],
)
def test_language_follows_the_question_unless_it_is_given(question: str, language: Any, expected: str) -> None:
    model = ReadingModel()
    ask(model, apart(LEAVE), question, language=language)
    assert model.prompts[0].startswith(getattr(DEFAULT_PROMPTS, expected).system)


@pytest.mark.parametrize("question", ["", "   ", "？！", "\n", {"question": " 。"}])
def test_empty_question_is_refused_before_anything_is_looked_up(question: Any) -> None:
    class Untouched(FixedRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            raise AssertionError("looked up an empty question")

    with pytest.raises(EmptyQuestionError):
        create_qa_chain(ReadingModel(), Untouched(documents=[])).invoke(question)


@pytest.mark.parametrize("given", [None, 5, {"input": "年假？"}, ["年假？"]])
def test_input_without_a_question_is_refused(given: Any) -> None:
    with pytest.raises(WrongUsageError, match="question"):
        ask(ReadingModel(), apart(LEAVE), given)


@pytest.mark.parametrize("choices", [{"strategy": "refine"}, {"language": "fr"}])
def test_unknown_choice_is_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(WrongUsageError, match=r"map_reduce|zh"):
        ask(ReadingModel(), apart(LEAVE), **choices)


@pytest.mark.parametrize(("question", "words"), [("年假有几天？", "没有找到"), ("How many days?", "Nothing")])
def test_nothing_found_is_said_without_calling_the_model(question: str, words: str) -> None:
    model = ReadingModel()
    chain = create_qa_chain(model, FixedRetriever(documents=[]))
    events = list(chain.stream(question))
    assert [type(event) for event in events] == [PlanMade, Token, Finished]
    answer = chain.invoke(question)
    assert words in answer.answer
    assert answer.citations == ()
    assert (answer.receipt.passages_used, answer.receipt.prompt_tokens) == (0, 0)
    assert model.prompts == []


def test_question_is_never_cut() -> None:
    model = ReadingModel(window=1000)
    with pytest.raises(QuestionTooLongError) as caught:
        ask(model, apart(LEAVE), "年假" * 500)
    numbers = [int(word) for word in caught.value.message.en.replace(",", " ").split() if word.isdigit()]
    assert len(numbers) == 2
    assert numbers[0] > 1000
    assert numbers[1] == 700
    assert model.prompts == []


@pytest.mark.parametrize("strategy", ["auto", "stuff", "map_reduce"])
def test_window_too_short_for_any_source_is_no_fault_of_the_question(strategy: Any) -> None:
    with pytest.raises(WrongUsageError, match=r"window") as caught:
        ask(ReadingModel(window=330, max_tokens=100), apart(LEAVE), strategy=strategy)
    assert not isinstance(caught.value, QuestionTooLongError)


def test_what_does_not_fit_is_left_out_from_the_end_of_the_ranking_and_named() -> None:
    model = ReadingModel(window=1100)
    found = apart(LEAVE, *[FILLER * 4 + str(number) for number in range(7)], PRICE)
    answer = ask(model, found)
    receipt = answer.receipt
    assert receipt.strategy == "stuff"
    assert receipt.passages_used + receipt.passages_dropped == len(found)
    shown = set(shown_sources(model.prompts[0]).values())
    assert LEAVE in shown
    assert PRICE in shown  # last in rank, but it still fits
    left = [document for document in found if document.page_content not in shown]
    assert len(left) == receipt.passages_dropped > 0
    assert [(place.source, place.start) for place in receipt.dropped] == [
        (document.metadata["source"], document.metadata["start"]) for document in left
    ]


def test_too_few_fitting_passages_are_read_in_parts() -> None:
    model = ReadingModel(window=1000)
    found = apart(*[FILLER * 8 + str(number) for number in range(5)], FILLER * 5 + LEAVE)
    answer = ask(model, found)
    assert answer.receipt.strategy == "map_reduce"
    assert (answer.receipt.passages_used, answer.receipt.passages_dropped) == (6, 0)
    numbers = [number for prompt in model.prompts[:-1] for number in shown_sources(prompt)]
    assert numbers == list(range(1, 7))
    assert LEAVE in answer.answer
    leave = next(citation for citation in answer.citations if citation.quote == LEAVE)
    assert leave.verified
    assert leave.start == 50_000 + len(FILLER) * 5
    assert answer.receipt.prompt_tokens > 1000


@pytest.mark.parametrize("strategy", ["auto", "stuff", "map_reduce"])
def test_passage_longer_than_the_window_is_split_between_sentences_and_not_lost(strategy: Any) -> None:
    model = ReadingModel(window=1000, max_tokens=200)
    text = "".join(f"第{number}条，{FILLER}" for number in range(60)) + LEAVE
    answer = ask(model, [passage(text, start=500)], strategy=strategy)
    receipt = answer.receipt
    assert receipt.strategy == ("stuff" if strategy == "stuff" else "map_reduce")
    assert receipt.passages_used + receipt.passages_dropped >= (2 if strategy == "stuff" else 4)
    read = [shown for prompt in model.prompts for shown in shown_sources(prompt).values() if shown in text]
    dropped = [text[place.start - 500 : place.end - 500] for place in receipt.dropped]
    parts = sorted(read + dropped, key=text.index)
    assert "".join(parts) == text
    assert all(part.endswith("。") for part in parts)
    if strategy != "stuff":
        assert LEAVE in [citation.quote for citation in answer.citations if citation.verified]


def test_parts_that_hold_nothing_are_left_out_and_nothing_at_all_is_said() -> None:
    model = ReadingModel(window=1000, manner="nothing")
    answer = ask(model, apart(*[FILLER * 8 + str(number) for number in range(6)]))
    assert answer.answer == DEFAULT_PROMPTS.zh.nothing_relevant
    assert answer.receipt.strategy == "map_reduce"
    assert all("无相关内容" in prompt for prompt in model.prompts)


@pytest.mark.parametrize("strategy", ["stuff", "map_reduce"])
def test_explicit_strategy_is_honoured_when_everything_would_fit(strategy: Any) -> None:
    model = ReadingModel()
    answer = ask(model, apart(LEAVE, PRICE), strategy=strategy)
    assert answer.receipt.strategy == strategy
    assert len(model.prompts) == (1 if strategy == "stuff" else 2)
    assert answer.answer.startswith(LEAVE)


def test_events_tell_plan_progress_tokens_and_result_in_this_order() -> None:
    model = ReadingModel(window=1000)
    chain = create_qa_chain(model, FixedRetriever(documents=apart(*[FILLER * 8 + str(n) for n in range(5)], LEAVE)))
    events = list(chain.stream(QUESTION))
    kinds = [type(event) for event in events]
    assert kinds[0] is PlanMade
    assert kinds[-1] is Finished
    assert kinds.index(Progress) < kinds.index(Token)
    plan, result = events[0], events[-1]
    assert isinstance(plan, PlanMade)
    assert isinstance(result, Finished)
    assert (plan.strategy, plan.window, plan.parts) == ("map_reduce", 1000, len(model.prompts) - 1)
    assert str(plan.parts) in plan.reason.en
    assert str(plan.parts) in plan.reason.zh
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, len(model.prompts) + 1))
    assert {event.total for event in progress} == {len(model.prompts)}
    pieces = [event.text for event in events if isinstance(event, Token)]
    assert "".join(pieces) == result.result.answer
    assert max(map(len, pieces)) == CHUNK
    assert result.result.receipt.remarks == ()


def test_reply_cut_at_its_longest_is_remarked_on() -> None:
    chain = create_qa_chain(ReadingModel(max_tokens=10), FixedRetriever(documents=apart(LEAVE)))
    *_, last = chain.stream(QUESTION)
    assert isinstance(last, Finished)
    assert ["max_tokens" in remark for remark in last.result.receipt.remarks] == [True]


def test_tokens_are_counted_where_the_model_does_not_say() -> None:
    model = ReadingModel(reports_usage=False)
    answer = ask(model, apart(LEAVE, PRICE))
    assert answer.receipt.prompt_tokens == len(model.prompts[0]) - 1 - model.prompts[0].count("\n\n") + 11
    assert answer.receipt.output_tokens == len(answer.answer)
    assert answer.receipt.reused_tokens == 0


@pytest.mark.parametrize("strategy", ["auto", "map_reduce"])
def test_reader_of_sources_is_given_them_and_the_question(strategy: Any) -> None:
    model = SourceReadingModel(window=100, max_tokens=99)
    answer = ask(model, apart(PRICE, LEAVE), strategy=strategy)
    [(question, sources)] = model.given
    assert question == QUESTION
    assert [(source.number, source.text) for source in sources] == [(1, PRICE), (2, LEAVE)]
    assert [(citation.quote, citation.verified) for citation in answer.citations] == [(PRICE, True), (LEAVE, True)]
    receipt = answer.receipt
    assert (receipt.strategy, receipt.window) == ("stuff", None)
    assert (receipt.prompt_tokens, receipt.output_tokens, receipt.passages_used) == (0, 0, 2)


def test_prompts_can_be_replaced_and_must_hold_the_question() -> None:
    from dataclasses import replace

    own = replace(DEFAULT_PROMPTS, version="own", zh=replace(DEFAULT_PROMPTS.zh, answer="只答一句。\n问题：{question}"))
    model = ReadingModel()
    ask(model, apart(LEAVE), "{titles}有几天？", prompts=own)
    assert model.prompts[0].endswith("\n\n只答一句。\n问题：{titles}有几天？")
    with pytest.raises(WrongUsageError, match="answer"):
        replace(DEFAULT_PROMPTS.zh, answer="只答一句。")
