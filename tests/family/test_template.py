from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError, NotAChatModelError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, find_model
from chinese_alpaca_rag.family.template import (
    DEFAULT_SYSTEM,
    LONG_ANSWER_SYSTEM,
    Prompt,
    Turn,
    chat_template,
    render_prompt,
)
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.family.tokens import Tokenizer
from tests.family.tokenizer_contract import ANY, shown
from tests.family.vocabularies import any_named, named
from tests.toy_byte_pair import SPECIAL

THREE_TURNS = [
    Turn("user", "员工每年有几天年假？"),
    Turn("assistant", "满一年的员工有5天年假。"),
    Turn("user", "那满十年呢？"),
]
TEMPLATES = ["alpaca-2", "stanford-alpaca", "ziya2", "llama-3"]
MARKS = {
    "alpaca-2": ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    "stanford-alpaca": ["### Instruction:", "### Response:"],
    "ziya2": ["<human>:", "<bot>:"],
    "llama-3": [],  # control ids only
}
# What must never be cut as the template's marks are: here the letters do, there it takes the whole mark.
CORES = {
    "alpaca-2": ["INST]", "SYS>>"],
    "stanford-alpaca": MARKS["stanford-alpaca"],
    "ziya2": MARKS["ziya2"],
    "llama-3": [],
}
FRAGMENTS = [*(mark for marks in MARKS.values() for mark in marks), "[", "INST", "]", "[/", "<<", "SYS", ">>"]
FRAGMENTS += ["###", " Response:", "Instruction", ":", "<", "bot>:", "human", ">:", " ", "\n", "▁", "</s>", "<s>"]
FRAGMENTS += ["<pad>", "😀", "年假", "[[INST]]", "INST]INST]", "[inst]", "SYS>>>", "].", "\x00"]
FRAGMENTS += [*SPECIAL, "<|", "eot_id", "|>", "user", "\n\n", "\ud800", "\udfff", "\x1c", "\u3000", "\ufeff"]
TEXT = st.one_of(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(ANY, max_size=2)), max_size=10).map("".join), st.text(ANY)
)


every_model = pytest.mark.parametrize("name", ["toy", "smallest", "real"])
# Every template on the tokenizers that it goes with.
every_pair = pytest.mark.parametrize(
    ("name", "template"),
    [(name, template) for name in ("toy", "smallest", "real") for template in TEMPLATES[:3]]
    + [("byte-pair", "llama-3")],
)
every_template = pytest.mark.parametrize("template", TEMPLATES)


def toy_of(template: str) -> Tokenizer:
    return any_named("byte-pair" if template == "llama-3" else "toy")


def chunks(prompt: Prompt, tokenizer: Tokenizer) -> list[str]:
    """The texts between control ids, decoded."""
    texts: list[list[int]] = [[]]
    for index in prompt.ids:
        if index in tokenizer.control_ids:
            texts.append([])
        else:
            texts[-1].append(index)
    return [tokenizer.decode(ids) for ids in texts if ids]


@cache
def template_cuts(name: str, template: str) -> frozenset[tuple[int, ...]]:
    """Every way in which the tokenizer itself cuts the letters of a mark, wherever the mark stands."""
    tokenizer = any_named(name)
    cuts = set()
    for mark in MARKS[template]:
        core = next(core for core in CORES[template] if core in mark)
        for before in ("", " ", "\n", "a", "。"):
            for after in ("", " ", "\n", "a", "。"):
                text = before + mark + after
                ids, ends = tokenizer.encode_with_ends(text)
                start = text.index(core)
                inside = [i for i, end in enumerate(ends) if end > start and ([0, *ends])[i] < start + len(core)]
                cuts.add(tuple(ids[inside[0] : inside[-1] + 1]))
    return frozenset(cuts)


def foreign_positions(prompt: Prompt) -> set[int]:
    return {
        position
        for span in prompt.spans
        if span.role in ("system", "user", "assistant")
        for position in range(span.start, span.end)
    }


def holding(ids: Sequence[int], part: Sequence[int]) -> Iterator[range]:
    for start in range(len(ids) - len(part) + 1):
        if tuple(ids[start : start + len(part)]) == tuple(part):
            yield range(start, start + len(part))


def check_spans(prompt: Prompt) -> None:
    assert prompt.spans[0].start == 0
    assert prompt.spans[-1].end == len(prompt.ids)
    assert all(one.end == two.start for one, two in pairwise(prompt.spans))
    assert all(span.start < span.end for span in prompt.spans)


def test_spans_say_whose_text_it_is() -> None:
    tokenizer = named("real")
    prompt = render_prompt("alpaca-2", [Turn("system", "你是法务。"), *THREE_TURNS], tokenizer)
    said = [(span.role, tokenizer.decode(prompt.ids[span.start : span.end])) for span in prompt.spans]
    assert said[:6] == [
        ("control", ""),
        ("template", "[INST] <<SYS>>\n"),
        ("system", "你是法务。"),
        ("template", "\n<</SYS>>\n\n"),
        ("user", "员工每年有几天年假？"),
        ("template", "[/INST]"),  # the space before it is a piece's first character, which decoding alone takes away
    ]
    assert said[6] == ("assistant", "满一年的员工有5天年假。")


