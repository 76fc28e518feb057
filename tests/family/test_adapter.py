"""What an adapter is, which base it fits, and which files and settings are refused."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from chinese_alpaca_rag.errors import CheckpointError, ModelNotFoundError
from chinese_alpaca_rag.family.adapter import Adapter, adapted, adapted_tokenizer, module_shapes, read_adapter
from chinese_alpaca_rag.family.catalogue import ModelCard, find_model
from chinese_alpaca_rag.family.checkpoint import Checkpoint, read_checkpoint
from chinese_alpaca_rag.family.rope import plan_rope
from tests.family.hf_folders import config_of, write_hf
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_lora import PREFIX, ToyLora, build_toy_lora
from tests.toy_tokenizer import smallest_tokenizer_model, toy_tokenizer_model

LARGER = 1100
LLAMA_2 = "meta-llama/Llama-2-7b-hf"


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_LANGUAGE", "en")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    return build_toy_family(tmp_path_factory.mktemp("toy"), tokenizer_model=toy_tokenizer_model())


@pytest.fixture(scope="module")
def lora(toy: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> ToyLora:
    return build_toy_lora(tmp_path_factory.mktemp("lora"), toy)


@pytest.fixture
def changed(lora: ToyLora, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the adapter with other settings; ``...`` takes a setting out."""

    def change(**settings: Any) -> Path:
        folder = Path(shutil.copytree(lora.hf, tmp_path / "changed"))
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text(encoding="utf-8")) | settings
        file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}), encoding="utf-8")
        return folder

    return change


# What it is.


def test_a_peft_folder_and_a_gguf_file_are_read_alike(lora: ToyLora) -> None:
    folder, file = read_adapter(lora.hf), read_adapter(lora.gguf)
    assert (folder.rank, folder.alpha, folder.format, file.format) == (4, 8.0, "hf", "gguf")
    assert folder.pairs == file.pairs
    assert len(folder.pairs) == 14
    assert folder.pairs["model.layers.1.mlp.down_proj"].inputs == 176
    assert (folder.saved, folder.vocabulary, folder.brings_tokenizer, folder.card) == ({}, None, False, None)


def test_a_folder_with_one_gguf_adapter_is_that_adapter(lora: ToyLora, tmp_path: Path) -> None:
    shutil.copy(lora.gguf, tmp_path / "one.gguf")
    assert read_adapter(tmp_path).format == "gguf"


@pytest.mark.parametrize("form", ["hf", "gguf"])
def test_base_and_adapter_keep_the_bases_card(form: str, toy: ToyCheckpoint, lora: ToyLora) -> None:
    base = read_checkpoint(getattr(toy, form))
    both = adapted(base, read_adapter(getattr(lora, form)))
    assert both.name == f"{base.name}+my-lora"
    assert (both.path, both.card.window, both.card.template) == (base.path, base.card.window, "alpaca-2")
    tokenizer = adapted_tokenizer(base, read_adapter(getattr(lora, form)))
    assert tokenizer.encode("年假有几天？") == adapted_tokenizer(both, read_adapter(getattr(lora, form))).encode(
        "年假有几天？"
    )


def test_a_base_model_tuned_to_chat_is_a_chat_model(tmp_path: Path) -> None:
    base = build_toy_family(tmp_path / "base", tokenizer_model=toy_tokenizer_model(), kind="base")
    plain = build_toy_lora(tmp_path / "plain", base, targets=["q_proj"])
    tuned = build_toy_lora(tmp_path / "tuned", base, targets=["q_proj"], name="my-alpaca-sft")
    checkpoint = read_checkpoint(base.hf)
    assert adapted(checkpoint, read_adapter(plain.hf)).card.kind == "base"
    card = adapted(checkpoint, read_adapter(tuned.hf)).card
    assert (card.kind, card.template) == ("chat", "alpaca-2")


