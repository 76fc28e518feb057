"""What chains save on real models: the tokens that llama.cpp and transformers report as not evaluated again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.chains.packing_file import PackingFile
from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.labels import document_label
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.chains.keeping_model import RankedRetriever
from tests.chains.test_sticky import LEAVES, MEAL, PARKS, PRICES, SAFE, TRAVELS, at
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ABOUT = {
    "价格是多少？": [PRICES, TRAVELS, SAFE],
    "年假有几天？": [LEAVES, SAFE, PRICES, TRAVELS],
    "谁来审批？": [TRAVELS, PRICES, LEAVES],
    "几点吃饭？": [MEAL, PARKS],
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    return build_toy_family(tmp_path_factory.mktemp("toy"), tokenizer_model=toy_tokenizer_model())


@pytest.fixture(params=["gguf", "hf"])
def open_model(request: pytest.FixtureRequest, toy: ToyCheckpoint) -> Iterator[Any]:
    opened: list[LocalChat] = []

    def make(**more: Any) -> LocalChat:
        settings = {"window": 4096, "max_tokens": 4, "temperature": 0, **more}
        if request.param == "gguf":
            opened.append(ChatAlpacaGGUF(model_path=toy.gguf, n_threads=1, **settings))
        else:
            opened.append(ChatAlpacaHF(model_path=toy.hf, **settings))
        return opened[-1]

    yield make
    for model in opened:
        model.close()


def tokens_of(model: LocalChat, *texts: str) -> int:
    return sum(len(model.get_token_ids(text)) for text in texts)


def test_a_question_that_finds_other_passages_reuses_what_was_read(open_model: Any) -> None:
    model = open_model()
    chain = create_qa_chain(model, RankedRetriever(rankings=ABOUT, k=3))
    first, second = chain.invoke("价格是多少？").receipt, chain.invoke("年假有几天？").receipt
    assert second.passages_kept == 1
    read = tokens_of(model, PRICES.page_content, TRAVELS.page_content, SAFE.page_content)
    assert second.reused_tokens > read
    assert second.evaluated_tokens == second.prompt_tokens - second.reused_tokens < 0.6 * first.evaluated_tokens


def test_many_questions_evaluate_their_passages_once_and_write_what_they_would_alone(open_model: Any) -> None:
    model = open_model()
    questions = list(ABOUT)[:1] + list(ABOUT)[2:]
    chain = create_qa_chain(model, RankedRetriever(rankings=ABOUT, k=3))
    answers = chain.batch(questions)
    one, two, three = (answer.receipt for answer in answers)
    read = tokens_of(model, *(each.page_content for each in (PRICES, TRAVELS, SAFE, LEAVES)))
    # Questions run as threads: whichever of the two comes first reads for both.
    later, first = sorted((one.evaluated_tokens, two.evaluated_tokens))
    assert first > read
    assert later < 120
    assert (one.passages_used, one.passages_kept, three.passages_used, three.passages_kept) == (4, 1, 2, 0)
    others = create_qa_chain(open_model(), RankedRetriever(rankings=ABOUT, k=3))
    again = asyncio.run(others.abatch(questions))
    assert [answer.answer for answer in again] == [answer.answer for answer in answers]
    others = create_qa_chain(open_model(), RankedRetriever(rankings=ABOUT, k=3))
    assert others.batch(questions[:1] + questions[2:])[1].answer == answers[2].answer


def test_the_next_process_begins_as_the_last_one_did_and_finds_it_on_disk(open_model: Any, tmp_path: Path) -> None:
    packings = tmp_path / "packings.json"

    def ask(question: str) -> Any:
        model = open_model(prefix_store=tmp_path / "prefixes")
        chain = create_qa_chain(model, RankedRetriever(rankings=ABOUT, k=3), packings=PackingFile(packings))
        receipt = chain.invoke(question).receipt
        model.close()
        return receipt

    first, second = ask("价格是多少？"), ask("年假有几天？")
    assert second.passages_kept == 1
    assert second.evaluated_tokens < 0.7 * first.evaluated_tokens


def test_what_is_kept_on_disk_bears_the_label_of_its_document(toy: ToyCheckpoint, tmp_path: Path) -> None:
    labels = [document_label("/library", f"/docs/{number}.txt", f"{number}" * 64) for number in (1, 2)]
    found = [
        at(text.page_content, number + 1, document=label)
        for number, (text, label) in enumerate(zip((PRICES, TRAVELS), labels, strict=True))
    ]
    with ChatAlpacaGGUF(
        model_path=toy.gguf, n_threads=1, window=4096, max_tokens=2, prefix_store=tmp_path / "prefixes"
    ) as model:
        chain = create_qa_chain(model, RankedRetriever(rankings={"价格？": found}))
        chain.invoke("价格？")
        model.finish_saving()
        from chinese_alpaca_rag.llms.prefix_store import PrefixStore

        store = PrefixStore(tmp_path / "prefixes")
        [entry] = store.entries()
        assert list(entry.labels) == labels
        before = store.usage().blocks
        assert store.forget_documents(lambda label: label == labels[1])
        assert 0 < store.usage().blocks < before
        assert [list(entry.labels) for entry in store.entries()] == [labels[:1]]


def test_segments_of_a_chains_prompt_end_where_sources_begin(toy: ToyCheckpoint) -> None:
    from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, fill, source_messages
    from chinese_alpaca_rag.chains.sources import excerpts_of, lay_out

    model = ChatAlpacaGGUF(model_path=toy.gguf, window=4096)
    texts = DEFAULT_PROMPTS.zh

    def rendered(documents: list[Any], question: str) -> tuple[tuple[int, ...], tuple[Segment, ...]]:
        sources = lay_out(excerpts_of(documents), canonical=False)
        prompt = model.render(source_messages(texts, sources, fill(texts.answer, question=question), language="zh"))
        return prompt.ids, prompt.segments

    ids, segments = rendered([PRICES, TRAVELS], "价格？")
    longer, more = rendered([PRICES, TRAVELS, SAFE], "谁？")
    other, same = rendered([PRICES, TRAVELS], "年假？")
    assert [segment.label for segment in segments if segment.label] == ["/docs/1.txt", "/docs/2.txt"]
    behind_sources = max(segment.end for segment in segments if segment.label)
    assert ids[:behind_sources] == longer[:behind_sources]
    assert segments[:-1] == more[: len(segments) - 1]
    # The last segment ends right before the question.
    assert segments == same
    assert ids[: segments[-1].end] == other[: segments[-1].end]
    assert len(ids) - segments[-1].end < 12
