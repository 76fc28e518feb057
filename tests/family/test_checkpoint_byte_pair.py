"""Checkpoints of the third generation: which tokenizer they bring, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.catalogue import find_model
from chinese_alpaca_rag.family.checkpoint import checkpoint_tokenizer, read_checkpoint
from tests.family.gguf_files import write_gguf
from tests.family.hf_folders import TOY, config_of, write_hf
from tests.family.vocabularies import any_named, named_model
from tests.toy_byte_pair import SPECIAL, BytePairVocabulary, gpt2_alphabet, tokenizer_json_bytes, toy_byte_pair

INSTRUCT = find_model("llama-3-chinese-8b-instruct")
TINY = replace(INSTRUCT, layers=2, hidden=64, heads=4, kv_heads=2, feed_forward=176, vocabulary=773)


@cache
def full_size() -> BytePairVocabulary:
    """As many pieces as Llama-3 has, 256 of them special."""
    special = (*SPECIAL, *(f"<|reserved_special_token_{number}|>" for number in range(11, 251)))
    alphabet = gpt2_alphabet()
    longer = map("".join, (*product(alphabet, repeat=2), *islice(product(alphabet, repeat=3), 128_000)))
    return BytePairVocabulary((*alphabet, *islice(longer, 128_000 - 256), *special), (("!", "!"),), special)


def folder(path: Path, config: object, vocabulary: BytePairVocabulary | None) -> Path:
    write_hf(path, config, tokenizer=False)
    if vocabulary:
        (path / "tokenizer.json").write_bytes(tokenizer_json_bytes(vocabulary))
    return path


def in_gguf(vocabulary: BytePairVocabulary, **changes: Any) -> dict[str, Any]:
    bos, turn = (vocabulary.pieces.index(name) for name in (SPECIAL[0], "<|eot_id|>"))
    return {
        "general__name": "mine",
        "tokenizer__ggml__model": "gpt2",
        "tokenizer__ggml__pre": "llama-bpe",
        "tokenizer__ggml__tokens": list(vocabulary.pieces),
        "tokenizer__ggml__token_type": vocabulary.types,
        "tokenizer__ggml__merges": [" ".join(merge) for merge in vocabulary.merges],
        "tokenizer__ggml__scores": None,
        "tokenizer__ggml__bos_token_id": bos,
        "tokenizer__ggml__eos_token_id": turn,
    } | changes


def test_the_third_generation_at_its_full_size(tmp_path: Path) -> None:
    config = config_of(INSTRUCT)
    shape = {
        "llama__block_count": 32,
        "llama__context_length": 8192,
        "llama__embedding_length": 4096,
        "llama__feed_forward_length": 14336,
        "llama__attention__head_count": 32,
        "llama__attention__head_count_kv": 8,
        "llama__rope__dimension_count": 128,
        "llama__rope__freq_base": 500000.0,
        "llama__vocab_size": 128256,
    }
    both = (
        folder(tmp_path / INSTRUCT.name, config, full_size()),
        write_gguf(tmp_path / f"{INSTRUCT.name}-q8_0.gguf", **in_gguf(full_size(), **shape)),
    )
    for checkpoint in map(read_checkpoint, both):
        assert checkpoint.card == INSTRUCT
        tokenizer = checkpoint_tokenizer(checkpoint)
        assert tokenizer.vocabulary_size == 128256
        assert tokenizer.end_ids == {128000, 128001, 128009}
        assert (tokenizer.bos_id, min(tokenizer.control_ids), len(tokenizer.control_ids)) == (128000, 128000, 256)


@pytest.mark.parametrize("pre", ["llama-bpe", "llama3", None])
def test_both_forms_give_the_same_tokenizer(tmp_path: Path, pre: str | None) -> None:
    file = write_gguf(tmp_path / "mine.gguf", **in_gguf(toy_byte_pair(), tokenizer__ggml__pre=pre))
    both = map(read_checkpoint, (folder(tmp_path / "mine", config_of(TINY), toy_byte_pair()), file))
    for checkpoint in both:
        assert (checkpoint.card.generation, checkpoint.card.template) == (3, "llama-3")
        tokenizer = checkpoint_tokenizer(checkpoint)
        for text in ("满一年的员工有五天年假。", "<|eot_id|>\n\n", "▁ \x00😀", ""):
            assert tokenizer.encode(text) == any_named("byte-pair").encode(text)


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(folder(tmp_path / INSTRUCT.name, config_of(INSTRUCT), toy_byte_pair()))
    with pytest.raises(CheckpointError, match=r"773.*128256"):
        checkpoint_tokenizer(checkpoint)


def test_a_tokenizer_of_another_generation_is_refused(tmp_path: Path) -> None:
    # Both files of another generation, and a file of one that is called as the other's.
    second = find_model("chinese-alpaca-2-7b")
    third = folder(tmp_path / INSTRUCT.name, config_of(INSTRUCT), None)
    (third / "tokenizer.model").write_bytes(named_model("toy"))
    for checkpoint, file in (
        (read_checkpoint(third), "tokenizer.json"),
        (read_checkpoint(folder(tmp_path / second.name, config_of(second), toy_byte_pair())), "tokenizer.model"),
        (replace(read_checkpoint(write_gguf(tmp_path / "toy.gguf")), card=TINY), "tokenizer.json"),
        (
            replace(read_checkpoint(write_gguf(tmp_path / "mine.gguf", **in_gguf(toy_byte_pair()))), card=TOY),
            "tokenizer.model",
        ),
    ):
        with pytest.raises(CheckpointError, match=file):
            checkpoint_tokenizer(checkpoint)


def test_a_sentencepiece_model_under_the_other_name_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / INSTRUCT.name, config_of(INSTRUCT), None)
    (path / "tokenizer.json").write_bytes(named_model("toy"))
    with pytest.raises(CheckpointError, match="JSON"):
        checkpoint_tokenizer(read_checkpoint(path))
    content = toy_byte_pair().tokenizer_json() | {"normalizer": {"type": "Replace"}}
    (path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="Llama-3"):
        checkpoint_tokenizer(read_checkpoint(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer__ggml__pre": "qwen2"},
        {"tokenizer__ggml__merges": None},
        {"tokenizer__ggml__merges": [1, 2]},
        {"tokenizer__ggml__merges": ["one"]},
        {"tokenizer__ggml__token_type": None},
        {"tokenizer__ggml__token_type": ["a"] * 773},
        {"tokenizer__ggml__token_type": [float("inf")] * 773},
        {"tokenizer__ggml__token_type": [1] * 773},
        {"tokenizer__ggml__tokens": list(range(773))},
        {"tokenizer__ggml__bos_token_id": 1},
        {"tokenizer__ggml__bos_token_id": "first"},
        {"tokenizer__ggml__eos_token_id": 10**6},
    ],
)
def test_damaged_gguf_vocabularies(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = write_gguf(tmp_path / "mine.gguf", **(in_gguf(toy_byte_pair()) | changes))
    with pytest.raises(CheckpointError):
        checkpoint_tokenizer(read_checkpoint(file))