@every_model
@given(system=TEXT, question=TEXT, answer=TEXT, second=TEXT)
def test_alpaca_2_keeps_the_text_and_shows_no_foreign_mark(
    name: str, system: str, question: str, answer: str, second: str
) -> None:
    tokenizer = named(name)
    turns = [Turn("system", system), Turn("user", question), Turn("assistant", answer), Turn("user", second)]
    prompt = render_prompt("alpaca-2", turns, tokenizer)
    system, question, answer, second = map(shown, (system, question, answer, second))
    opening = f"[INST] <<SYS>>\n{system or DEFAULT_SYSTEM}\n<</SYS>>\n\n{question} [/INST]"
    # The answer is encoded on its own, and so brings a dummy prefix.
    assert chunks(prompt, tokenizer) == [opening + (answer and f" {answer}"), f"[INST] {second} [/INST]"]
    check_spans(prompt)
    check_untouchable(name, "alpaca-2", prompt)


@every_pair
@given(system=TEXT, question=TEXT, answer=TEXT)
def test_every_template_keeps_the_text_and_shows_no_foreign_mark(
    name: str, template: str, system: str, question: str, answer: str
) -> None:
    tokenizer = any_named(name)
    turns = [Turn("system", system), Turn("user", question), Turn("assistant", answer), Turn("user", question)]
    prompt = render_prompt(template, turns, tokenizer)
    strip = str.strip if template == "llama-3" else str
    texts = [shown(strip(text)) for text in (system, question, answer)]
    whole = "".join(chunks(prompt, tokenizer))
    assert whole.count(texts[1]) >= 2
    assert all(text in whole for text in texts)
    check_spans(prompt)
    check_untouchable(name, template, prompt)
    # Each control id is the template's own.
    control = [index for index in prompt.ids if index in tokenizer.control_ids]
    assert len(control) == {"alpaca-2": 3, "llama-3": 1 + 4 * 3 + 2}.get(template, 1)


def check_untouchable(name: str, template: str, prompt: Prompt) -> None:
    tokenizer = any_named(name)
    foreign = foreign_positions(prompt)
    assert all(prompt.ids[position] not in tokenizer.control_ids for position in foreign)
    if name == "real" and template == "alpaca-2":
        pairs = pairwise(range(len(prompt.ids)))
        assert all(
            (prompt.ids[one], prompt.ids[two]) != (25580, 29962) or not {one, two} & foreign for one, two in pairs
        )
    for cut in template_cuts(name, template):
        for place in holding(prompt.ids, cut):
            assert not foreign & set(place), (template, cut)


@every_model
@given(question=TEXT.filter(lambda text: not any(core in text for core in CORES["alpaca-2"])))
def test_text_without_marks_is_one_plain_encoding(name: str, question: str) -> None:
    tokenizer = named(name)
    prompt = render_prompt("alpaca-2", [Turn("system", "a"), Turn("user", question)], tokenizer)
    assert list(prompt.ids) == [1, *tokenizer.encode(f"[INST] <<SYS>>\na\n<</SYS>>\n\n{question} [/INST]")]


def test_only_the_pieces_of_the_letters_are_cut_anew() -> None:
    tokenizer = named("real")
    text = "合同第一条[INST]，见附件。"
    plain = tokenizer.encode(f"[INST] {text} [/INST]")
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", text)]
    rendered = list(render_prompt("alpaca-2", turns, tokenizer).ids)[-len(plain) - 3 :]
    spelt = tokenizer.spell("INST]")
    position = plain.index(25580, 4)
    assert rendered == [*plain[:position], *spelt, *plain[position + 2 :]]
    assert len(spelt) == 5


def test_a_mark_at_the_head_of_an_answer_keeps_the_dummy_prefix() -> None:
    for name in ("toy", "smallest", "real"):
        tokenizer = named(name)
        for answer in ("INST] 好", "[INST] 好", "SYS>>"):
            prompt = render_prompt("alpaca-2", [Turn("user", "a"), Turn("assistant", answer)], tokenizer)
            assert chunks(prompt, tokenizer)[0].endswith(f"[/INST] {answer}")
            assert tokenizer.starts_with_space(prompt.ids[prompt.spans[-2].start])


def test_marks_where_every_piece_is_one_character_are_spelt_in_bytes() -> None:
    tokenizer = named("smallest")
    prompt = render_prompt("alpaca-2", [Turn("user", "a[INST]")], tokenizer)
    user = next(span for span in prompt.spans if span.role == "user")
    assert list(prompt.ids[user.end - 5 : user.end]) == tokenizer.spell_bytes("INST]")


def test_a_vocabulary_without_the_marks_letters_is_refused_when_a_mark_appears() -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), "▁", "a"]
    bare = FamilyTokenizer.from_pieces(pieces, [0.0] * len(pieces), [2, 3, 3, *[6] * 256, 1, 1])
    assert render_prompt("alpaca-2", [Turn("user", "a")], bare).ids
    with pytest.raises(CheckpointError):
        render_prompt("alpaca-2", [Turn("user", "[INST]")], bare)


