"""Adapters applied at load: what base and adapter compute together, on both backends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.adapter import adapted, read_adapter
from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.memory import GGML_TYPES
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.llama_cpp_loading import (
    library,
    load_adapter,
    open_model,
    set_adapters,
    set_fields,
)
from chinese_alpaca_rag.llms.transformers_loading import load_transformers
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_lora import ALL_TARGETS, PREFIX, ToyLora, build_toy_lora
from tests.toy_tokenizer import toy_tokenizer_model

IDS = [1, *np.random.default_rng(7).integers(259, 1024, 120).tolist()]


@pytest.fixture(scope="module")
def lora(toy: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> ToyLora:
    return build_toy_lora(tmp_path_factory.mktemp("lora"), toy)


def logits_of(folder: Path, lora_path: Path | None = None, **options: Any) -> Logits:
    """Of every one of ``IDS``, shape (tokens, vocabulary)."""
    import torch

    checkpoint = read_checkpoint(folder)
    model = load_transformers(checkpoint, plan_rope(checkpoint.card), device="cpu", lora_path=lora_path, **options)
    with torch.inference_mode():
        logits: Logits = model(torch.tensor([IDS])).logits[0].float().numpy()
    return logits


@contextmanager
def llama_cpp_context(path: Path, lora_paths: list[Path]) -> Iterator[tuple[Any, Any, list[Any]]]:
    lib = library()
    model = open_model(path)
    adapters = [load_adapter(lib, model, lora) for lora in lora_paths]
    parameters = lib.llama_context_default_params()
    plan = plan_rope(read_checkpoint(path).card)
    set_fields(parameters, n_ctx=512, n_threads=1, n_threads_batch=1, type_k=GGML_TYPES["f16"], **plan.for_llama_cpp())
    context = lib.llama_init_from_model(model, parameters)
    try:
        yield lib, context, adapters
    finally:
        lib.llama_free(context)
        lib.llama_model_free(model)


def last_logits(lib: Any, context: Any) -> Logits:
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    tokens = (lib.llama_token * len(IDS))(*IDS)
    assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(IDS))) == 0
    return np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), shape=(1024,)).copy()


def difference(one: Logits, other: Logits) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


# transformers.

CASES: dict[str, dict[str, Any]] = {
    "every projection": {},
    "two projections": {"targets": ["q_proj", "v_proj"]},
    "with the output layer": {"targets": ["q_proj", "lm_head"]},
    "rsLoRA": {"use_rslora": True},
    "rank 1": {"rank": 1, "alpha": 0.5},
    "norms replaced": {"norms": True},
    "larger vocabulary": {"vocabulary": 1100, "tokenizer_model": toy_tokenizer_model()},
    "vocabulary and norms only": {"targets": [], "vocabulary": 1100, "norms": True, "tokenizer_model": b"x"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_transformers_compute_what_a_hand_merged_checkpoint_does(
    case: dict[str, Any], toy: ToyCheckpoint, tmp_path: Path, one_thread: None
) -> None:
    adapter = build_toy_lora(tmp_path, toy, **case)
    logits = logits_of(toy.hf, adapter.hf)
    assert difference(logits, logits_of(adapter.merged)) <= 1e-4
    assert difference(logits[:, :1024], logits_of(toy.hf)) > 0.5


def test_patterns_scale_each_pair_by_itself(toy: ToyCheckpoint, tmp_path: Path, one_thread: None) -> None:
    """alpha 16 for one layer's q_proj, 2 for every other q_proj: as if the pairs had been drawn so."""
    patterned = build_toy_lora(
        tmp_path / "one", toy, targets=["q_proj"], alpha_pattern={"layers.1.self_attn.q_proj": 16, "q_proj": 2}
    )
    scaled = build_toy_lora(tmp_path / "two", toy, targets=["q_proj"], alpha=2)
    file = scaled.hf / "adapter_model.safetensors"
    tensors = dict(load_file(file))
    tensors[f"{PREFIX}model.layers.1.self_attn.q_proj.lora_B.weight"] *= np.float32(8)
    save_file(tensors, file)
    assert difference(logits_of(toy.hf, patterned.hf), logits_of(toy.hf, scaled.hf)) <= 1e-4


def test_half_precision_weights_take_the_adapter(toy: ToyCheckpoint, lora: ToyLora, one_thread: None) -> None:
    merged = logits_of(lora.merged, dtype="bfloat16")
    assert np.corrcoef(logits_of(toy.hf, lora.hf, dtype="bfloat16")[-1], merged[-1])[0, 1] > 0.99


def test_progress_ends_at_one_and_never_falls(toy: ToyCheckpoint, lora: ToyLora, one_thread: None) -> None:
    told: list[float] = []
    logits_of(toy.hf, lora.hf, on_progress=told.append)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert len(told) > 10


def test_nothing_of_the_adapter_is_left_beside_the_weights(toy: ToyCheckpoint, lora: ToyLora, one_thread: None) -> None:
    checkpoint = adapted(read_checkpoint(toy.hf), read_adapter(lora.hf))
    model = load_transformers(checkpoint, plan_rope(checkpoint.card), device="cpu", lora_path=lora.hf)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert not model.training