def test_a_larger_vocabulary_comes_with_its_tokenizer(toy: ToyCheckpoint, tmp_path: Path) -> None:
    # The toy's tokenizer holds 1,024 pieces, which up to 127 rows may pad.
    larger = build_toy_lora(tmp_path, toy, vocabulary=LARGER, tokenizer_model=toy_tokenizer_model())
    adapter, base = read_adapter(larger.hf), read_checkpoint(toy.hf)
    assert adapter.vocabulary == LARGER
    assert adapted(base, adapter).card.vocabulary == LARGER
    assert adapted_tokenizer(base, adapter).vocabulary_size == 1024
    (larger.hf / "tokenizer.model").write_bytes(smallest_tokenizer_model())
    with pytest.raises(CheckpointError, match=str(LARGER)):
        adapted_tokenizer(base, adapter)
    (larger.hf / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        adapted(base, read_adapter(larger.hf))


# The family's own adapters, by their heads alone (the files are sparse).


def family_lora(folder: Path, card: ModelCard, base: str, *, rank: int = 64, vocabulary: int = 0) -> Path:
    folder.mkdir(parents=True)
    rows = {f"{PREFIX}model.embed_tokens.weight": (vocabulary, card.hidden)} if vocabulary else {}
    if vocabulary:
        rows[f"{PREFIX}lm_head.weight"] = (vocabulary, card.hidden)
    for module, (outputs, inputs) in module_shapes(card).items():
        if module != "lm_head":
            rows[f"{PREFIX}{module}.lora_A.weight"] = (rank, inputs)
            rows[f"{PREFIX}{module}.lora_B.weight"] = (outputs, rank)
    head, end = {}, 0
    for name, shape in rows.items():
        head[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + 2 * shape[0] * shape[1]]}
        end += 2 * shape[0] * shape[1]
    written = json.dumps(head).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        file.truncate(8 + len(written) + end)
    # As the family's own are written, by a PEFT of 2023.
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "enable_lora": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 128.0,
        "lora_dropout": 0.05,
        "merge_weights": False,
        "modules_to_save": ["embed_tokens", "lm_head"] if vocabulary else None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": ["q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj"],
        "task_type": "CAUSAL_LM",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(toy_tokenizer_model())
    return folder


def base_of(folder: Path, **changes: Any) -> Checkpoint:
    """A plain Llama-2-7B, unless ``changes`` say otherwise."""
    config = config_of(find_model("chinese-llama-2-7b"), vocab_size=32000) | changes
    return read_checkpoint(write_hf(folder, config))


@pytest.mark.parametrize(
    ("name", "window", "linear", "yarn"),
    [
        ("chinese-alpaca-2-lora-7b", 4096, 1.0, 1.0),
        ("chinese-alpaca-2-lora-7b-16k", 16384, 4.0, 1.0),
        ("chinese-alpaca-2-lora-7b-64k", 65536, 1.0, 16.0),
        ("chinese-llama-2-lora-7b-64k", 65536, 1.0, 16.0),
    ],
)
def test_the_familys_own_adapters_bring_their_window_and_rope(
    name: str, window: int, linear: float, yarn: float, tmp_path: Path
) -> None:
    base = base_of(tmp_path / "Llama-2-7b-hf")
    path = family_lora(tmp_path / name, base.card, LLAMA_2, vocabulary=55296)
    both = adapted(base, read_adapter(path))
    assert both.name == name.replace("-lora", "")
    assert both.card == find_model(name)
    plan = plan_rope(both.card)
    assert (plan.window, plan.linear_factor, plan.yarn_factor) == (window, linear, yarn)


def test_the_hubs_cache_tells_the_name(tmp_path: Path) -> None:
    base = base_of(tmp_path / "Llama-2-7b-hf")
    place = tmp_path / "models--hfl--chinese-alpaca-2-lora-7b-64k" / "snapshots" / "abc"
    assert read_adapter(family_lora(place, base.card, LLAMA_2, vocabulary=55296)).card == find_model(
        "chinese-alpaca-2-7b-64k"
    )


