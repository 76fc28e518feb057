from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from chinese_alpaca_rag.chains.citations import check_citations
from chinese_alpaca_rag.chains.sources import Source, excerpts_of, lay_out
from chinese_alpaca_rag.sentences import sentence_spans
from tests.chains.libraries import passage, ranked_passages

Library = tuple[list[Document], dict[tuple[str, int], str]]

MESSY = st.text(
    alphabet="年假员工王明不没有在三天15.5,，。！；：“”‘’「」『』\"'()（）[]【】12\n aZx-％%«»…— 的",
    min_size=1,
    max_size=120,
)


def quotable(text: str) -> list[tuple[int, int]]:
    """The sentences that say enough to be verified."""
    return [
        (start, end)
        for start, end in sentence_spans(text)
        if sum(character.isalnum() for character in text[start:end]) >= 3
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSY, min_size=1, max_size=3), st.data())
def test_quoted_sentences_are_always_verified_at_an_exact_place(texts: list[str], data: st.DataObject) -> None:
    """The form in which the extractive reader answers: whole sentences, each with its number behind it."""
    found = [passage(text, source=f"/{number}", start=50) for number, text in enumerate(texts)]
    sources = lay_out(excerpts_of(found))
    sentences = [
        (source, source.excerpt.text[start:end]) for source in sources for start, end in quotable(source.excerpt.text)
    ]
    assume(sentences)
    picked = data.draw(st.lists(st.sampled_from(sentences), min_size=1, max_size=5))
    pattern = data.draw(st.sampled_from(["“{}”[{}]\n", "{}[{}]\n", "“{}”[{}]", "{} [{}]\n\n", "- {}[{}]\n"]))
    answer = "".join(pattern.format(sentence, source.number) for source, sentence in picked)
    verified = [citation for citation in check_citations(answer, sources) if citation.verified]
    for source, sentence in picked:
        core = re.sub(r"^[\W_]+|[\W_]+$", "", sentence)
        assert any(
            (citation.n == source.number and core in citation.quote) or citation.quote in sentence
            for citation in verified
        ), (answer, sentence)
    for citation in verified:
        [source] = [source for source in sources if source.number == citation.n]
        excerpt = source.excerpt
        assert excerpt.text[citation.start - excerpt.start : citation.end - excerpt.start] == citation.quote


@settings(max_examples=60, deadline=None)
@given(ranked_passages(), st.data())
def test_altered_sentences_are_never_verified(library: Library, data: st.DataObject) -> None:
    found, _ = library
    sources = lay_out(excerpts_of(found))
    sentences = [
        (source, source.excerpt.text[start:end]) for source in sources for start, end in quotable(source.excerpt.text)
    ]
    assume(sentences)
    source, sentence = data.draw(st.sampled_from(sentences))
    changes = [("年假", "病假"), ("15", "51"), ("15", "16"), ("三天", "四天"), ("不得", ""), ("25.5", "255")]
    changes += [
        ("总经理", "副经理"),
        ("员工", "不员工"),
        ("ZX-200", "ZX-300"),
        ("审批", "没有审批"),
        ("annual", "anual"),
    ]
    before, after = data.draw(st.sampled_from(changes))
    altered = sentence.replace(before, after, 1)
    assume(altered != sentence)
    assume(altered.strip("。！；.\n ") not in source.excerpt.text)
    pattern = data.draw(st.sampled_from(["{}[{}]", "“{}”[{}]", "根据资料，{}[{}]", "资料规定：“{}”[{}]"]))
    for citation in check_citations(pattern.format(altered, source.number), sources):
        assert not citation.verified or altered not in citation.quote
        assert not citation.verified or len(citation.quote) < len(altered)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200) | MESSY, MESSY)
def test_any_text_is_taken(answer: str, text: str) -> None:
    assume(text.strip())
    sources = lay_out(excerpts_of([passage(text)]))
    for citation in check_citations(answer + "[1]" + answer, sources):
        if citation.verified:
            assert text[citation.start : citation.end] == citation.quote
        elif citation.n == 1:
            assert citation.source
        assert isinstance(citation.quote, str)


HOSTILE = {
    "open": "[" * 100_000,
    "pairs": "[]" * 50_000,
    "markers": "员工[1]，" * 16_000,
    "list": "[" + "1," * 50_000 + "2]",
    "numbers": "员工享有，" * 10_000 + "[" + ",".join(map(str, range(1, 10_000))) + "]",
    "long number": "[" + "9" * 100_000 + "]",
    "open quotes": "“" * 100_000 + "[1]",
    "quotes": "“年假为五天”" * 14_000 + "[1]",
    "dots": "." * 100_000 + "[1]",
    "closers": "。" + "）" * 100_000 + "[1]",
    "spaces": " " * 100_000 + "[1]",
    "lines": "\n" * 100_000 + "[1]",
    "ranges": "年[1-30]" * 12_000,
    "words": "来源1" * 30_000,
    "own marks": "见[12]。" * 16_000 + "[1]",
    "frames": "根据" * 40_000 + "[1]年假" * 1000,
    "marks above": "a" + "\u0301" * 100_000 + "[1]",
    "one word": "a" * 100_000 + "[1]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear_on_hostile_replies(name: str) -> None:
    text = "工作满一年的员工每年享有15天年假。见[1]和[12]。根据资料。" * 30
    sources = [Source(number, excerpts_of([passage(text)])[0]) for number in range(1, 31)]
    answer = HOSTILE[name]

    def seconds(reply: str) -> float:
        began = time.process_time()
        check_citations(reply, sources)
        return time.process_time() - began

    part = min(seconds(answer[: len(answer) // 8] + "[1]") for _ in range(2))
    # Eight times the text: eight times the work, and room for noise. Squared would be 64 times.
    assert seconds(answer) < 24 * part + 0.5
