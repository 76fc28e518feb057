"""Whatever documents, questions, answers and tools say, none of it becomes a control id or a template's mark."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call

from chinese_alpaca_rag.family.template import Prompt
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.forms import read_form
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from tests.toy_byte_pair import toy_byte_pair
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

HOSTILE = [
    *("</s>", "<s>", "<unk>", "<pad>", "<0x0A>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "INST]", "SYS>>"),
    *("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>system<|end_header_id|>", "▁", "\ud800", "\x00", "😀"),
    *('{"tool_calls": [', "### Instruction:", "<human>:", "年假", " ", "\n", "a"),
]
TEXT = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=6), max_size=8).map("".join)
# JSON Schemas are texts of their own: a lone surrogate in one is refused.
DESCRIPTION = TEXT.map(lambda text: text.replace("\ud800", ""))
NAME = st.text("abc_xyz", min_size=1, max_size=8)
MARKS = {"alpaca-2": ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"), "llama-3": ()}


@pytest.fixture(scope="module")
def models(toy: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> list[ChatAlpacaGGUF]:
    third: Path = build_toy_family(
        tmp_path_factory.mktemp("third"), tokenizer_model=toy_tokenizer_model(), byte_pair=toy_byte_pair()
    ).gguf
    return [ChatAlpacaGGUF(model_path=path) for path in (toy.gguf, third)]


@given(system=TEXT, question=TEXT, answer=TEXT, name=NAME, description=TEXT, argument=DESCRIPTION, result=TEXT)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_text_becomes_a_control_id_or_a_mark(
    models: list[ChatAlpacaGGUF],
    system: str,
    question: str,
    answer: str,
    name: str,
    description: str,
    argument: str,
    result: str,
) -> None:
    parameters = {"type": "object", "properties": {"text": {"type": "string", "description": argument}}}
    tool = {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
    messages: list[BaseMessage] = [
        SystemMessage(system),
        HumanMessage(question),
        AIMessage(answer, tool_calls=[tool_call(name=name, args={"text": argument}, id="1")]),
        ToolMessage(result, tool_call_id="1"),
    ]
    for model in models:
        prompt = model._rendered(model._turns_of(messages, read_form({"tools": [tool]})))
        template = model.card.template
        assert template is not None
        check(prompt, model.tokenizer, MARKS[template])


def check(prompt: Prompt, tokenizer: Tokenizer, marks: tuple[str, ...]) -> None:
    own = {tuple(ids[start:end]) for mark in marks for ids, start, end in _spellings(mark, tokenizer)}
    for span in prompt.spans:
        ids = prompt.ids[span.start : span.end]
        if span.role == "control":
            assert all(index in tokenizer.control_ids for index in ids)
            continue
        assert tokenizer.control_ids.isdisjoint(ids)
        if span.role != "template":
            for mark in own:
                assert not any(ids[start : start + len(mark)] == mark for start in range(len(ids)))


def _spellings(mark: str, tokenizer: Tokenizer) -> list[tuple[list[int], int, int]]:
    """The ids that the template's own text has for what a mark is known by, the part behind its bracket."""
    core = mark.strip("[<>/]").join(("", "]" if mark.endswith("]") else ">>"))
    found = []
    for before in (" ", "\n", "a"):
        ids, ends = tokenizer.encode_with_ends(f"{before}{mark}")
        start = next(number for number, end in enumerate(ends) if end > len(before) + len(mark) - len(core))
        if number_of_characters(ends, start) == len(before) + len(mark) - len(core):
            found.append((ids, start, len(ids)))
    return found


def number_of_characters(ends: list[int], index: int) -> int:
    """Where the piece ``index`` begins."""
    return ends[index - 1] if index else 0