@pytest.mark.parametrize(
    ("folder", "changes", "words"),
    [
        ("Llama-2-13b-hf", {"hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 40}, "4096"),
        ("Llama-2-7b-short", {"num_hidden_layers": 4}, "not there"),
        ("chinese-alpaca-2-7b", {"vocab_size": 55296}, "55296"),
        ("chinese-llama-7b", {"vocab_size": 49953, "max_position_embeddings": 2048}, "generation 1"),
        ("llama-7b-hf", {"max_position_embeddings": 2048}, "generation 1"),
        ("Meta-Llama-3-8B", {"vocab_size": 128256}, "generation 3"),
    ],
)
def test_another_base_is_refused(folder: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    plain = base_of(tmp_path / "Llama-2-7b-hf")
    adapter = read_adapter(family_lora(tmp_path / "chinese-alpaca-2-lora-7b", plain.card, LLAMA_2, vocabulary=55296))
    with pytest.raises(CheckpointError, match=words) as refused:
        adapted(base_of(tmp_path / folder, **changes), adapter)
    assert "Llama-2-7b-hf" in refused.value.hint.en


@pytest.mark.parametrize(
    ("stated", "fits"),
    [
        (LLAMA_2, True),
        ("D:\\models\\llama-2-7b\\", True),
        ("", True),
        ("somebody/a-model", True),
        ("huggyllama/llama-7b", False),
        ("hfl/chinese-alpaca-7b", False),
        ("meta-llama/Meta-Llama-3-8B", False),
    ],
)
def test_the_base_that_a_strange_adapter_states_decides(stated: str, fits: bool, tmp_path: Path) -> None:
    base = base_of(tmp_path / "Llama-2-7b-hf")
    adapter = read_adapter(family_lora(tmp_path / "mine", base.card, stated, rank=8))
    if fits:
        assert adapted(base, adapter).card.vocabulary == 32000
    else:
        with pytest.raises(CheckpointError, match="was not made for"):
            adapted(base, adapter)


def test_forms_that_do_not_go_together_are_refused(toy: ToyCheckpoint, lora: ToyLora, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        adapted(read_checkpoint(toy.gguf), read_adapter(lora.hf))
    assert "convert_lora_to_gguf.py" in refused.value.hint.en
    with pytest.raises(CheckpointError, match="gguf"):
        adapted(read_checkpoint(toy.hf), read_adapter(lora.gguf))
    larger = build_toy_lora(tmp_path, toy, vocabulary=LARGER, tokenizer_model=toy_tokenizer_model())
    with pytest.raises(CheckpointError) as refused:
        adapted(read_checkpoint(toy.gguf), read_adapter(larger.hf))
    assert "merge" in refused.value.hint.en


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"peft_type": "IA3"},
        {"peft_type": ...},
        {"bias": "all"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"task_type": "SEQ_CLS"},
        {"layers_pattern": "blocks"},
        {"layer_replication": [[0, 2]]},
        {"target_parameters": ["x"]},
        {"trainable_token_indices": [1]},
        {"exclude_modules": ["q_proj"]},
        {"alora_invocation_tokens": [1]},
        {"init_lora_weights": "pissa"},
        {"use_rslora": 1},
        {"a_setting_of_tomorrow": 0.5},
        {"alpha_pattern": {"(a+)+$": 4}},
        {"lora_alpha": 0},
        {"lora_alpha": "8"},
        {"lora_alpha": float("nan")},
        {"r": 8},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": [1]},
        {"layers_to_transform": [-1]},
    ],
    ids=str,
)
def test_settings_that_are_not_applied_are_refused(settings: dict[str, Any], changed: Callable[..., Path]) -> None:
    with pytest.raises(
        CheckpointError, match="rank 4" if {"r", "rank_pattern"} & {*settings} else next(iter(settings))
    ):
        read_adapter(changed(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "os"}},
        {"revision": "main"},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q|k|v|o|up|gate|down)_proj"},
        {"use_dora": False, "a_setting_of_tomorrow": None},
        {"init_lora_weights": True},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
    ],
    ids=str,
)
def test_settings_that_change_nothing_are_passed_over(
    settings: dict[str, Any], changed: Callable[..., Path], toy: ToyCheckpoint, lora: ToyLora
) -> None:
    adapter = read_adapter(changed(**settings))
    assert adapter.pairs == read_adapter(lora.hf).pairs
    adapted(read_checkpoint(toy.hf), adapter)


