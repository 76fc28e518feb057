"""The exact ids of every template, hard-coded, and built again by other means than the kit's own.

The ids were computed once by the other means: SentencePiece alone for the first three templates,
transformers with Llama-3's published chat template for the fourth.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.family.checkpoint import checkpoint_tokenizer, read_checkpoint
from chinese_alpaca_rag.family.template import DEFAULT_SYSTEM, LONG_ANSWER_SYSTEM, Turn, render_prompt
from tests.family.vocabularies import any_named, reference
from tests.toy_byte_pair import CHAT_TEMPLATE, SPECIAL, tokenizer_json_bytes, toy_byte_pair
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

ONE = [Turn("user", "请概括这份年度报告的要点。")]
CONVERSATIONS = {
    "one": ONE,
    "long": [Turn("system", LONG_ANSWER_SYSTEM), *ONE],
    "three": [
        Turn("user", "员工每年有几天年假？"),
        Turn("assistant", "满一年的员工有5天年假。"),
        Turn("user", "那满十年呢？"),
        Turn("assistant", "有10天。"),
        Turn("user", "Thanks! 请用英文再说一遍。"),
    ],
    "system": [
        Turn("system", "你是法务。"),
        Turn("user", "Is it due?"),
        Turn("assistant", "Yes."),
        Turn("user", "谢谢"),
    ],
}
# fmt: off
GOLDEN = {
    ("toy", "alpaca-2", "one"): [
        1, 287, 310, 695, 407, 393, 344, 13, 718, 282, 431, 264, 447, 454, 672, 509, 682, 320, 533, 754, 370,
        570, 665, 13, 692, 692, 740, 393, 344, 13, 13, 703, 626, 771, 872, 671, 758, 937, 899, 664, 715, 764,
        665, 408, 310, 695,
    ],
    ("toy", "alpaca-2", "long"): [
        1, 287, 310, 695, 407, 393, 344, 13, 718, 282, 431, 264, 447, 454, 672, 509, 682, 320, 533, 754, 370,
        570, 665, 703, 874, 233, 146, 147, 231, 193, 158, 856, 745, 853, 691, 236, 131, 190, 235, 193, 148, 853,
        559, 234, 159, 162, 232, 177, 161, 853, 691, 871, 232, 131, 191, 664, 235, 178, 169, 234, 190, 137, 903,
        232, 167, 144, 665, 13, 692, 692, 740, 393, 344, 13, 13, 703, 626, 771, 872, 671, 758, 937, 899, 664,
        715, 764, 665, 408, 310, 695,
    ],
    ("toy", "alpaca-2", "three"): [
        1, 287, 310, 695, 407, 393, 344, 13, 718, 282, 431, 264, 447, 454, 672, 509, 682, 320, 533, 754, 370,
        570, 665, 13, 692, 692, 740, 393, 344, 13, 13, 290, 631, 691, 562, 277, 840, 408, 310, 695, 653, 386,
        340, 779, 699, 277, 665, 2, 1, 287, 310, 695, 653, 236, 133, 166, 637, 671, 232, 148, 165, 840, 408,
        310, 695, 653, 691, 777, 717, 699, 665, 2, 1, 287, 310, 695, 286, 663, 273, 743, 656, 36, 364, 701, 235,
        142, 180, 700, 232, 137, 144, 838, 678, 236, 132, 144, 665, 408, 310, 695,
    ],
    ("real", "alpaca-2", "one"): [
        1, 518, 25580, 29962, 3532, 14816, 29903, 6778, 13, 3492, 526, 263, 8444, 20255, 29889, 32732, 32475,
        31616, 30909, 31931, 32764, 40742, 30267, 13, 29966, 829, 14816, 29903, 6778, 13, 13, 31088, 43146,
        37100, 33464, 32903, 30210, 42498, 30267, 518, 29914, 25580, 29962,
    ],
    ("real", "alpaca-2", "long"): [
        1, 518, 25580, 29962, 3532, 14816, 29903, 6778, 13, 3492, 526, 263, 8444, 20255, 29889, 32732, 32475,
        31616, 30909, 31931, 32764, 40742, 30267, 43081, 32179, 32105, 30330, 30417, 34229, 30330, 32248, 33920,
        30330, 30417, 32664, 30210, 33767, 33019, 30267, 13, 29966, 829, 14816, 29903, 6778, 13, 13, 31088,
        43146, 37100, 33464, 32903, 30210, 42498, 30267, 518, 29914, 25580, 29962,
    ],
    ("real", "alpaca-2", "three"): [
        1, 518, 25580, 29962, 3532, 14816, 29903, 6778, 13, 3492, 526, 263, 8444, 20255, 29889, 32732, 32475,
        31616, 30909, 31931, 32764, 40742, 30267, 13, 29966, 829, 14816, 29903, 6778, 13, 13, 33246, 33437,
        30417, 34135, 30470, 32530, 30882, 518, 29914, 25580, 29962, 29871, 32345, 32473, 30210, 33246, 30417,
        29945, 30408, 30470, 32530, 30267, 2, 1, 518, 25580, 29962, 29871, 31356, 32345, 34363, 32032, 30882,
        518, 29914, 25580, 29962, 29871, 30417, 29896, 29900, 30408, 30267, 2, 1, 518, 25580, 29962, 1834,
        29991, 29871, 31088, 30406, 33857, 37230, 36203, 30267, 518, 29914, 25580, 29962,
    ],
    ("toy", "stanford-alpaca", "one"): [
        1, 653, 471, 668, 351, 278, 309, 293, 449, 339, 455, 264, 259, 346, 743, 672, 357, 274, 269, 264, 504,
        444, 339, 264, 490, 300, 401, 660, 269, 485, 359, 661, 486, 668, 480, 261, 262, 294, 311, 655, 672, 13,
        13, 392, 653, 472, 449, 679, 13, 13, 703, 626, 771, 872, 671, 758, 937, 899, 664, 715, 764, 665, 13, 13,
        392, 501, 444, 679, 13, 13,
    ],
    ("toy", "stanford-alpaca", "three"): [
        1, 653, 471, 668, 351, 278, 309, 293, 449, 339, 455, 264, 259, 346, 743, 672, 357, 274, 269, 264, 504,
        444, 339, 264, 490, 300, 401, 660, 269, 485, 359, 661, 486, 668, 480, 261, 262, 294, 311, 655, 672, 13,
        13, 392, 653, 472, 449, 679, 13, 13, 290, 631, 691, 562, 277, 840, 13, 13, 392, 501, 444, 679, 13, 13,
        386, 340, 779, 699, 277, 665, 13, 13, 392, 653, 472, 449, 679, 13, 13, 236, 133, 166, 637, 671, 232,
        148, 165, 840, 13, 13, 392, 501, 444, 679, 13, 13, 691, 777, 717, 699, 665, 13, 13, 392, 653, 472, 449,
        679, 13, 13, 681, 663, 273, 743, 656, 36, 364, 701, 235, 142, 180, 700, 232, 137, 144, 838, 678, 236,
        132, 144, 665, 13, 13, 392, 501, 444, 679, 13, 13,
    ],
    ("toy", "ziya2", "one"): [
        1, 302, 663, 319, 273, 343, 703, 626, 771, 872, 671, 758, 937, 899, 664, 715, 764, 665, 13, 692, 475,
        655, 343,
    ],
    ("toy", "ziya2", "three"): [
        1, 302, 663, 319, 273, 343, 290, 631, 691, 562, 277, 840, 13, 692, 475, 655, 343, 386, 340, 779, 699,
        277, 665, 13, 692, 663, 319, 273, 343, 236, 133, 166, 637, 671, 232, 148, 165, 840, 13, 692, 475, 655,
        343, 691, 777, 717, 699, 665, 13, 692, 663, 319, 273, 343, 681, 663, 273, 743, 656, 36, 364, 701, 235,
        142, 180, 700, 232, 137, 144, 838, 678, 236, 132, 144, 665, 13, 692, 475, 655, 343,
    ],
    ("toy", "ziya2", "system"): [
        1, 509, 682, 233, 182, 152, 888, 665, 13, 692, 663, 319, 273, 343, 704, 656, 265, 655, 288, 667, 654,
        845, 13, 692, 475, 655, 343, 718, 261, 672, 13, 692, 663, 319, 273, 343, 235, 179, 165, 235, 179, 165,
        13, 692, 475, 655, 343,
    ],
    ("byte-pair", "llama-3", "one"): [
        757, 763, 303, 764, 257, 514, 678, 382, 682, 679, 13, 220, 279, 254, 310, 446, 315, 238, 595, 470, 597,
        470, 639, 266, 766, 763, 305, 764, 257, 348, 162, 440, 233, 105, 492, 297, 121, 275, 465, 162, 232, 98,
        307, 232, 262, 376, 487, 266, 766, 763, 291, 764, 257,
    ],
    ("byte-pair", "llama-3", "long"): [
        757, 763, 303, 764, 257, 514, 678, 382, 682, 679, 13, 220, 279, 254, 310, 446, 315, 238, 595, 470, 597,
        470, 639, 266, 348, 279, 254, 162, 237, 238, 160, 122, 249, 256, 241, 445, 265, 223, 330, 165, 222, 119,
        164, 122, 239, 265, 223, 617, 324, 117, 163, 250, 253, 324, 252, 265, 223, 330, 297, 115, 161, 222, 120,
        262, 274, 99, 416, 228, 308, 252, 286, 235, 266, 766, 763, 305, 764, 257, 348, 162, 440, 233, 105, 492,
        297, 121, 275, 465, 162, 232, 98, 307, 232, 262, 376, 487, 266, 766, 763, 291, 764, 257,
    ],
    ("byte-pair", "llama-3", "system"): [
        757, 763, 303, 764, 257, 279, 254, 310, 162, 111, 243, 336, 94, 266, 766, 763, 305, 764, 257, 40, 82,
        283, 83, 428, 84, 68, 30, 766, 763, 291, 764, 257, 56, 292, 13, 766, 763, 305, 764, 257, 164, 108, 95,
        164, 108, 95, 766, 763, 291, 764, 257,
    ],
    ("byte-pair", "llama-3", "three"): [
        757, 763, 303, 764, 257, 514, 678, 382, 682, 679, 13, 220, 279, 254, 310, 446, 315, 238, 595, 470, 597,
        470, 639, 266, 766, 763, 305, 764, 257, 371, 317, 275, 330, 316, 254, 339, 340, 671, 766, 763, 291, 764,
        257, 162, 578, 20, 339, 340, 266, 766, 763, 305, 764, 257, 165, 224, 96, 162, 442, 409, 275, 307, 95,
        671, 766, 763, 291, 764, 257, 330, 16, 15, 339, 266, 766, 763, 305, 764, 257, 51, 71, 269, 74, 82, 0,
        220, 348, 345, 164, 233, 109, 343, 365, 235, 274, 112, 293, 165, 223, 235, 266, 766, 763, 291, 764, 257,
    ],
}
# fmt: on
# llama-cpp-python's logger stumbles over half a character in what llama.cpp reports of its vocabulary.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
every_golden = pytest.mark.parametrize(("name", "template", "conversation"), GOLDEN)


@every_golden
def test_golden_ids(name: str, template: str, conversation: str) -> None:
    prompt = render_prompt(template, CONVERSATIONS[conversation], any_named(name))
    assert list(prompt.ids) == GOLDEN[name, template, conversation]


def alpaca_2(sentencepiece: Any, system: str, dialogue: Sequence[Turn]) -> Iterator[int]:
    opening = f"[INST] <<SYS>>\n{system or DEFAULT_SYSTEM}\n<</SYS>>\n\n"
    for number, turn in enumerate(dialogue):
        if turn.role == "user":
            text = turn.text if number else opening.removeprefix("[INST] ") + turn.text
            yield from [1, *sentencepiece.encode(f"[INST] {text} [/INST]")]
        else:
            yield from [*sentencepiece.encode(turn.text), 2]


def stanford_alpaca(sentencepiece: Any, system: str, dialogue: Sequence[Turn]) -> Iterator[int]:
    text = system or (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    for turn in dialogue:
        text += f"\n\n### Instruction:\n\n{turn.text}\n\n### Response:\n\n" if turn.role == "user" else turn.text
    yield from [1, *sentencepiece.encode(text)]


def ziya2(sentencepiece: Any, system: str, dialogue: Sequence[Turn]) -> Iterator[int]:
    lines = [system] if system else []
    for turn in dialogue:
        if turn.role == "user":
            lines += [f"<human>:{turn.text}", "<bot>:"]
        else:
            lines[-1] += turn.text
    yield from [1, *sentencepiece.encode("\n".join(lines))]


BY_SENTENCEPIECE: dict[str, Callable[[Any, str, Sequence[Turn]], Iterator[int]]] = {
    "alpaca-2": alpaca_2,
    "stanford-alpaca": stanford_alpaca,
    "ziya2": ziya2,
}


def parted(turns: Sequence[Turn]) -> tuple[str, Sequence[Turn]]:
    return (turns[0].text, turns[1:]) if turns[0].role == "system" else ("", turns)


@pytest.mark.parametrize(("name", "template", "conversation"), [key for key in GOLDEN if key[1] in BY_SENTENCEPIECE])
def test_golden_ids_by_sentencepiece_alone(name: str, template: str, conversation: str) -> None:
    ids = BY_SENTENCEPIECE[template](reference(name), *parted(CONVERSATIONS[conversation]))
    assert list(ids) == GOLDEN[name, template, conversation]


@cache
def by_transformers() -> Any:
    import tokenizers
    import transformers

    whole = tokenizers.Tokenizer.from_str(tokenizer_json_bytes(toy_byte_pair()).decode())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def published(turns: Sequence[Turn], **how: Any) -> Any:
    """Llama-3's published chat template, with the system message that Chinese-LLaMA-Alpaca-3 always had."""
    system, dialogue = parted(turns)
    messages = [{"role": "system", "content": system or DEFAULT_SYSTEM}]
    messages += [{"role": turn.role, "content": turn.text} for turn in dialogue]
    how.setdefault("add_generation_prompt", turns[-1].role == "user")
    return by_transformers().apply_chat_template(messages, return_dict=False, **how)


