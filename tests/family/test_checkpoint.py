from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError, ModelNotFoundError
from chinese_alpaca_rag.family.catalogue import find_model
from chinese_alpaca_rag.family.checkpoint import Checkpoint, checkpoint_tokenizer, read_checkpoint
from chinese_alpaca_rag.family.rope import plan_rope
from tests.family.gguf_files import write_gguf
from tests.family.hf_folders import LINEAR_4, TOY, YARN_16, config_of, safetensors_bytes, write_hf
from tests.family.vocabularies import named


@pytest.mark.parametrize(
    "name",
    [
        "chinese-alpaca-2-7b",
        "chinese-alpaca-2-13b-16k",
        "chinese-llama-2-7b-64k",
        "chinese-alpaca-plus-7b",
        "ziya2-13b-chat",
    ],
)
def test_a_folder_of_the_catalogue_is_its_row(tmp_path: Path, name: str) -> None:
    card = find_model(name)
    found = read_checkpoint(write_hf(tmp_path / name, config_of(card)))
    assert found == Checkpoint(tmp_path / name, "hf", name, card)


def test_names_in_every_place_where_they_stand(tmp_path: Path) -> None:
    card = find_model("chinese-alpaca-2-7b-16k")
    config = config_of(card)
    cached = tmp_path / "models--hfl--chinese-alpaca-2-7b-16k" / "snapshots" / ("a" * 40)
    for folder in (tmp_path / "Chinese-Alpaca-2-7B-16K", tmp_path / "hfl" / "chinese-alpaca-2-7b-16k", cached):
        assert read_checkpoint(write_hf(folder, config)).name == card.name
    for declared in (
        "hfl/chinese-alpaca-2-7b-16k",
        "ziqingyang/chinese-alpaca-2-7b-16k",
        "/data/x/Chinese-Alpaca-2-7B-16K/",
    ):
        folder = write_hf(tmp_path / "weights", config | {"_name_or_path": declared})
        assert read_checkpoint(folder).card == card
    small = find_model("chinese-alpaca-2-1.3b")
    assert read_checkpoint(write_hf(tmp_path / "chinese-alpaca-2-1___3b", config_of(small))).card == small


def test_the_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_model("chinese-alpaca-2-7b")
    monkeypatch.chdir(write_hf(tmp_path / "chinese-alpaca-2-7b", config_of(card)))
    assert read_checkpoint(Path()).card == card


def test_where_the_weights_were_trained_from_is_only_a_hint(tmp_path: Path) -> None:
    config = config_of(TOY) | {"_name_or_path": "hfl/chinese-alpaca-2-7b"}
    found = read_checkpoint(write_hf(tmp_path / "smaller", config))
    assert found.name == "smaller"
    assert found.card.layers == 2


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        ({"vocab_size": 32000}, ("55296", "32000")),
        ({"num_hidden_layers": 40}, ("32", "40")),
        ({"hidden_size": 5120}, ("4096", "5120")),
        ({"intermediate_size": 13824}, ("11008", "13824")),
        ({"num_key_value_heads": 8}, ("32", "8")),
    ],
)
def test_a_folder_that_is_not_what_it_is_called(
    tmp_path: Path, change: dict[str, int], numbers: tuple[str, str]
) -> None:
    config = config_of(find_model("chinese-alpaca-2-7b")) | change
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write_hf(tmp_path / "chinese-alpaca-2-7b", config))
    for text in (caught.value.message.zh, caught.value.message.en):
        assert all(number in text for number in numbers)


def test_generations_are_never_mixed(tmp_path: Path) -> None:
    config = config_of(find_model("chinese-alpaca-7b"), vocab_size=49953)
    with pytest.raises(CheckpointError, match="49954"):
        read_checkpoint(write_hf(tmp_path / "chinese-alpaca-7b", config))


def test_a_long_model_whose_scaling_was_lost_is_refused(tmp_path: Path) -> None:
    config = config_of(find_model("chinese-alpaca-2-7b-16k"), rope_scaling=None)
    with pytest.raises(CheckpointError, match="RoPE"):
        read_checkpoint(write_hf(tmp_path / "chinese-alpaca-2-7b-16k", config))