def test_pairs_can_stay_beside_the_weights(toy: ToyCheckpoint, lora: ToyLora, one_thread: None) -> None:
    """As they do over quantised weights, which this machine cannot hold."""
    import torch

    from chinese_alpaca_rag.llms.lora_merging import merge_adapter

    checkpoint = read_checkpoint(toy.hf)
    model = load_transformers(checkpoint, plan_rope(checkpoint.card), device="cpu")
    model = merge_adapter(torch, model, read_adapter(lora.hf), beside=True).eval()
    assert type(model).__name__ == "LlamaForCausalLM"
    with torch.inference_mode():
        assert difference(model(torch.tensor([IDS])).logits[0].numpy(), logits_of(lora.merged)) <= 1e-3


def broken(lora: ToyLora, folder: Path, name: str, tensor: Any) -> Path:
    path = Path(shutil.copytree(lora.hf, folder / "broken"))
    tensors = dict(load_file(path / "adapter_model.safetensors"))
    tensors[name] = tensor
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def test_numbers_that_are_none_are_refused(toy: ToyCheckpoint, lora: ToyLora, tmp_path: Path, one_thread: None) -> None:
    name = f"{PREFIX}model.layers.0.mlp.up_proj.lora_A.weight"
    path = broken(lora, tmp_path, name, np.full((4, 64), np.nan, np.float32))
    with pytest.raises(CheckpointError, match="broken"):
        logits_of(toy.hf, path)


def test_an_adapter_for_another_base_is_refused_before_anything_is_loaded(
    toy: ToyCheckpoint, tmp_path: Path, one_thread: None
) -> None:
    other = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), hidden=32, heads=2, name="alpaca-other")
    foreign = build_toy_lora(tmp_path / "lora", other)
    told: list[float] = []
    with pytest.raises(CheckpointError, match="64"):
        logits_of(toy.hf, foreign.hf, on_progress=told.append)
    assert told == []


def test_a_tied_output_layer_takes_no_vocabulary(tmp_path: Path, toy: ToyCheckpoint, one_thread: None) -> None:
    folder = Path(shutil.copytree(toy.hf, tmp_path / "chinese-alpaca-2-tied"))
    config = (folder / "config.json").read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    (folder / "config.json").write_text(config)
    larger = build_toy_lora(tmp_path, toy, vocabulary=1100, tokenizer_model=toy_tokenizer_model())
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        logits_of(folder, larger.hf)


# llama.cpp.


@pytest.mark.parametrize("targets", [ALL_TARGETS, ["k_proj", "lm_head"]])
def test_llama_cpp_computes_what_transformers_do(
    targets: list[str], toy: ToyCheckpoint, tmp_path: Path, one_thread: None
) -> None:
    lora = build_toy_lora(tmp_path, toy, targets=targets)
    wanted = logits_of(toy.hf, lora.hf)[-1]
    with llama_cpp_context(toy.gguf, [lora.gguf]) as (lib, context, adapters):
        plain = last_logits(lib, context)
        set_adapters(lib, context, adapters)
        assert difference(last_logits(lib, context), wanted) <= 0.01
        set_adapters(lib, context, [])
        assert difference(last_logits(lib, context), plain) <= 0.005
    assert difference(plain, wanted) > 0.5


def test_an_adapter_with_a_strange_name_is_opened(toy: ToyCheckpoint, lora: ToyLora, tmp_path: Path) -> None:
    path = tmp_path / "适配器 é.gguf"
    shutil.copy(lora.gguf, path)
    with llama_cpp_context(toy.gguf, [path]) as (_, _, adapters):
        assert len(adapters) == 1


def test_llama_cpp_refuses_an_adapter_for_another_base(toy: ToyCheckpoint, tmp_path: Path) -> None:
    other = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), hidden=32, heads=2, name="alpaca-other")
    foreign = build_toy_lora(tmp_path / "lora", other)
    lib, model = library(), open_model(toy.gguf)
    try:
        with pytest.raises(CheckpointError, match="incorrect shape"):
            load_adapter(lib, model, foreign.gguf)
        with pytest.raises(CheckpointError, match="GGUF"):
            load_adapter(lib, model, foreign.hf)
    finally:
        lib.llama_model_free(model)


def test_no_flipped_byte_of_an_adapter_ends_the_process(toy: ToyCheckpoint, lora: ToyLora, tmp_path: Path) -> None:
    program = (
        "import random, sys\n"
        "from pathlib import Path\n"
        "from chinese_alpaca_rag.errors import CheckpointError\n"
        "from chinese_alpaca_rag.llms.llama_cpp_loading import library, load_adapter, open_model\n"
        "model, whole, place = open_model(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes(), Path(sys.argv[3])\n"
        "chance, opened = random.Random(5), 0\n"
        "for _ in range(400):\n"
        "    data = bytearray(whole); data[chance.randrange(2200)] ^= 1 << chance.randrange(8)\n"
        "    place.write_bytes(data)\n"
        "    try: library().llama_adapter_lora_free(load_adapter(library(), model, place)); opened += 1\n"
        "    except CheckpointError: pass\n"
        "print(opened)\n"
    )
    arguments = [sys.executable, "-c", program, str(toy.gguf), str(lora.gguf), str(tmp_path / "a.gguf")]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < 400
