"""Files of questions with what is right for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion, judged_questions


def squad(*asked: dict[str, Any], context: str = "年假有十五天。") -> str:
    return json.dumps({"version": "v1", "data": [{"paragraphs": [{"context": context, "qas": list(asked)}]}]})


def qa(question: str, *answers: str, **more: Any) -> dict[str, Any]:
    return {"question": question, "answers": [{"text": answer, "answer_start": 0} for answer in answers], **more}


def read(text: str) -> tuple[JudgedQuestion, ...]:
    return judged_questions(text, name="q.jsonl")


def complaint(text: str) -> str:
    with pytest.raises(WrongUsageError) as caught:
        read(text)
    assert '{"question":' in caught.value.hint.en
    assert '{"question":' in caught.value.hint.zh
    return caught.value.message.en


def test_squads_layout() -> None:
    found = read(squad(qa("几天？", "十五天", "十五天", " "), qa("问", "年假")))
    assert found == (
        JudgedQuestion(1, "几天？", ("十五天",), context="年假有十五天。"),
        JudgedQuestion(2, "问", ("年假",), context="年假有十五天。"),
    )


def test_questions_without_an_answer_are_not_judged() -> None:
    plausible = {"is_impossible": True, "plausible_answers": [{"text": "十五天"}]}
    found = read(squad(qa("几天？", "十五天"), qa("不可能", **plausible), qa("答案为空", "", "\u200b")))
    assert [question.is_judged for question in found] == [True, False, False]


def test_lines_of_json() -> None:
    lines = [
        {"question": " 几天？ ", "answer": "十五天"},
        {"question": "b", "answers": ["x", "y", "x"], "note": 1},
        {"question": "c", "source": "a.pdf", "page": 3},
        {"question": "d", "source": ["a.pdf", "b.pdf"], "page": [1, 2]},
        {"question": "e", "context": "原文", "answer": []},
        {"question": "f", "answer": []},
    ]
    text = "\r\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    assert read(text) == (
        JudgedQuestion(1, "几天？", ("十五天",)),
        JudgedQuestion(3, "b", ("x", "y")),
        JudgedQuestion(5, "c", sources=("a.pdf",), pages=(3,)),
        JudgedQuestion(7, "d", sources=("a.pdf", "b.pdf"), pages=(1, 2)),
        JudgedQuestion(9, "e", context="原文"),
        JudgedQuestion(11, "f"),
    )


def test_empty_questions_stay() -> None:
    found = read(
        '{"question": "", "answer": "x"}\n{"question": "？！", "answer": "x"}\n{"question": "a", "answer": "x"}'
    )
    assert [question.is_empty for question in found] == [True, True, False]


def test_half_a_character_is_none() -> None:
    [found] = read('{"question": "\\ud83d年假", "answer": "x"}')
    assert found.question == "?年假"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("几天？", "Line 2 of q.jsonl is no JSON object with a question"),
        ("[1]", "Line 2 of q.jsonl is no JSON object"),
        ('{"question": 5, "answer": "x"}', "with a question"),
        ('{"question": "a"}', "no answer, source or context"),
        ('{"question": "a", "answer": 5}', "wrong answer"),
        ('{"question": "a", "answer": null}', "wrong answer"),
        ('{"question": "a", "answer": [["x"]]}', "wrong answer"),
        ('{"question": "a", "source": {"name": "x"}}', "wrong source"),
        ('{"question": "a", "answer": "x", "page": 1}', "a page but no source"),
        ('{"question": "a", "source": "x", "page": 0}', "wrong page"),
        ('{"question": "a", "source": "x", "page": "1"}', "wrong page"),
        ('{"question": "a", "source": "x", "page": true}', "wrong page"),
        ('{"question": "a", "context": ["x"]}', "a context that is no text"),
        ("[" * 100_000, "no JSON object"),
        ('{"question": "a", "source": "x", "page": ' + "9" * 5000 + "}", "no JSON object"),
    ],
)
def test_a_wrong_line_is_named(line: str, says: str) -> None:
    told = complaint('{"question": "a", "answer": "x"}\n' + line)
    assert says in told
    assert "Line 2" in told


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"data": {}}, "a list at data"),
        ({"data": [{}]}, "a list at data[0].paragraphs"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "a text at data[0].paragraphs[0].context"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, "a list at data[0].paragraphs[0].qas"),
        (
            {"data": [{"paragraphs": [{"context": "x", "qas": [{"answers": []}]}]}]},
            "a text at data[0].paragraphs[0].qas[0]",
        ),
        ({"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "q"}]}]}]}, "qas[0].answers"),
        (
            {"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "q", "answers": ["a"]}]}]}]},
            "answers[0].text",
        ),
        ({"data": []}, "no question that can be judged"),
        ({"items": []}, "Line 1"),
        ([], "Line 1"),
    ],
)
def test_another_layout_is_told_with_its_place(content: object, says: str) -> None:
    assert says in complaint(json.dumps(content))


@pytest.mark.parametrize("text", ["", "\n\n", '{"question": "a", "answer": ""}'])
def test_a_file_without_anything_to_judge(text: str) -> None:
    assert "no question that can be judged" in complaint(text)
