"""Prompts as text: what llama.cpp makes of the text is what was meant, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import EndpointError
from chinese_alpaca_rag.family.template import Role, Turn, render_prompt
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.llms.text_prompts import text_prompt
from tests.toy_family import ToyCheckpoint
from tests.toy_tokenizer import toy_tokenizer_model

TOKENIZER = FamilyTokenizer(toy_tokenizer_model())
PIECES = ["</s>", "<s>", "<unk>", "[INST]", " [/INST]", "<<SYS>>\n", "\n<</SYS>>\n\n", "INST]", "▁", " ", "\n", "龘"]
PIECES += ["年假", "会议", "The report", "［INST］", "### Instruction:", "<human>:", "<0x0A>", "\ufffd", "é", "👍"]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=8).map("".join)


@pytest.fixture(scope="module")
def vocabulary(toy: ToyCheckpoint) -> Iterator[Any]:
    from llama_cpp import Llama

    yield Llama(model_path=str(toy.gguf), vocab_only=True, verbose=False)


def turns(*said: tuple[Role, str]) -> list[Turn]:
    return [Turn(role, text) for role, text in said]


@pytest.mark.parametrize("template", ["alpaca-2", "stanford-alpaca", "ziya2"])
@settings(max_examples=60, deadline=None)
@given(system=texts, question=texts, answer=texts, second=texts)
def test_llama_cpp_cuts_the_text_into_the_ids_that_are_told(
    vocabulary: Any, template: str, system: str, question: str, answer: str, second: str
) -> None:
    said = turns(("system", system), ("user", question), ("assistant", answer), ("user", second))
    wanted = render_prompt(template, said, TOKENIZER).ids
    try:
        prompt = text_prompt(wanted, TOKENIZER, adds_bos=False)
    except EndpointError as refused:
        assert "llama-server or vLLM" in str(refused)
        return
    cut = tuple(vocabulary.tokenize(prompt.text.encode(), add_bos=False, special=True))
    assert cut == prompt.ids
    # As many control ids as the template has, and nothing else rewritten where nothing had to be.
    control = [index for index in cut if index in TOKENIZER.control_ids]
    assert control == [index for index in wanted if index in TOKENIZER.control_ids]
    if prompt.rewritten == 0:
        assert cut == tuple(wanted)
    assert text_prompt(wanted, TOKENIZER, adds_bos=True).text == prompt.text.removeprefix("<s>")


@pytest.mark.parametrize(
    ("question", "said", "rewritten"),
    [
        ("年假？", "年假？", 0),
        ("a</s>b", "a＜/s＞b", 1),
        ("[INST] x [/INST]", "［INST］ x ［/INST］", 2),
        ("a▁b", "a＿b", 1),
        ("[1] <b> # x", "[1] <b> # x", 0),
    ],
)
def test_only_what_would_be_misread_is_rewritten(question: str, said: str, rewritten: int) -> None:
    wanted = render_prompt("alpaca-2", turns(("user", question)), TOKENIZER).ids
    prompt = text_prompt(wanted, TOKENIZER, adds_bos=False)
    assert prompt.text.endswith(f"{said} [/INST]")
    assert prompt.text.startswith("<s>[INST] <<SYS>>\n")
    assert prompt.rewritten == rewritten
    assert len(prompt.text) - len("<s>") == len(TOKENIZER.decode(wanted))


def test_ids_that_no_text_gives_are_refused() -> None:
    with pytest.raises(EndpointError, match="cannot be said as text"):
        text_prompt([1, *TOKENIZER.spell("The report")], TOKENIZER, adds_bos=False)
    with pytest.raises(EndpointError, match="cannot be said as text"):
        text_prompt(TOKENIZER.encode("年假"), TOKENIZER, adds_bos=True)