LLAMA_3 = [key[2] for key in GOLDEN if key[1] == "llama-3"]


@pytest.mark.parametrize("conversation", LLAMA_3)
def test_golden_ids_by_the_published_chat_template(conversation: str) -> None:
    assert published(CONVERSATIONS[conversation]) == GOLDEN["byte-pair", "llama-3", conversation]


# Everything around which white space could be cut or glued in another way; special pieces are parsed by transformers.
PIECES = [" ", "\n", "\n\n", "\t", "\r\n", "\x1c", "\u0085", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u180e"]
PIECES += ["年假", "the report", "12345", "'s", "!", "\u2581", "😀"]
TEXT = (st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=8).map("".join)).filter(
    lambda text: "<|" not in text
)


@settings(deadline=None)  # the first call imports transformers
@given(system=TEXT.filter(str.strip), question=TEXT, answer=TEXT)
def test_llama_3_prompts_are_the_published_ones(system: str, question: str, answer: str) -> None:
    tokenizer = any_named("byte-pair")
    turns = [Turn("system", system), Turn("user", question)]
    assert list(render_prompt("llama-3", turns, tokenizer).ids) == published(turns)
    turns += [Turn("assistant", answer)]
    assert list(render_prompt("llama-3", turns, tokenizer).ids) == published(turns)
    turns += [Turn("user", question)]
    assert list(render_prompt("llama-3", turns, tokenizer).ids) == published(turns)