def test_scales_follow_alpha_patterns_and_rslora(changed: Callable[..., Path], tmp_path: Path) -> None:
    path = changed(alpha_pattern={"k_proj": 2, "1.self_attn.v_proj": 3}, use_rslora=True)
    pairs = read_adapter(path).pairs
    scales = [pairs[f"model.layers.{end}"].scale for end in ("0.self_attn.k_proj", "1.self_attn.v_proj")]
    assert scales == [2 / 2, 3 / 2]
    assert pairs["model.layers.0.self_attn.v_proj"].scale == 8 / 2


@pytest.mark.parametrize(
    "settings",
    [{"target_modules": ["q_proj"]}, {"target_modules": [*"abc"]}, {"layers_to_transform": 0}],
    ids=str,
)
def test_tensors_that_the_settings_do_not_name_are_refused(
    settings: dict[str, Any], changed: Callable[..., Path], toy: ToyCheckpoint
) -> None:
    with pytest.raises(CheckpointError, match="do not agree"):
        adapted(read_checkpoint(toy.hf), read_adapter(changed(**settings)))


# Files.


def test_nothing_and_what_is_no_adapter(toy: ToyCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing"):
        read_adapter(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no LoRA"):
        read_adapter(tmp_path)
    with pytest.raises(CheckpointError, match=r"general\.type"):
        read_adapter(toy.gguf)
    with pytest.raises(CheckpointError, match="no LoRA"):
        read_adapter(toy.hf)


@pytest.mark.parametrize("whole", [True, False])
def test_pickles_are_refused(changed: Callable[..., Path], whole: bool) -> None:
    folder = changed()
    (folder / "adapter_model.safetensors").unlink()
    if whole:
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(CheckpointError, match="pickle" if whole else "holds no adapter_model"):
        read_adapter(folder)


@pytest.mark.parametrize("length", [0, 7, 200, 3000, -1])
def test_files_cut_short_are_refused(lora: ToyLora, changed: Callable[..., Path], tmp_path: Path, length: int) -> None:
    file = changed() / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        read_adapter(file.parent)
    short = tmp_path / "short.gguf"
    short.write_bytes(lora.gguf.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        read_adapter(short)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"peft_type": "LORA", "r": ', "[" * 100_000])
def test_settings_that_are_no_object_are_refused(changed: Callable[..., Path], content: str) -> None:
    folder = changed()
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(CheckpointError):
        read_adapter(folder)


def with_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    file = folder / "adapter_model.safetensors"
    tensors = dict(load_file(file))
    change(tensors)
    save_file(tensors, file)
    return folder


Q = f"{PREFIX}model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop(f"{Q}.lora_B.weight"),
        lambda tensors: tensors.update({f"{Q}.lora_magnitude_vector.weight": np.ones(64, np.float32)}),
        lambda tensors: tensors.update({f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((4, 8), np.float32)}),
        lambda tensors: tensors.update({f"{Q}.lora_A.weight": np.ones((3, 64), np.float32)}),
        lambda tensors: tensors.update({f"{Q}.lora_A.weight": np.ones(64, np.float32)}),
        lambda tensors: tensors.update({f"{Q}.lora_A.weight": np.ones((4, 64), np.int32)}),
        lambda tensors: tensors.update({f"{Q}.lora_A.default.weight": np.ones((4, 64), np.float32)}),
        lambda tensors: tensors.update({f"{PREFIX}lm_head.weight": np.ones((1024, 64), np.float32)}),
        lambda tensors: tensors.clear(),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(
    change: Callable[[dict[str, Any]], object], changed: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError):
        read_adapter(with_tensors(changed(), change))


def test_a_layer_without_its_tensors_is_refused(changed: Callable[..., Path], toy: ToyCheckpoint) -> None:
    def drop(tensors: dict[str, Any]) -> None:
        for side in "AB":
            del tensors[f"{Q}.lora_{side}.weight"]

    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.q_proj"):
        adapted(read_checkpoint(toy.hf), read_adapter(with_tensors(changed(), drop)))


def test_an_adapter_is_a_plain_record(lora: ToyLora) -> None:
    assert isinstance(read_adapter(lora.hf), Adapter)
    assert read_adapter(lora.hf) == read_adapter(lora.hf)