@pytest.mark.parametrize(
    ("rope", "window", "expected"),
    [
        ({"rope_scaling": None}, 4096, (10000.0, 1.0, 1.0, 4096)),
        ({"rope_scaling": ...}, 4096, (10000.0, 1.0, 1.0, 4096)),
        ({"rope_scaling": LINEAR_4}, 16384, (10000.0, 4.0, 1.0, 4096)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4}}, 16384, (10000.0, 4.0, 1.0, 4096)),
        ({"rope_scaling": YARN_16}, 65536, (10000.0, 1.0, 16.0, 4096)),
        ({"rope_scaling": {"type": "yarn", "factor": 16.0}}, 65536, (10000.0, 1.0, 16.0, 4096)),
        ({"rope_theta": 500000.0}, 8192, (500000.0, 1.0, 1.0, 8192)),
        ({"rope_theta": ...}, 4096, (10000.0, 1.0, 1.0, 4096)),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}, "rope_theta": ...},
            4096,
            (20000.0, 1.0, 1.0, 4096),
        ),
        ({"rope_parameters": LINEAR_4 | {"rope_theta": 10000.0}}, 16384, (10000.0, 4.0, 1.0, 4096)),
        (
            {"rope_parameters": plan_rope(find_model("chinese-alpaca-2-7b-64k")).for_transformers()},
            65536,
            (10000.0, 1.0, 16.0, 4096),
        ),
    ],
)
def test_rope_in_every_spelling(
    tmp_path: Path, rope: dict[str, Any], window: int, expected: tuple[float, float, float, int]
) -> None:
    folder = write_hf(tmp_path / "mine", config_of(TOY, max_position_embeddings=window, **rope))
    card = read_checkpoint(folder).card
    assert (card.theta, card.linear_factor, card.yarn_factor, card.original_window) == expected
    assert card.window == window


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        {"type": "linear"},
        {"type": "linear", "factor": 0},
        {"type": "linear", "factor": float("nan")},
        {"type": "linear", "factor": "4"},
        {"type": "yarn", "factor": 16.0, "beta_fast": 64.0},
        {"type": "yarn", "factor": 16.0, "attention_factor": 1.0},
        {"type": "yarn", "factor": 16.0, "mscale": 0.7},
        {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 0},
        ["linear", 4.0],
    ],
)
def test_rope_that_a_card_cannot_say_is_refused(tmp_path: Path, scaling: Any) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY, rope_scaling=scaling)))


@pytest.mark.parametrize(
    ("name", "kind", "template"),
    [
        ("my-finetune", "chat", "alpaca-2"),
        ("my-alpaca", "chat", "alpaca-2"),
        ("my-llama", "base", None),
        ("llama-2-7b-chat", "chat", "alpaca-2"),
        ("chinese-llama-2-toy", "base", None),
        ("company-base", "base", None),
    ],
)
def test_a_card_made_from_what_the_files_say(tmp_path: Path, name: str, kind: str, template: str | None) -> None:
    found = read_checkpoint(write_hf(tmp_path / name, config_of(TOY)))
    assert found.name == found.card.name == name
    assert (found.card.kind, found.card.template) == (kind, template)
    assert (found.card.layers, found.card.hidden, found.card.vocabulary) == (2, 64, 1024)
    assert plan_rope(found.card, 8192).alpha == 3.0


@pytest.mark.parametrize(
    ("vocabulary", "template", "reach"),
    [(55296, "alpaca-2", 18432), (49954, "stanford-alpaca", 16384), (128256, "llama-3", 4096), (39410, "ziya2", 4096)],
)
def test_the_vocabulary_tells_the_generation(tmp_path: Path, vocabulary: int, template: str, reach: int) -> None:
    card = read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY, vocab_size=vocabulary))).card
    assert (card.template, card.reach) == (template, reach)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen2"},
        {"model_type": ...},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["MixtralForCausalLM"]},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": "32"},
        {"num_hidden_layers": 2**40},
        {"num_hidden_layers": True},
        {"hidden_size": 65},
        {"hidden_size": 8},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 3},
        {"head_dim": 32},
        {"vocab_size": ...},
        {"max_position_embeddings": None},
        {"rope_theta": -1.0},
        {"rope_theta": "10000"},
    ],
)
def test_configurations_that_are_not_the_familys(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY, **change)))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_damaged_configuration(tmp_path: Path, content: bytes) -> None:
    folder = write_hf(tmp_path / "mine", {})
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="json"):
        read_checkpoint(folder)