@pytest.mark.parametrize("answer", ["它的", " 它的 \n", "The answer"])
def test_an_answer_to_be_continued_is_the_published_one(answer: str) -> None:
    turns = [*ONE, Turn("assistant", answer)]
    prompt = render_prompt("llama-3", turns, any_named("byte-pair"), continue_answer=True)
    assert list(prompt.ids) == published(turns, continue_final_message=True)


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    return build_toy_family(
        tmp_path_factory.mktemp("third"), byte_pair=toy_byte_pair(), layers=1, hidden=32, heads=2, feed_forward=64
    )


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    return build_toy_family(
        tmp_path_factory.mktemp("second"),
        tokenizer_model=toy_tokenizer_model(),
        layers=1,
        hidden=32,
        heads=2,
        feed_forward=64,
    )


@pytest.mark.parametrize(
    ("name", "template", "conversation"), [key for key in GOLDEN if key[0] in ("toy", "byte-pair")]
)
def test_golden_ids_from_both_formats(
    second: ToyCheckpoint, third: ToyCheckpoint, name: str, template: str, conversation: str
) -> None:
    files = third if name == "byte-pair" else second
    for path in (files.hf, files.gguf):
        tokenizer = checkpoint_tokenizer(read_checkpoint(path))
        ids = render_prompt(template, CONVERSATIONS[conversation], tokenizer).ids
        assert list(ids) == GOLDEN[name, template, conversation]


