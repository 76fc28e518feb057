from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import UnknownModelError
from chinese_alpaca_rag.family.catalogue import (
    CATALOGUE,
    ModelCard,
    chat_sibling,
    find_model,
    match_name,
    nearest_names,
)

# Written out a second time, from the models' published configuration files:
# layers, hidden, heads, KV heads, feed-forward, vocabulary, window, original window, theta, linear, YaRN, reach.
FIGURES = {
    "chinese-alpaca-2-1.3b": (4, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-alpaca-2-1.3b-rlhf": (4, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-alpaca-2-7b": (32, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-alpaca-2-7b-rlhf": (32, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-alpaca-2-7b-16k": (32, 4096, 32, 32, 11008, 55296, 16384, 4096, 10000.0, 4.0, 1.0, 32768),
    "chinese-alpaca-2-7b-64k": (32, 4096, 32, 32, 11008, 55296, 65536, 4096, 10000.0, 1.0, 16.0, 65536),
    "chinese-alpaca-2-13b": (40, 5120, 40, 40, 13824, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-alpaca-2-13b-16k": (40, 5120, 40, 40, 13824, 55296, 16384, 4096, 10000.0, 4.0, 1.0, 32768),
    "chinese-llama-2-1.3b": (4, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-llama-2-7b": (32, 4096, 32, 32, 11008, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-llama-2-7b-16k": (32, 4096, 32, 32, 11008, 55296, 16384, 4096, 10000.0, 4.0, 1.0, 32768),
    "chinese-llama-2-7b-64k": (32, 4096, 32, 32, 11008, 55296, 65536, 4096, 10000.0, 1.0, 16.0, 65536),
    "chinese-llama-2-13b": (40, 5120, 40, 40, 13824, 55296, 4096, 4096, 10000.0, 1.0, 1.0, 18432),
    "chinese-llama-2-13b-16k": (40, 5120, 40, 40, 13824, 55296, 16384, 4096, 10000.0, 4.0, 1.0, 32768),
    "chinese-alpaca-7b": (32, 4096, 32, 32, 11008, 49954, 2048, 2048, 10000.0, 1.0, 1.0, 8192),
    "chinese-alpaca-plus-13b": (40, 5120, 40, 40, 13824, 49954, 2048, 2048, 10000.0, 1.0, 1.0, 8192),
    "chinese-alpaca-pro-33b": (60, 6656, 52, 52, 17920, 49954, 2048, 2048, 10000.0, 1.0, 1.0, 8192),
    "chinese-llama-plus-33b": (60, 6656, 52, 52, 17920, 49953, 2048, 2048, 10000.0, 1.0, 1.0, 8192),
    "llama-3-chinese-8b": (32, 4096, 32, 8, 14336, 128256, 8192, 8192, 500000.0, 1.0, 1.0, 8192),
    "llama-3-chinese-8b-instruct-v3": (32, 4096, 32, 8, 14336, 128256, 8192, 8192, 500000.0, 1.0, 1.0, 8192),
    "ziya2-13b-chat": (40, 5120, 40, 40, 13824, 39424, 4096, 4096, 10000.0, 1.0, 1.0, 4096),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_to_the_digit(name: str) -> None:
    card = find_model(name)
    assert (
        card.layers,
        card.hidden,
        card.heads,
        card.kv_heads,
        card.feed_forward,
        card.vocabulary,
        card.window,
        card.original_window,
        card.theta,
        card.linear_factor,
        card.yarn_factor,
        card.reach,
    ) == FIGURES[name]


def test_every_generation_is_whole() -> None:
    by_generation = {
        generation: {card.name for card in CATALOGUE if card.generation == generation}
        for generation in (1, 2, 3, "ziya2")
    }
    assert len(by_generation[2]) == 14
    assert by_generation[1] == {
        f"chinese-{kind}{size}b"
        for kind in ("llama-", "llama-plus-", "alpaca-", "alpaca-plus-", "alpaca-pro-")
        for size in (7, 13, 33)
    }
    assert by_generation[3] == {f"llama-3-chinese-8b{end}" for end in ("", "-instruct", "-instruct-v2", "-instruct-v3")}
    assert by_generation["ziya2"] == {"ziya2-13b-chat", "ziya2-13b-base"}
    assert len({card.name for card in CATALOGUE}) == len(CATALOGUE) == 35


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_every_row_is_consistent(card: ModelCard) -> None:
    assert card.window == card.original_window * card.linear_factor * card.yarn_factor
    assert card.reach >= card.window
    assert card.heads * card.head_dim == card.hidden
    assert card.heads % card.kv_heads == 0
    assert (card.template is None) == (card.kind == "base")
    assert bool(card.hub) == (card.generation != 1)
    assert bool(card.lora_hub) == bool(card.lora_base)
    assert ("llama-3" in card.name and "instruct" in card.name) == (card.template == "llama-3")


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("chinese-alpaca-2-1.3b", 64),
        ("chinese-alpaca-2-7b", 512),
        ("chinese-alpaca-2-13b", 800),
        ("llama-3-chinese-8b", 128),
    ],
)
def test_kv_cache_of_one_token(name: str, kib: int) -> None:
    assert find_model(name).kv_bytes_per_token() == kib * 1024
    assert find_model(name).kv_bytes_per_token(34 / 32) == kib * 1024 * 34 // 64


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("chinese-alpaca-2-7b-64k", "chinese-alpaca-2-7b-64k"),
        ("Chinese-Alpaca-2-7B-64K", "chinese-alpaca-2-7b-64k"),
        (" hfl/chinese-alpaca-2-7b-64k ", "chinese-alpaca-2-7b-64k"),
        ("hfl/chinese-alpaca-2-7b-64k-gguf", "chinese-alpaca-2-7b-64k"),
        ("chinese-alpaca-2-7b-64k-GGUF", "chinese-alpaca-2-7b-64k"),
        ("ChineseAlpacaGroup/chinese-alpaca-2-7b-16k", "chinese-alpaca-2-7b-16k"),
        ("ziqingyang/chinese-llama-2-13b", "chinese-llama-2-13b"),
        ("hfl/chinese-alpaca-2-lora-7b-64k", "chinese-alpaca-2-7b-64k"),
        ("ziqingyang/chinese-alpaca-plus-lora-7b", "chinese-alpaca-plus-7b"),
        ("chinese_alpaca_2_13b_16k", "chinese-alpaca-2-13b-16k"),
        ("IDEA-CCNL/Ziya2-13B-Chat", "ziya2-13b-chat"),
        ("Fengshenbang/Ziya2-13B-Base", "ziya2-13b-base"),
        ("hfl/llama-3-chinese-8b-instruct-v2-gguf", "llama-3-chinese-8b-instruct-v2"),
    ],
)
def test_find_model_takes_every_spelling(written: str, name: str) -> None:
    assert find_model(written).name == name


@pytest.mark.parametrize("written", ["", "/", "gpt-4", "someone/chinese-alpaca-2-7b", "llama-2-7b", "hfl/", "../hfl/x"])
def test_unknown_names_are_refused_with_the_nearest(written: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        find_model(written)
    for text in (caught.value.hint.zh, caught.value.hint.en):
        assert nearest_names(written)[0] in text
        assert "alpaca-rag models list" in text
    assert caught.value.exit_code == 2


def test_the_nearest_name_is_near() -> None:
    assert nearest_names("chinese-alpaca-2-7b-32k")[0] in ("chinese-alpaca-2-7b-16k", "chinese-alpaca-2-7b-64k")
    assert nearest_names("chinese-alpacca-2-13b")[0] == "chinese-alpaca-2-13b"
    assert len(nearest_names("x", count=5)) == 5


@given(st.text())
def test_any_text_is_a_model_or_none(name: str) -> None:
    assert match_name(name) is None or match_name(name) in CATALOGUE


def test_every_base_model_has_its_chat_model() -> None:
    siblings = {card.name: chat_sibling(card) for card in CATALOGUE if card.kind == "base"}
    assert all(siblings.values())
    named = {name: sibling.name for name, sibling in siblings.items() if sibling}
    assert named["chinese-llama-2-7b-16k"] == "chinese-alpaca-2-7b-16k"
    assert named["chinese-llama-2-1.3b"] == "chinese-alpaca-2-1.3b"
    assert named["chinese-llama-plus-33b"] == "chinese-alpaca-plus-33b"
    assert named["llama-3-chinese-8b"] == "llama-3-chinese-8b-instruct"
    assert named["ziya2-13b-base"] == "ziya2-13b-chat"
