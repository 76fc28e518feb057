from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.catalogue import find_model
from chinese_alpaca_rag.family.checkpoint import checkpoint_tokenizer, read_checkpoint
from tests.family.gguf_files import write_gguf
from tests.family.vocabularies import named, vocabulary_of


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("toy-alpaca.gguf", "toy-alpaca"),
        ("toy-alpaca.Q4_K_M.gguf", "toy-alpaca"),
        ("toy-alpaca-q8_0.gguf", "toy-alpaca"),
        ("toy-alpaca-f16-00001-of-00003.gguf", "toy-alpaca"),
        ("toy-alpaca/ggml-model-q4_0-im.gguf", "toy-alpaca"),
        ("toy-alpaca-gguf/ggml-model-IQ3_XXS.gguf", "toy-alpaca"),
        ("models--me--toy-alpaca/snapshots/abc/ggml-model-f16.gguf", "toy-alpaca"),
    ],
)
def test_what_a_gguf_file_is_called(tmp_path: Path, file: str, name: str) -> None:
    path = write_gguf(tmp_path / file)
    found = read_checkpoint(path)
    assert (found.path, found.format, found.name) == (path, "gguf", name)
    assert found.card.vocabulary == 1024
    assert found.card.kind == "chat"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (10000.0, 1.0, 1.0, 4096)),
        ({"llama__rope__freq_base": None}, (10000.0, 1.0, 1.0, 4096)),
        ({"llama__rope__freq_base": 500000.0}, (500000.0, 1.0, 1.0, 4096)),
        ({"llama__rope__scaling__type": "none"}, (10000.0, 1.0, 1.0, 4096)),
        ({"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}, (10000.0, 4.0, 1.0, 1024)),
        ({"llama__rope__scale_linear": 4.0}, (10000.0, 4.0, 1.0, 1024)),
        (
            {
                "llama__rope__scaling__type": "yarn",
                "llama__rope__scaling__factor": 16.0,
                "llama__rope__scaling__original_context_length": 256,
            },
            (10000.0, 1.0, 16.0, 256),
        ),
        ({"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 8.0}, (10000.0, 1.0, 8.0, 512)),
    ],
)
def test_rope_of_a_gguf_file(tmp_path: Path, changes: dict[str, Any], expected: tuple[float, ...]) -> None:
    card = read_checkpoint(write_gguf(tmp_path / "toy.gguf", **changes)).card
    assert (card.theta, card.linear_factor, card.yarn_factor, card.original_window) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"general__architecture": "qwen2"},
        {"general__architecture": None},
        {"llama__block_count": None},
        {"llama__embedding_length": 66},
        {"llama__rope__dimension_count": 8},
        {"llama__attention__key_length": 32},
        {"llama__vocab_size": 55296},
        {"tokenizer__ggml__tokens": None},
        {"llama__rope__freq_base": float("inf")},
        {"llama__rope__scaling__type": "longrope"},
        {"llama__rope__scaling__attn_factor": 1.5},
        {"llama__rope__scaling__yarn_beta_fast": 64.0},
        {"llama__rope__scaling__type": "linear"},
        {
            "llama__rope__scaling__type": "yarn",
            "llama__rope__scaling__factor": 4.0,
            "llama__rope__scaling__attn_factor": 1.5,
        },
    ],
)
def test_gguf_files_that_are_not_the_familys(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(write_gguf(tmp_path / "toy.gguf", **changes))


def seven_billion(**changes: Any) -> dict[str, Any]:
    """The metadata of a 7B of the second generation, without its weights."""
    pieces, scores, types = vocabulary_of("toy")
    padding = [f"piece {number}" for number in range(55296 - len(pieces))]
    return {
        "llama__block_count": 32,
        "llama__embedding_length": 4096,
        "llama__feed_forward_length": 11008,
        "llama__attention__head_count": 32,
        "llama__attention__head_count_kv": 32,
        "llama__rope__dimension_count": 128,
        "tokenizer__ggml__tokens": pieces + padding,
        "tokenizer__ggml__scores": scores + [0.0] * len(padding),
        "tokenizer__ggml__token_type": types + [1] * len(padding),
    } | changes


def test_a_name_decides_where_an_old_gguf_file_says_nothing_of_its_scaling(tmp_path: Path) -> None:
    for name in ("chinese-alpaca-2-7b-16k", "chinese-alpaca-2-7b-64k"):
        card = find_model(name)
        for window in (4096, card.window):
            file = tmp_path / f"{name}-gguf" / "ggml-model-q4_k.gguf"
            found = read_checkpoint(write_gguf(file, **seven_billion(llama__context_length=window)))
            assert found.card == card
    file = tmp_path / "mine.gguf"
    named_inside = seven_billion(general__name="Chinese Alpaca 2 7B 64K", llama__context_length=65536)
    assert read_checkpoint(write_gguf(file, **named_inside)).name == "chinese-alpaca-2-7b-64k"


def test_what_a_gguf_file_says_of_its_scaling_stands(tmp_path: Path) -> None:
    file = write_gguf(
        tmp_path / "chinese-alpaca-2-7b.gguf",
        **seven_billion(
            llama__context_length=16384, llama__rope__scaling__type="linear", llama__rope__scaling__factor=4.0
        ),
    )
    card = read_checkpoint(file).card
    assert (card.window, card.linear_factor, card.original_window, card.reach) == (16384, 4.0, 4096, 32768)
    denied = seven_billion(llama__rope__scaling__type="none")
    with pytest.raises(CheckpointError, match="RoPE"):
        read_checkpoint(write_gguf(tmp_path / "chinese-alpaca-2-7b-64k.gguf", **denied))


def test_a_gguf_file_that_is_not_what_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"1024.*55296"):
        read_checkpoint(write_gguf(tmp_path / "chinese-alpaca-2-7b.gguf"))
    with pytest.raises(CheckpointError, match="chinese-alpaca-2-7b"):
        read_checkpoint(write_gguf(tmp_path / "mine.gguf", general__name="chinese-alpaca-2-7b"))


def test_a_gguf_vocabulary_without_types(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_gguf(tmp_path / "toy.gguf", tokenizer__ggml__token_type=None))
    tokenizer = checkpoint_tokenizer(checkpoint)
    assert tokenizer.encode("年假▁") == named("toy").encode("年假▁")
    assert tokenizer.control_ids == {0, 1, 2}


@pytest.mark.parametrize(
    "changes",
    [{"tokenizer__ggml__scores": None}, {"tokenizer__ggml__eos_token_id": 70000}, {"tokenizer__ggml__scores": [0.0]}],
)
def test_damaged_gguf_vocabularies(tmp_path: Path, changes: dict[str, Any]) -> None:
    checkpoint = read_checkpoint(write_gguf(tmp_path / "toy.gguf", **changes))
    with pytest.raises(CheckpointError):
        checkpoint_tokenizer(checkpoint)


def test_folders_of_gguf_files(tmp_path: Path) -> None:
    one = write_gguf(tmp_path / "one" / "toy-q4_0.gguf")
    assert read_checkpoint(one.parent).path == one
    first = write_gguf(tmp_path / "split" / "toy-00001-of-00002.gguf")
    write_gguf(tmp_path / "split" / "toy-00002-of-00002.gguf")
    assert read_checkpoint(first.parent).path == first
    write_gguf(tmp_path / "one" / "toy-q8_0.gguf")
    with pytest.raises(CheckpointError, match=r"toy-q4_0\.gguf, toy-q8_0\.gguf"):
        read_checkpoint(one.parent)
