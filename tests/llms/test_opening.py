"""Making a model: what is checked at once, what waits for the first call, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chinese_alpaca_rag.errors import (
    CheckpointError,
    MissingExtraError,
    ModelError,
    NotAChatModelError,
    WindowUnreachableError,
    WrongUsageError,
)
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.conftest import OpenModel
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import smallest_tokenizer_model, toy_tokenizer_model


def test_making_a_model_is_instant_and_loads_nothing(open_model: OpenModel) -> None:
    model = open_model()
    start = time.perf_counter()
    for _ in range(20):
        open_model()
    assert (time.perf_counter() - start) / 20 < 0.01
    assert model._backend is None


def test_making_a_model_imports_nothing_heavy(toy: ToyCheckpoint) -> None:
    program = (
        "import sys; from chinese_alpaca_rag.llms import chat_alpaca\n"
        f"for path in {[str(toy.gguf), str(toy.hf)]!r}: chat_alpaca(path)\n"
        "assert not {'torch', 'transformers', 'llama_cpp'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_not_said_follows_the_card(open_model: OpenModel) -> None:
    model = open_model()
    assert (model.temperature, model.top_k, model.top_p, model.repetition_penalty) == (0.2, 40, 0.9, 1.1)
    assert (model.window, model.max_tokens, model.seed, model.stop) == (4096, 400, None, None)
    same = open_model(window=None, max_tokens=None, temperature=None, seed=None)
    assert same._identifying_params == model._identifying_params
    assert open_model(window=512).max_tokens == 256
    assert open_model(window=512, max_tokens=500).max_tokens == 500


def test_what_can_change_an_answer_is_in_the_cache_key(open_model: OpenModel) -> None:
    plain = open_model()._get_llm_string()
    for fields in (
        {"window": 2048},
        {"alpha": 2.0},
        {"temperature": 0.3},
        {"top_k": 3},
        {"top_p": 0.5},
        {"repetition_penalty": 1.2},
        {"max_tokens": 9},
        {"seed": 1},
        {"stop": ["x"]},
    ):
        assert open_model(**fields)._get_llm_string() != plain
    assert open_model()._get_llm_string(max_tokens=9) != plain
    assert open_model()._get_llm_string() == plain


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    checkpoint = build_toy_family(tmp_path / "a", tokenizer_model=toy_tokenizer_model(), window=4096, layers=1)
    first = ChatAlpacaGGUF(model_path=checkpoint.gguf)
    other = build_toy_family(tmp_path / "b", tokenizer_model=toy_tokenizer_model(), window=2048, layers=1)
    shutil.copy(other.gguf, checkpoint.gguf)
    second = ChatAlpacaGGUF(model_path=checkpoint.gguf)
    assert (first.window, second.window) == (4096, 2048)
    assert first._get_llm_string() != second._get_llm_string()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("n_ctx", "window"),
        ("rope_freq_scale", "window"),
        ("repeat_penalty", "repetition_penalty"),
        ("temprature", "temperature"),
        ("max_new_tokens", "max_tokens"),
        ("zzz", "temperature"),
    ],
)
def test_unknown_fields_are_refused_with_the_nearest(open_model: OpenModel, name: str, near: str) -> None:
    with pytest.raises(WrongUsageError, match=name) as refused:
        open_model(**{name: 1})
    assert near in refused.value.hint.en


def test_without_a_path_the_missing_field_is_named(toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match="model_path"):
        ChatAlpacaGGUF.model_validate({"temperature": 0})


@pytest.mark.parametrize("window", [0, -1, 18433, 10**9])
def test_a_window_out_of_reach_is_refused_at_once(open_model: OpenModel, window: int) -> None:
    with pytest.raises(WindowUnreachableError, match=str(window)) as refused:
        open_model(window=window)
    assert "--window" in refused.value.hint.en


def test_without_ntk_the_trained_window_is_the_end(open_model: OpenModel) -> None:
    assert open_model(alpha=None).rope.alpha == 1.0
    with pytest.raises(WindowUnreachableError, match="8192"):
        open_model(window=8192, alpha=None)


@pytest.mark.parametrize("window", [1, 255, 257, 5000, 18432])
def test_a_window_within_reach_is_kept_as_asked(open_model: OpenModel, window: int) -> None:
    if window == 1:
        with pytest.raises(WrongUsageError, match="max_tokens"):
            open_model(window=window)
    else:
        assert open_model(window=window).window == window


def test_a_window_that_is_no_multiple_of_anything_can_be_filled(open_model: OpenModel) -> None:
    model = open_model(window=257, max_tokens=10, temperature=0)
    assert model.next_token_logits([1, *range(300, 300 + 256)]).shape == (1024,)


def test_a_reply_as_long_as_the_window_is_refused(open_model: OpenModel) -> None:
    with pytest.raises(WrongUsageError, match="4096"):
        open_model(max_tokens=4096)


@pytest.mark.parametrize(
    "fields", [{"temperature": -1}, {"top_p": 2.0}, {"top_k": -3}, {"seed": -4}, {"stop": [""]}, {"max_tokens": 0}]
)
def test_fields_that_cannot_be_meant_are_refused(open_model: OpenModel, fields: dict[str, Any]) -> None:
    with pytest.raises(WrongUsageError):
        open_model(**fields)


@pytest.mark.parametrize("name", ["model_path", "window", "alpha"])
def test_what_the_weights_are_opened_with_cannot_be_changed_later(open_model: OpenModel, name: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(open_model(), name, 1)


def test_a_base_model_is_refused_with_its_chat_sibling(toy_base: ToyCheckpoint) -> None:
    for kind, path in ((ChatAlpacaGGUF, toy_base.gguf), (ChatAlpacaHF, toy_base.hf)):
        with pytest.raises(NotAChatModelError, match="chinese-llama-2-toy"):
            kind(model_path=path)


def test_the_other_format_is_refused_with_the_class_that_reads_it(toy: ToyCheckpoint) -> None:
    with pytest.raises(CheckpointError) as refused:
        ChatAlpacaGGUF(model_path=toy.hf)
    assert "ChatAlpacaHF" in refused.value.hint.en
    with pytest.raises(CheckpointError) as refused:
        ChatAlpacaHF(model_path=toy.gguf)
    assert "ChatAlpacaGGUF" in refused.value.hint.en


@pytest.mark.parametrize("kind", [ChatAlpacaGGUF, ChatAlpacaHF])
def test_a_path_where_nothing_is(kind: type[LocalChat], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing-here"):
        kind(model_path=tmp_path / "nothing-here")


def test_a_file_cut_short_is_refused_at_once(toy: ToyCheckpoint, tmp_path: Path) -> None:
    whole = toy.gguf.read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 5000):
        path = tmp_path / f"chinese-alpaca-2-{length}.gguf"
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            ChatAlpacaGGUF(model_path=path)


def test_a_file_that_llama_cpp_refuses_is_an_error_with_its_reason(toy: ToyCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "chinese-alpaca-2-broken.gguf"
    path.write_bytes(toy.gguf.read_bytes().replace(b"output_norm.weight", b"output_gone.weight"))
    model = ChatAlpacaGGUF(model_path=path)
    with pytest.raises(CheckpointError, match=r"output_norm\.weight"):
        model.invoke("你好")


def test_a_type_of_keys_that_the_heads_do_not_allow_is_an_error_with_its_reason(toy: ToyCheckpoint) -> None:
    with pytest.raises(ModelError, match="q8_0"):
        ChatAlpacaGGUF(model_path=toy.gguf, kv_type="q8_0").invoke("你好")


def copy_of(toy: ToyCheckpoint, folder: Path) -> Path:
    return Path(shutil.copytree(toy.hf, folder / "chinese-alpaca-2-copy"))


def test_pickled_weights_are_refused(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        ChatAlpacaHF(model_path=folder)


def test_tensors_that_are_missing_are_not_filled_with_random_numbers(toy: ToyCheckpoint, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copy_of(toy, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"up_proj"):
        ChatAlpacaHF(model_path=folder, device="cpu").invoke("你好")


def test_an_adapter_beside_the_weights_is_not_loaded(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    with pytest.raises(CheckpointError, match="adapter"):
        ChatAlpacaHF(model_path=folder, device="cpu").invoke("你好")


def test_a_tokenizer_of_another_generation_is_refused(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path)
    (folder / "tokenizer.model").write_bytes(smallest_tokenizer_model())
    with pytest.raises(CheckpointError, match="1024"):
        ChatAlpacaHF(model_path=folder).invoke("你好")


def test_a_folder_with_one_gguf_file_is_that_file(toy: ToyCheckpoint, tmp_path: Path) -> None:
    shutil.copy(toy.gguf, tmp_path / "chinese-alpaca-2-q8_0.gguf")
    model = ChatAlpacaGGUF(model_path=tmp_path, max_tokens=2)
    assert model.invoke("你好").usage_metadata
    model.close()


def test_an_unknown_device_is_named(toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match="warp"):
        ChatAlpacaHF(model_path=toy.hf, device="warp").invoke("你好")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "auto"])
def test_weights_are_held_in_the_type_asked_for(toy: ToyCheckpoint, dtype: str) -> None:
    import torch

    model = ChatAlpacaHF.model_validate({"model_path": toy.hf, "dtype": dtype, "device": "cpu", "max_tokens": 2})
    model.invoke("你好")
    weight = model._backend._model.lm_head.weight  # type: ignore[union-attr]
    assert weight.dtype == {"bfloat16": torch.bfloat16}.get(dtype, torch.float32)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        open_model().invoke("你好")


def test_a_process_ends_cleanly_in_the_middle_of_an_answer(toy: ToyCheckpoint) -> None:
    program = (
        "import threading, time\n"
        "from chinese_alpaca_rag.llms import chat_alpaca\n"
        f"model = chat_alpaca({str(toy.gguf)!r}, max_tokens=3000)\n"
        "stream = model.stream('你好'); next(stream)\n"
        "other = chat_alpaca({path!r}, max_tokens=4000)\n".format(path=str(toy.gguf))
        + "threading.Thread(target=other.invoke, args=('你好',), daemon=True).start()\n"
        "time.sleep(0.1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_loading_writes_nothing_to_the_terminal(toy: ToyCheckpoint) -> None:
    program = (
        "from chinese_alpaca_rag.llms import chat_alpaca\n"
        f"for path in {[str(toy.gguf), str(toy.hf)]!r}: chat_alpaca(path, max_tokens=2).invoke('你好')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr == ""
