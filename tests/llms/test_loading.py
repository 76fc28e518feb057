"""Opening weights: options, progress, cancelling, and files and options that cannot be meant."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelError, WrongUsageError
from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.llms import torch_devices, transformers_loading
from chinese_alpaca_rag.llms.llama_cpp_loading import library, open_model
from chinese_alpaca_rag.llms.transformers_loading import find_attention, find_dtype, load_transformers
from tests.toy_family import ToyCheckpoint


class Cancelled(Exception):
    pass


def load(folder: Path, **options: Any) -> Any:
    checkpoint = read_checkpoint(folder)
    return load_transformers(checkpoint, plan_rope(checkpoint.card), **{"device": "cpu", **options})


def copy_of(toy: ToyCheckpoint, folder: Path) -> Path:
    return Path(shutil.copytree(toy.hf, folder / "chinese-alpaca-2-copy"))


def with_config(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return folder


# transformers: options.


@pytest.mark.parametrize(("dtype", "held"), [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")])
def test_weights_are_of_the_type_asked_for(dtype: str, held: str, toy: ToyCheckpoint, one_thread: None) -> None:
    model = load(toy.hf, dtype=dtype)
    assert {str(weight.dtype) for weight in model.parameters()} == {f"torch.{held}"}


@pytest.mark.parametrize(("attention", "used"), [("auto", "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")])
def test_attention_is_what_was_asked_for(attention: str, used: str, toy: ToyCheckpoint, one_thread: None) -> None:
    assert load(toy.hf, attention=attention).config._attn_implementation == used


def test_kinds_of_attention_compute_the_same(toy: ToyCheckpoint, one_thread: None) -> None:
    import torch

    ids = torch.tensor([[1, *range(300, 350)]])
    with torch.inference_mode():
        one, other = (load(toy.hf, attention=kind)(ids).logits for kind in ("sdpa", "eager"))
    assert float((one - other).abs().max()) < 1e-3


@pytest.mark.parametrize("device_map", [None, "auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_device_maps_on_a_machine_without_a_gpu(device_map: Any, toy: ToyCheckpoint, one_thread: None) -> None:
    import torch

    model = load(toy.hf, device_map=device_map)
    assert model.device == torch.device("cpu")
    assert model(torch.tensor([[1, 300]])).logits.shape == (1, 2, 1024)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "xpu", "meta", "warp", ""])
def test_devices_that_are_not_there_are_named(device: str, toy: ToyCheckpoint) -> None:
    import torch

    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is one")
    for options in ({"device": device}, {"device_map": {"": device}}):
        with pytest.raises(WrongUsageError, match=f"“{device}”") as refused:
            load(toy.hf, **options)
        assert "cpu" in refused.value.hint.en


@pytest.mark.parametrize("device_map", ["balanced", {}, 3, {"": "disk"}, {"": "auto"}, {1: "cpu"}, {"": True}])
def test_device_maps_that_cannot_be_meant_are_refused(device_map: Any, toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError):
        load(toy.hf, device_map=device_map)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantising_on_a_cpu_is_refused_with_what_to_use(quantization: str, toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match=quantization) as refused:
        load(toy.hf, quantization=quantization)
    assert "GGUF" in refused.value.hint.en


@pytest.mark.parametrize("options", [{"quantization": "2bit"}, {"attention": "hub/kernel"}, {"attention": "flex"}])
def test_options_that_are_unknown_are_refused(options: dict[str, Any], toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match=next(iter(options.values()))):
        load(toy.hf, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_flash_attention_is_refused_on_a_cpu(dtype: str, toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match="FlashAttention-2") as refused:
        load(toy.hf, attention="flash_attention_2", dtype=dtype)
    assert "sdpa" in refused.value.hint.en


def test_what_a_gpu_would_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choices alone: there is no GPU here to load onto."""
    torch, transformers = transformers_loading.libraries()
    gpu, half = torch.device("cuda"), torch.float16
    assert find_attention(torch, transformers, "auto", gpu, half) == "sdpa"
    with pytest.raises(MissingExtraError, match="flash-attn"):
        find_attention(torch, transformers, "flash_attention_2", gpu, half)
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: True)
    assert find_attention(torch, transformers, "auto", gpu, half) == "flash_attention_2"
    assert find_attention(torch, transformers, "auto", gpu, torch.float32) == "sdpa"
    assert find_dtype(torch, "auto", gpu, {"torch_dtype": "bfloat16"}) == torch.bfloat16
    assert find_dtype(torch, "auto", gpu, {"torch_dtype": "__import__"}) == half
    assert find_dtype(torch, "auto", gpu, {"torch_dtype": "bfloat16"}, "8bit") == half
    assert torch_devices.placement(torch, "auto", gpu) == "auto"
    assert torch_devices.placement(torch, None, gpu) == {"": gpu}


