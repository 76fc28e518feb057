from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from chinese_alpaca_rag.chains import Finished, PlanMade, Summary, create_summarize_chain
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS
from chinese_alpaca_rag.errors import WrongUsageError
from tests.chains.libraries import passage, ranked_passages
from tests.chains.reading_model import ReadingModel, SourceReadingModel, shown_sources

SENTENCE = "第{}节讲的是差旅报销的规定和办法。"


def book(sections: int, *, source: str = "/docs/报告.txt", title: str = "报告") -> list[Document]:
    """Passages of one page that follow one another, each of some sentences and with its own heading."""
    found, start = [], 0
    for number in range(sections):
        text = SENTENCE.format(number) * 4
        found.append(passage(text, source=source, title=title, start=start, heading=f"第{number}节"))
        start += len(text)
    return found


def summarize(model: ReadingModel, found: list[Document], **choices: Any) -> Summary:
    return create_summarize_chain(model, **choices).invoke(found)


def test_short_text_is_summarised_at_once_in_the_order_given() -> None:
    model = ReadingModel()
    summary = summarize(model, book(3))
    assert summary.receipt.strategy == "stuff"
    assert list(shown_sources(model.prompts[0])) == [1, 2, 3]
    assert summary.citations
    assert all(citation.verified for citation in summary.citations)
    assert summary.to_json()["summary"] == summary.summary


def test_long_text_is_read_whole_in_parts_in_reading_order() -> None:
    model = ReadingModel(window=1200)
    found = book(40)
    summary = summarize(model, found)
    receipt = summary.receipt
    assert (receipt.strategy, receipt.passages_used, receipt.dropped) == ("map_reduce", 40, ())
    numbers = [number for prompt in model.prompts for number in shown_sources(prompt)]
    assert numbers == list(range(1, 41))
    # Every part but the last is filled: one more section would not have fitted.
    parts = [prompt for prompt in model.prompts if shown_sources(prompt)]
    section = len("\n\n[10] 报告 · 第 1 页 · 第10节\n") + len(found[10].page_content)
    assert all(len(prompt) + section > 1200 - 300 for prompt in parts[:-1])
    assert all(citation.verified for citation in summary.citations)


@pytest.mark.parametrize("rambling", [290, 900])
@pytest.mark.parametrize("window", [1000, 1500, 3000])
def test_reduction_ends_however_much_the_model_writes(rambling: int, window: int) -> None:
    model = ReadingModel(window=window, manner="ramble", rambling=rambling)
    *events, last = create_summarize_chain(model).stream(book(60))
    assert isinstance(last, Finished)
    parts = next(event.parts for event in events if isinstance(event, PlanMade))
    assert len(model.prompts) <= 2 * parts + 1
    if rambling > window - 300 - 250:
        assert any("too long to be merged" in remark for remark in last.result.receipt.remarks)


def test_several_documents_are_named_and_keep_the_order_given() -> None:
    model = ReadingModel()
    found = book(1, source="/docs/z.txt", title="季度报告") + book(1, source="/docs/a.txt", title="会议纪要")
    summarize(model, found)
    prompt = model.prompts[0]
    assert prompt.index("[1] 季度报告") < prompt.index("[2] 会议纪要")
    assert "《季度报告》《会议纪要》" in prompt.rpartition("\n\n")[2]


def test_many_titles_are_counted_instead() -> None:
    model = ReadingModel(window=20_000)
    found = [document for n in range(12) for document in book(1, source=f"/docs/{n}", title=f"文件{n}")]
    summarize(model, found)
    assert "《文件7》等 12 份文件" in model.prompts[0]


def test_language_follows_the_documents() -> None:
    model = ReadingModel()
    summarize(model, [passage("The annual report says that travel rules changed. 报告", title="Report")])
    summarize(model, book(1))
    assert model.prompts[0].startswith(DEFAULT_PROMPTS.en.system)
    assert model.prompts[1].startswith(DEFAULT_PROMPTS.zh.system)


def test_asked_to_read_at_once_it_names_what_did_not_fit() -> None:
    model = ReadingModel(window=1200)
    found = book(40)
    receipt = summarize(model, found, strategy="stuff").receipt
    assert receipt.strategy == "stuff"
    assert receipt.passages_used + receipt.passages_dropped == 40
    assert [place.start for place in receipt.dropped] == [
        document.metadata["start"] for document in found[receipt.passages_used :]
    ]


def test_reader_of_sources_is_asked_no_question() -> None:
    model = SourceReadingModel()
    summary = summarize(model, book(30))
    [(question, sources)] = model.given
    assert question == ""
    assert len(sources) == 30
    assert (summary.receipt.strategy, summary.receipt.window) == ("stuff", None)
    assert all(citation.verified for citation in summary.citations)
    assert len(summary.citations) == 30


@pytest.mark.parametrize("found", [[], [Document(page_content=" \n")]])
def test_nothing_to_summarise_is_refused(found: list[Document]) -> None:
    with pytest.raises(WrongUsageError, match="no text"):
        summarize(ReadingModel(), found)


@settings(max_examples=40, deadline=None)
@given(ranked_passages(), st.integers(700, 3000), st.integers(50, 250), st.sampled_from(["quote", "ramble"]))
def test_everything_is_read_and_nothing_overflows(
    library: tuple[list[Document], dict[tuple[str, int], str]], window: int, reply: int, manner: Any
) -> None:
    found, _ = library
    if not found:
        return
    model = ReadingModel(window=window, max_tokens=reply, manner=manner)
    try:
        receipt = summarize(model, found).receipt  # the model itself refuses a prompt that is too long
    except WrongUsageError:
        assert window - reply < 1000
        return
    assert receipt.dropped == ()
    shown = "".join(shown for prompt in model.prompts for shown in shown_sources(prompt).values())
    for document in found:
        for line in document.page_content.split("\n"):
            assert line in shown or receipt.passages_used > len(found)