def test_a_document_full_of_marks_takes_no_longer_than_another() -> None:
    text = "[INST]<<SYS>>年假</s>" * 20_000
    prompt = render_prompt("alpaca-2", [Turn("user", text)], named("toy"))
    assert text in chunks(prompt, named("toy"))[0]


def test_stanford_alpaca_as_the_first_generation_was_shown_it() -> None:
    tokenizer = named("toy")
    prompt = render_prompt(
        "stanford-alpaca", [Turn("user", "问一"), Turn("assistant", "答一"), Turn("user", "问二")], tokenizer
    )
    assert prompt.ids[0] == tokenizer.bos_id
    assert chunks(prompt, tokenizer) == [
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n\n问一\n\n### Response:\n\n答一\n\n### Instruction:\n\n问二\n\n### Response:\n\n"
    ]


def test_ziya2_turns_are_joined_by_newlines() -> None:
    tokenizer = named("toy")
    turns = [Turn("user", "问一"), Turn("assistant", "答一"), Turn("user", "问二")]
    assert chunks(render_prompt("ziya2", turns, tokenizer), tokenizer) == [
        "<human>:问一\n<bot>:答一\n<human>:问二\n<bot>:"
    ]
    with_system = render_prompt("ziya2", [Turn("system", "只用中文。"), Turn("user", "问")], tokenizer)
    assert chunks(with_system, tokenizer) == ["只用中文。\n<human>:问\n<bot>:"]


@every_template
def test_an_answer_is_closed_unless_it_is_to_be_continued(template: str) -> None:
    tokenizer = toy_of(template)
    turns = [Turn("user", "问"), Turn("assistant", "答")]
    closed = render_prompt(template, turns, tokenizer)
    opened = render_prompt(template, turns, tokenizer, continue_answer=True)
    assert closed.ids[:-1] == opened.ids
    assert closed.ids[-1] in tokenizer.end_ids
    assert closed.spans[-1].role == "control"
    assert opened.spans[-1].role == "assistant"
    with pytest.raises(WrongUsageError):
        render_prompt(template, turns[:1], tokenizer, continue_answer=True)


def test_the_default_system_stands_where_none_is_given() -> None:
    tokenizer = named("toy")
    bare = render_prompt("alpaca-2", [Turn("user", "问")], tokenizer)
    assert bare == render_prompt("alpaca-2", [Turn("system", ""), Turn("user", "问")], tokenizer)
    assert bare == render_prompt("alpaca-2", [Turn("system", DEFAULT_SYSTEM), Turn("user", "问")], tokenizer)
    assert LONG_ANSWER_SYSTEM.startswith(DEFAULT_SYSTEM)
    assert LONG_ANSWER_SYSTEM.endswith("详细回复。")


def test_neighbours_of_one_role_are_joined() -> None:
    tokenizer = named("toy")
    apart = [Turn("system", "a"), Turn("system", "b"), Turn("user", "c"), Turn("user", "d")]
    joined = [Turn("system", "a\nb"), Turn("user", "c\nd")]
    assert render_prompt("alpaca-2", apart, tokenizer) == render_prompt("alpaca-2", joined, tokenizer)
    # A mark may not be put together from two messages either.
    split = [Turn("user", "[IN"), Turn("user", "ST]")]
    assert "[IN\nST]" in chunks(render_prompt("alpaca-2", split, tokenizer), tokenizer)[0]


@every_template
@pytest.mark.parametrize(
    "turns",
    [
        [],
        [Turn("system", "a")],
        [Turn("assistant", "a")],
        [Turn("system", "a"), Turn("assistant", "b")],
        [Turn("user", "a"), Turn("system", "b"), Turn("user", "c")],
    ],
)
def test_conversations_in_another_order_are_refused(template: str, turns: list[Turn]) -> None:
    with pytest.raises(WrongUsageError):
        render_prompt(template, turns, toy_of(template))


@pytest.mark.parametrize(
    ("template", "name", "fitting"),
    [
        ("llama-3", "toy", "alpaca-2, stanford-alpaca, ziya2"),
        ("chatml", "toy", "alpaca-2, stanford-alpaca, ziya2"),
        ("", "byte-pair", "llama-3"),
        ("alpaca-2", "byte-pair", "llama-3"),
        ("ziya2", "byte-pair", "llama-3"),
    ],
)
def test_a_template_without_its_tokenizer_is_never_a_wrong_prompt(template: str, name: str, fitting: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        render_prompt(template, [Turn("user", "a")], any_named(name))
    for language in (caught.value.hint.zh, caught.value.hint.en):
        assert language.endswith(fitting)


def test_base_models_take_no_template() -> None:
    with pytest.raises(NotAChatModelError, match="--model chinese-alpaca-2-7b-16k") as caught:
        chat_template(find_model("chinese-llama-2-7b-16k"))
    assert caught.value.exit_code == 2
    assert {chat_template(card) for card in CATALOGUE if card.kind == "chat"} == {*TEMPLATES}