def test_code_that_comes_with_weights_is_refused(tmp_path: Path) -> None:
    code = {"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    with pytest.raises(CheckpointError, match="auto_map"):
        read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY) | code))
    # The family's own 64K folder brings a copy of Llama with YaRN; the stock model is the same and is what is loaded.
    card = find_model("chinese-llama-2-7b-64k")
    config = config_of(card) | code | {"_name_or_path": "Llama-2-7b-hf"}
    assert read_checkpoint(write_hf(tmp_path / "chinese-llama-2-7b-64k", config)).card == card
    renamed = read_checkpoint(write_hf(tmp_path / "long-llama", config)).card
    assert (renamed.yarn_factor, renamed.window, renamed.kind) == (16.0, 65536, "base")
    with pytest.raises(CheckpointError, match="auto_map"):
        read_checkpoint(write_hf(tmp_path / "other", config | {"max_position_embeddings": 32768}))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "mine", config_of(TOY), weights=False)
    with pytest.raises(CheckpointError, match="no safetensors"):
        read_checkpoint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 4,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"{]  ",
        safetensors_bytes(given=7),
        safetensors_bytes(announced=2**40),
        struct.pack("<Q", 9) + b'{"a": 1} ',
    ],
)
def test_damaged_weights_are_noticed_before_they_are_loaded(tmp_path: Path, content: bytes) -> None:
    folder = write_hf(tmp_path / "mine", config_of(TOY))
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="safetensors"):
        read_checkpoint(folder)


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "mine", config_of(TOY), weights=False)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    (folder / names[0]).write_bytes(safetensors_bytes())
    with pytest.raises(CheckpointError, match=names[1]):
        read_checkpoint(folder)
    (folder / names[1]).write_bytes(safetensors_bytes())
    assert read_checkpoint(folder).format == "hf"
    tables: list[object] = [{"a": "../outside.safetensors"}, {"a": "model.bin"}, {}, []]
    for table in tables:
        index.write_text(json.dumps({"weight_map": table}))
        with pytest.raises(CheckpointError, match="index"):
            read_checkpoint(folder)


def test_the_tokenizer_of_both_forms_is_the_same(tmp_path: Path) -> None:
    texts = ["满一年的员工有五天年假。", "[INST] <<SYS>>\n", "▁ \x00😀", ""]
    both = (write_hf(tmp_path / "toy", config_of(TOY)), write_gguf(tmp_path / "toy.gguf"))
    for tokenizer in map(checkpoint_tokenizer, map(read_checkpoint, both)):
        assert [tokenizer.encode(text) for text in texts] == [named("toy").encode(text) for text in texts]
        assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)


def test_a_tokenizer_of_another_generation_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY, vocab_size=55296)))
    with pytest.raises(CheckpointError, match=r"1024.*55296"):
        checkpoint_tokenizer(checkpoint)
    # One row more for a padding piece, or a matrix padded to a round size, is the same tokenizer.
    padded = read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY, vocab_size=1025)))
    assert checkpoint_tokenizer(padded).vocabulary_size == 1024


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_hf(tmp_path / "mine", config_of(TOY), tokenizer=False))
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        checkpoint_tokenizer(checkpoint)


def test_places_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        read_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="no model"):
        read_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="LoRA"):
        read_checkpoint(tmp_path)
    (tmp_path / "notes.txt").write_text("hello, this is a text")
    with pytest.raises(CheckpointError, match="GGUF"):
        read_checkpoint(tmp_path / "notes.txt")
