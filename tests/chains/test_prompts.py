"""Where the segments of a prompt end, and whose they are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage

from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, Task, fill, note_messages, source_messages
from chinese_alpaca_rag.chains.sources import excerpts_of, lay_out
from chinese_alpaca_rag.llms.interface import SEGMENTS
from tests.chains.libraries import passage, ranked_passages

ZH = DEFAULT_PROMPTS.zh


def stretches(message: Any) -> list[tuple[str, str]]:
    """The text of every segment with its label, and last what is behind them."""
    assert isinstance(message, HumanMessage)
    text = message.content
    assert isinstance(text, str)
    segments = message.additional_kwargs[SEGMENTS]
    cuts = [0, *(end for end, _ in segments), len(text)]
    return [
        (text[start:end], label) for (start, end), (_, label) in zip(pairwise(cuts), [*segments, (0, "")], strict=True)
    ]


def test_segments_end_where_the_next_source_begins_and_where_the_question_does() -> None:
    found = [
        passage("年假五天。", source="/docs/a.txt", document="the label of a"),
        passage("价格25元。", source="/docs/b.txt", title="价目"),
    ]
    sources = lay_out(excerpts_of(found))
    _, message = source_messages(ZH, sources, fill(ZH.answer, question="年假有几天？"), language="zh")
    assert stretches(message) == [
        ("资料：\n\n", ""),
        ("[1] 员工手册 · 第 1 页\n年假五天。\n\n", "the label of a"),
        ("[2] 价目 · 第 1 页\n价格25元。\n\n", "/docs/b.txt"),
        (ZH.answer.partition("{question}")[0], ""),
        ("年假有几天？", ""),
    ]


def test_a_document_joined_from_passages_has_its_files_label() -> None:
    found = [passage("年假五天。", document="one"), passage("病假十天。", start=5, document="one")]
    _, message = source_messages(ZH, lay_out(excerpts_of(found)), "概括。", language="zh")
    assert [label for _, label in stretches(message)] == ["", "one", ""]


def test_notes_bear_the_labels_of_all_that_they_may_be_from() -> None:
    task = fill(ZH.merge_extracts, question="年假？")
    _, message = note_messages(ZH, ["五天[1]", "十天[2]"], task, documents=["one", "two", "one"])
    segments = message.additional_kwargs[SEGMENTS]
    first, second = len(ZH.notes_heading) + 2 + 7, len(ZH.notes_heading) + 2 + 14
    assert segments[1:-1] == [[first, "one"], [first, "two"], [second, "one"], [second, "two"]]
    assert str(message.content)[: segments[-1][0]].endswith("问题：")


def test_a_task_without_a_question_is_fixed_as_a_whole() -> None:
    assert fill("概括{titles}。", titles="《手册》") == Task("概括《手册》。", 7)
    assert fill("问题：{question}？", question="{titles}") == Task("问题：{titles}？", 3)


@given(ranked_passages(), st.text("年a。\n{}", max_size=20))
def test_segments_of_any_prompt_follow_one_another_and_lose_nothing(
    library: tuple[list[Document], object], question: str
) -> None:
    sources = lay_out(excerpts_of(library[0]))
    task = fill(ZH.answer, question=question)
    _, message = source_messages(ZH, sources, task, language="zh")
    parts = stretches(message)
    assert "".join(text for text, _ in parts) == message.content
    assert [label for _, label in parts[1:-2]] == [source.excerpt.source for source in sources]
    for source, (text, _) in zip(sources, parts[1:], strict=False):
        assert text == f"{source.label('zh')}\n{source.excerpt.text}\n\n"
    assert parts[-1] == (question, "")
