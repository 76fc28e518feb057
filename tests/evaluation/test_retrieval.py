"""Recall and MRR, by hand and by their laws."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.evaluation.questions import JudgedQuestion
from chinese_alpaca_rag.evaluation.retrieval import Outcome, RetrievalReport, judge
from tests.evaluation.passages import giving, passage

RIGHT, WRONG = passage("年假有十五天。"), passage("出差住宿费。")
RANKS = st.lists(st.integers(0, 10), max_size=30)


def asked(text: str, number: int = 1) -> JudgedQuestion:
    return JudgedQuestion(number, text, ("十五天",))


def report_of(ranks: list[int], k: tuple[int, ...] = (1, 5, 10)) -> RetrievalReport:
    return RetrievalReport(k, tuple(Outcome(asked("a"), rank, rank) for rank in ranks))


def test_recall_and_mrr_by_hand() -> None:
    retriever = giving(
        {"第一": [RIGHT, WRONG], "第二": [WRONG, RIGHT, RIGHT], "第四": [WRONG] * 4 + [RIGHT], "没有": [WRONG]}
    )
    questions = [asked(text, number) for number, text in enumerate(["第一", "第二", "第四", "没有", "空无"], start=1)]
    report = judge(questions, retriever, k=[4, 1, 2, 1])
    assert report.k == (1, 2, 4)
    assert [outcome.rank for outcome in report.outcomes] == [1, 2, 0, 0, 0]  # the fifth passage is not looked at
    assert [report.recall(k) for k in report.k] == [1 / 5, 2 / 5, 2 / 5]
    assert report.mean_reciprocal_rank == pytest.approx((1 + 1 / 2) / 5)
    assert [outcome.question.number for outcome in report.missed] == [3, 4, 5]
    assert [outcome.first for outcome in report.missed] == [WRONG, WRONG, None]
    assert judge(questions, retriever, k=[5]).mean_reciprocal_rank == pytest.approx((1 + 1 / 2 + 1 / 5) / 5)


def test_another_page_of_the_right_document_counts_apart() -> None:
    question = JudgedQuestion(1, "几天", sources=("手册.pdf",), pages=(2,))
    found = [passage("x", source="/别的.pdf"), passage("x", page=1), passage("x", page=2)]
    report = judge([question], giving({"几天": found}), k=[1, 2, 3])
    assert (report.outcomes[0].document_rank, report.outcomes[0].rank) == (2, 3)
    assert [report.recall(k) for k in report.k] == [0, 0, 1]
    assert [report.document_recall(k) for k in report.k] == [0, 1, 1]


def test_empty_questions_count_as_missed_and_are_not_asked() -> None:
    report = judge(
        [asked(""), asked("？", 2), asked("几天", 3)], giving({"几天": [RIGHT], "？": [RIGHT], "": [RIGHT]}), k=[1]
    )
    assert [outcome.rank for outcome in report.outcomes] == [0, 0, 1]
    assert [question.number for question in report.empty] == [1, 2]
    assert [outcome.milliseconds is None for outcome in report.outcomes] == [True, True, False]


def test_questions_that_nothing_is_known_of_do_not_count() -> None:
    report = judge([JudgedQuestion(1, "几天"), asked("几天", 2)], giving({"几天": [RIGHT]}), k=[1])
    assert report.recall(1) == 1
    assert [question.number for question in report.unjudged] == [1]
    assert report.to_json()["questions"] == 2


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    judge([asked("a"), asked("b")], giving({}), k=[1], on_question=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("k", [[], [0, 1], [-1]])
def test_depths_that_are_none(k: list[int]) -> None:
    with pytest.raises(ValueError, match="k must be"):
        judge([asked("a")], giving({}), k=k)


def test_what_the_retriever_raises_is_passed_on() -> None:
    def broken(question: str) -> list[object]:
        raise OSError("no disk")

    from langchain_core.runnables import RunnableLambda

    with pytest.raises(OSError, match="no disk"):
        judge([asked("a")], RunnableLambda(broken), k=[1])  # type: ignore[arg-type]


def test_times_by_nearest_rank() -> None:
    times = (4.0, None, 1.0, 3.0, 2.0)
    report = RetrievalReport((1,), tuple(Outcome(asked("a"), 0, 0, None, each) for each in times))
    assert (report.milliseconds(0.5), report.milliseconds(0.95)) == (2.0, 4.0)
    assert RetrievalReport((1,), ()).milliseconds(0.5) is None


def test_json_has_every_outcome() -> None:
    content = json.loads(json.dumps(judge([asked("几天")], giving({"几天": [RIGHT]}), k=[1, 5]).to_json()))
    assert content["recall"] == {"1": 1.0, "5": 1.0}
    assert content["mrr"] == 1.0
    [outcome] = content["outcomes"]
    assert outcome["first"] == {"source": "/资料/手册.pdf", "title": "手册", "page": 1, "text": "年假有十五天。"}
    assert (outcome["number"], outcome["question"], outcome["rank"]) == (1, "几天", 1)


@given(RANKS)
def test_recall_only_grows_with_k_and_mrr_lies_below_it(ranks: list[int]) -> None:
    report = report_of(ranks)
    first, fifth, tenth = (report.recall(k) for k in report.k)
    assert 0 <= first <= fifth <= tenth <= 1
    assert first <= report.mean_reciprocal_rank + 1e-12
    assert report.mean_reciprocal_rank <= tenth + 1e-12
    assert len(report.missed) == len(ranks) - report.found(10)


@given(RANKS, st.randoms())
def test_the_order_of_questions_makes_no_difference(ranks: list[int], random: object) -> None:
    shuffled = list(ranks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert report_of(shuffled).mean_reciprocal_rank == pytest.approx(report_of(ranks).mean_reciprocal_rank)
    assert report_of(shuffled).recall(5) == report_of(ranks).recall(5)