def test_quantising_asks_for_bitsandbytes_and_then_for_nf4(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, transformers = transformers_loading.libraries()
    place = {"device": torch.device("cuda"), "device_map": None, "dtype": torch.bfloat16}
    monkeypatch.setattr(transformers_loading, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="bitsandbytes") as missing:
        transformers_loading._quantized(torch, transformers, "4bit", **place)
    assert "[cuda]" in missing.value.hint.en
    monkeypatch.setattr(transformers_loading, "find_spec", lambda name: ModuleSpec(name, None))
    four = transformers_loading._quantized(torch, transformers, "4bit", **place)["quantization_config"]
    assert (four.load_in_4bit, four.bnb_4bit_quant_type) == (True, "nf4")
    assert four.bnb_4bit_compute_dtype == torch.bfloat16
    eight = transformers_loading._quantized(torch, transformers, "8bit", **place)["quantization_config"]
    assert eight.load_in_8bit
    with pytest.raises(WrongUsageError, match="cpu"):
        transformers_loading._quantized(
            torch, transformers, "4bit", **{**place, "device_map": {"": 0, "lm_head": "cpu"}}
        )


# Progress.


@pytest.mark.parametrize("form", ["hf", "gguf"])
def test_progress_rises_from_nought_to_one(form: str, toy: ToyCheckpoint, one_thread: None) -> None:
    told: list[float] = []
    if form == "hf":
        load(toy.hf, on_progress=told.append)
    else:
        library().llama_model_free(open_model(toy.gguf, on_progress=told.append))
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert told == sorted(set(told))
    assert len(told) > (10 if form == "hf" else 2)


def opener(form: str, toy: ToyCheckpoint) -> Callable[..., Any]:
    return (lambda **options: load(toy.hf, **options)) if form == "hf" else lambda **o: open_model(toy.gguf, **o)


@pytest.mark.parametrize("form", ["hf", "gguf"])
@pytest.mark.parametrize("after", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("kind", [Cancelled, ValueError, OSError, KeyboardInterrupt])
def test_what_the_listener_raises_ends_the_loading(
    kind: type[BaseException], after: float, form: str, toy: ToyCheckpoint, one_thread: None
) -> None:
    wanted = kind("enough")
    told: list[float] = []

    def listen(done: float) -> None:
        told.append(done)
        if done >= after:
            raise wanted

    with pytest.raises(kind) as ended:
        opener(form, toy)(on_progress=listen)
    assert ended.value is wanted
    assert [done for done in told if done >= after] == told[-1:]


def test_a_cancelled_loading_leaves_no_model_in_memory(toy: ToyCheckpoint, one_thread: None) -> None:
    import transformers

    def stop(done: float) -> None:
        if done > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled) as kept:
        load(toy.hf, on_progress=stop)
    gc.collect()
    models = [thing for thing in gc.get_objects() if type(thing) is transformers.LlamaForCausalLM]
    assert models == []
    assert kept.value  # still held, as a server would that stores its last error


def test_a_cancelled_gguf_leaves_nothing_in_memory(tmp_path: Path, toy: ToyCheckpoint) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from chinese_alpaca_rag.llms.llama_cpp_loading import open_model\n"
        "def stop(done):\n"
        "    if done > 0: raise KeyError(done)\n"
        "def cancel():\n"
        "    try: open_model(Path(sys.argv[1]), use_mmap=False, on_progress=stop)\n"
        "    except KeyError: return\n"
        "    raise SystemExit('not cancelled')\n"
        "for _ in range(20): cancel()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for _ in range(300): cancel()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    arguments = [sys.executable, "-c", program, str(toy.gguf)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    # Kibibytes. Each of the 300 would leave a file of nearly one mebibyte and its vocabulary.
    assert int(done.stdout) < 30_000


def test_bars_of_other_threads_go_on_and_the_hook_goes_away(toy: ToyCheckpoint, one_thread: None) -> None:
    import transformers

    logging = transformers.utils.logging
    elsewhere: list[list[int]] = []

    def listen(done: float) -> None:
        if done == 0.0:
            other = threading.Thread(target=lambda: elsewhere.append(list(logging.tqdm([1, 2], disable=True))))
            other.start()
            other.join()

    load(toy.hf, on_progress=listen)
    assert elsewhere == [[1, 2]]
    assert logging.set_tqdm_hook(None) is None


def test_two_models_load_at_once_with_each_its_own_progress(toy: ToyCheckpoint, one_thread: None) -> None:
    told: list[list[float]] = [[], [], []]
    threads = [threading.Thread(target=load, args=(toy.hf,), kwargs={"on_progress": mine.append}) for mine in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine[0] == 0.0 and mine[-1] == 1.0 and mine == sorted(mine) and len(mine) > 10 for mine in told)


# transformers: files.


def test_code_in_the_folder_is_not_run(toy: ToyCheckpoint, tmp_path: Path, one_thread: None) -> None:
    checkpoint = read_checkpoint(toy.hf)
    folder = with_config(
        copy_of(toy, tmp_path),
        auto_map={"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"},
        attn_implementation="evil/kernel",
        _attn_implementation="evil/kernel",
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / "generation_config.json").write_text('{"num_beams": 7, "custom_generate": "evil"}')
    model = load_transformers(
        type(checkpoint)(folder, "hf", checkpoint.name, checkpoint.card), plan_rope(checkpoint.card), device="cpu"
    )
    assert model.config._attn_implementation == "sdpa"
    assert model.generation_config.num_beams in (None, 1)
    assert not (tmp_path / "ran").exists()


def loadable(toy: ToyCheckpoint, folder: Path) -> Callable[[], Any]:
    """Loads ``folder`` under the toy's own card, past the checks of its header."""
    known = read_checkpoint(toy.hf)
    return lambda: load_transformers(
        type(known)(folder, "hf", known.name, known.card), plan_rope(known.card), device="cpu"
    )


def test_pickles_are_not_opened(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path)
    (folder / "model.safetensors").unlink()
    ran = tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    with pytest.raises(CheckpointError):
        loadable(toy, folder)()
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("adapter_config.json", "lora_path="), ("shard-00000-model-00000-of-00001.safetensors", "Fetch")],
)
def test_files_that_would_be_read_in_place_of_the_weights_are_refused(
    name: str, hint: str, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    folder = copy_of(toy, tmp_path)
    (folder / name).write_text("{}")
    with pytest.raises(CheckpointError, match=name.split("-", maxsplit=1)[0]) as refused:
        loadable(toy, folder)()
    assert hint in refused.value.hint.en


def test_a_quantised_folder_is_refused(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = with_config(copy_of(toy, tmp_path), quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(CheckpointError, match="quantization_config") as refused:
        loadable(toy, folder)()
    assert "quantization=" in refused.value.hint.en


@pytest.mark.parametrize("length", [0, 5, 300, 40_000, -4])
def test_weights_cut_short_are_an_error(length: int, toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"model\.safetensors|chinese-alpaca-2-copy"):
        loadable(toy, folder)()


@pytest.mark.parametrize("changes", [{"vocab_size": 1000}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}])
def test_weights_that_do_not_fit_the_config_are_an_error(
    changes: dict[str, int], toy: ToyCheckpoint, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError):
        loadable(toy, with_config(copy_of(toy, tmp_path), **changes))()


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("a tensor of another shape"), False),
    ],
)
def test_too_little_memory_is_told_from_damage(
    problem: Exception, kind: bool, toy: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allocations fail where the test says so: filling a machine's memory is no test."""

    def fail(*_arguments: Any) -> None:
        raise problem

    monkeypatch.setattr(transformers_loading, "_read_weights", fail)
    with pytest.raises(ModelError) as raised:
        load(toy.hf)
    assert isinstance(raised.value, CheckpointError) is not kind
    assert ("bfloat16" in raised.value.hint.en) is kind