@pytest.fixture(scope="module")
def by_llama_cpp(third: ToyCheckpoint) -> Iterator[Callable[[str, bool], list[int]]]:
    """llama.cpp's own tokenizer over the GGUF file: a text, and whether special pieces in it are parsed."""
    llama_cpp = pytest.importorskip("llama_cpp")
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(third.gguf).encode(), parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def tokenize(text: str, parse_special: bool) -> list[int]:
        encoded = text.encode()
        ids = (ctypes.c_int32 * (len(encoded) + 8))()
        count = llama_cpp.llama_tokenize(vocabulary, encoded, len(encoded), ids, len(ids), False, parse_special)
        assert count >= 0
        return list(ids[:count])

    yield tokenize
    llama_cpp.llama_model_free(model)


@pytest.mark.parametrize("conversation", LLAMA_3)
def test_golden_ids_by_llama_cpp(by_llama_cpp: Callable[[str, bool], list[int]], conversation: str) -> None:
    text = published(CONVERSATIONS[conversation], tokenize=False)
    assert by_llama_cpp(text, True) == GOLDEN["byte-pair", "llama-3", conversation]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.sampled_from([*PIECES, *SPECIAL, "知识库", "<|", "eot_id"]), max_size=8).map("".join))
def test_llama_cpp_cuts_text_alike(by_llama_cpp: Callable[[str, bool], list[int]], text: str) -> None:
    assert any_named("byte-pair").encode(text) == by_llama_cpp(text, False)
