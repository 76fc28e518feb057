"""Opening GGUF files: ways of holding them, and files that are damaged or hostile."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError, ModelError, WrongUsageError
from chinese_alpaca_rag.llms.llama_cpp_loading import complaints, library, open_model, set_fields
from tests.family.gguf_files import write_gguf
from tests.toy_family import ToyCheckpoint


@pytest.mark.parametrize("use_mmap", [True, False])
@pytest.mark.parametrize("use_mlock", [True, False])
@pytest.mark.parametrize("n_gpu_layers", [0, -1])
def test_ways_of_holding_a_gguf(use_mmap: bool, use_mlock: bool, n_gpu_layers: int, toy: ToyCheckpoint) -> None:
    model = open_model(toy.gguf, n_gpu_layers=n_gpu_layers, use_mmap=use_mmap, use_mlock=use_mlock)
    assert library().llama_model_n_layer(model) == 2
    library().llama_model_free(model)


def test_without_a_map_the_file_is_read_into_memory(toy: ToyCheckpoint) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from chinese_alpaca_rag.llms.llama_cpp_loading import open_model\n"
        "open_model(Path(sys.argv[1]), use_mmap=sys.argv[2] == 'map')\n"
        "print(sys.argv[1] in Path('/proc/self/maps').read_text())\n"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc here")
    for way, mapped in (("map", "True"), ("read", "False")):
        arguments = [sys.executable, "-c", program, str(toy.gguf), way]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == mapped


@pytest.mark.parametrize("layers", [-2, -(10**6), 2**31, 10**30, True, "all", 1.5])
def test_numbers_of_layers_that_cannot_be_meant(layers: Any, toy: ToyCheckpoint) -> None:
    with pytest.raises(WrongUsageError, match="n_gpu_layers"):
        open_model(toy.gguf, n_gpu_layers=layers)


def test_layers_for_a_gpu_that_llama_cpp_does_not_know_are_refused(toy: ToyCheckpoint) -> None:
    if library().llama_supports_gpu_offload():
        pytest.skip("built with a GPU")
    with pytest.raises(WrongUsageError, match="20") as refused:
        open_model(toy.gguf, n_gpu_layers=20)
    assert "GGML_CUDA" in refused.value.hint.en


def test_paths_in_any_script(toy: ToyCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "模型 é 🦙" / "羊驼 2.gguf"
    path.parent.mkdir()
    shutil.copy(toy.gguf, path)
    library().llama_model_free(open_model(path))


@pytest.mark.parametrize("part", [0.0, 0.00001, 0.01, 0.2, 0.5, 0.999])
def test_a_gguf_cut_short_is_an_error(part: float, toy: ToyCheckpoint, tmp_path: Path) -> None:
    whole = toy.gguf.read_bytes()
    path = tmp_path / "短.gguf"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match="短"):
        open_model(path)


def test_what_llama_cpp_refuses_is_said_in_its_own_words(toy: ToyCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(toy.gguf.read_bytes().replace(b"output_norm.weight", b"output_gone.weight"))
    with pytest.raises(CheckpointError, match=r"llama\.cpp cannot load .*'output_norm\.weight' not found"):
        open_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__block_count": 513},
        {"llama__expert_count": 2},
        {"llama__expert_used_count": 1},
        {"llama__nextn_predict_layers": 9},
        {"llama__attention__head_count_kv": [4, 4]},
        {"llama__rope__scaling__type": "su"},
        {"tokenizer__ggml__model": "rwkv"},
        {"tokenizer__ggml__tokens": ["<unk>", "<s>", "</s>", "a", "a"]},
        {"tokenizer__ggml__tokens": ["<unk>", "<s>", "</s>", "a", "a\0b"]},
        {"tokenizer__ggml__tokens": ["<unk>", "", "[EMPTY_1]"]},
        {"general__architecture": "mamba"},
    ],
    ids=str,
)
def test_headers_at_which_llama_cpp_would_end_the_process_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", **changes)
    with pytest.raises(CheckpointError, match="llama"):
        open_model(path)


def test_what_is_no_gguf_is_an_error(toy: ToyCheckpoint, tmp_path: Path) -> None:
    pickled = tmp_path / "model.gguf"
    pickled.write_bytes(b"\x80\x04cos\nsystem\n" * 100)
    for path in (pickled, tmp_path, toy.hf / "model.safetensors", tmp_path / "nothing.gguf"):
        with pytest.raises(CheckpointError):
            open_model(path)


def test_no_flipped_byte_of_a_header_ends_the_process(toy: ToyCheckpoint, tmp_path: Path) -> None:
    """As on every load, the header is read by our own reader before llama.cpp sees the file."""
    program = (
        "import random, sys\n"
        "from pathlib import Path\n"
        "from chinese_alpaca_rag.errors import CheckpointError\n"
        "from chinese_alpaca_rag.family.checkpoint import read_checkpoint\n"
        "from chinese_alpaca_rag.llms.llama_cpp_loading import library, open_model\n"
        "whole, place = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])\n"
        "chance, opened, refused = random.Random(int(sys.argv[3])), 0, 0\n"
        "table = whole.rindex(b'blk.1.ffn_down.weight') + 100\n"
        "plain = whole.index(b'tokenizer.ggml.tokens')\n"
        "for turn in range(600):\n"
        "    data = bytearray(whole)\n"
        "    first, last = [(0, plain), (table - 1400, table), (0, table)][turn % 3]\n"
        "    for _ in range(1 + turn % 4):\n"
        "        data[chance.randrange(first, last)] = chance.choice([chance.randrange(256), 0, 1, 5, 9])\n"
        "    place.write_bytes(data)\n"
        "    try:\n"
        "        read_checkpoint(place)\n"
        "        library().llama_model_free(open_model(place))\n"
        "        opened += 1\n"
        "    except CheckpointError: refused += 1\n"
        "print(opened, refused)\n"
    )
    arguments = [sys.executable, "-c", program, str(toy.gguf), str(tmp_path / "chinese-alpaca-2-x.gguf"), "11"]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    opened, refused = map(int, done.stdout.split())
    assert opened > 30
    assert refused > 300


def test_fields_that_a_structure_does_not_have_or_hold_are_refused() -> None:
    parameters = library().llama_model_default_params()
    with pytest.raises(ModelError, match="use_mmap"):
        set_fields(parameters, use_mmap=True)
    with pytest.raises(ModelError, match=str(2**40)):
        set_fields(parameters, n_gpu_layers=2**40)


def test_complaints_are_those_of_ones_own_thread(toy: ToyCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(toy.gguf.read_bytes().replace(b"output_norm.weight", b"output_gone.weight"))

    def fail() -> None:
        with pytest.raises(CheckpointError):
            open_model(tmp_path / "bad.gguf")

    complaints.clear()
    other = threading.Thread(target=fail)
    other.start()
    other.join()
    assert list(complaints) == []
    fail()
    assert list(complaints)


def test_the_locked_memory_that_the_system_allows_is_no_reason_to_fail(toy: ToyCheckpoint) -> None:
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, before[1]))
    try:
        library().llama_model_free(open_model(toy.gguf, use_mlock=True))
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
