"""Memory that is predicted, against llama.cpp's own account of its buffers and against real processes."""

from __future__ import annotations

import logging
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family import weight_files
from chinese_alpaca_rag.family.catalogue import find_model
from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.memory import (
    BYTES_A_PIECE,
    KV_BYTES,
    KvType,
    available_memory,
    control_group_limits,
    largest_window,
    llama_cpp_need,
    parameters,
    released_weights,
    transformers_need,
)
from chinese_alpaca_rag.family.weight_files import (
    WeightSize,
    gguf_weights,
    processor_features,
    safetensors_weights,
)
from tests.family.gguf_files import gguf_bytes, llama_values
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

NOTHING = WeightSize(held=0, loading=0)
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """In the family's proportions: the feed-forward is more than twice as wide as the rest."""
    return build_toy_family(
        tmp_path_factory.mktemp("memory"),
        tokenizer_model=toy_tokenizer_model(),
        hidden=512,
        heads=8,
        feed_forward=1376,
        dtype="float16",
    )


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the processor can do."""

    def set_to(*names: str) -> None:
        monkeypatch.setattr(weight_files, "processor_features", lambda: frozenset(names))
        weight_files._repacked_types.cache_clear()

    yield set_to
    weight_files._repacked_types.cache_clear()


@pytest.mark.parametrize(
    ("name", "kind", "gib"),
    [
        ("chinese-alpaca-2-7b-16k", "f16", 8.0),
        ("chinese-alpaca-2-7b-16k", "q8_0", 4.25),
        ("chinese-alpaca-2-7b-16k", "q4_0", 2.25),
        ("chinese-alpaca-2-7b-64k", "f16", 32.0),
        ("chinese-alpaca-2-7b-64k", "q4_0", 9.0),
        ("chinese-alpaca-2-13b-16k", "f16", 12.5),
        ("llama-3-chinese-8b-instruct", "f16", 1.0),
    ],
)
def test_keys_and_values_of_the_catalogue(name: str, kind: KvType, gib: float) -> None:
    card = find_model(name)
    assert llama_cpp_need(card, NOTHING, card.window, kind).kv == gib * 2**30


def test_a_context_is_counted_in_steps() -> None:
    card = find_model("chinese-alpaca-2-7b")
    assert llama_cpp_need(card, NOTHING, 1).kv == llama_cpp_need(card, NOTHING, 256).kv
    assert llama_cpp_need(card, NOTHING, 257).kv == llama_cpp_need(card, NOTHING, 512).kv


def test_layers_on_a_gpu_keep_their_keys_there() -> None:
    card = find_model("chinese-alpaca-2-7b")
    whole = llama_cpp_need(card, NOTHING, 4096).kv
    assert llama_cpp_need(card, NOTHING, 4096, first_on_gpu=8).kv == whole // 4
    assert llama_cpp_need(card, NOTHING, 4096, first_on_gpu=card.layers).kv == whole


@pytest.mark.parametrize("kind", list(KV_BYTES))
@pytest.mark.parametrize("window", [512, 4096])
def test_llama_cpp_reserves_what_is_predicted(
    toy: ToyCheckpoint, kind: KvType, window: int, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("llama_cpp")
    from chinese_alpaca_rag.llms import ChatAlpacaGGUF

    with caplog.at_level(logging.DEBUG, logger="chinese_alpaca_rag.llms"):
        model = ChatAlpacaGGUF(model_path=toy.gguf, window=window, kv_type=kind, n_threads=1)
        model.next_token_logits([1, 300])
        model.close()
    said = "\n".join(caplog.messages)

    def buffer(name: str) -> float:
        found = re.findall(rf"{name} buffer size = +([\d.]+) MiB", said)
        return float(found[-1]) * 2**20

    card = read_checkpoint(toy.gguf).card
    need = llama_cpp_need(card, replace(NOTHING, converted=0.0), window, kind, sequences=0)
    assert need.kv == pytest.approx(buffer("KV"), rel=0.01)
    assert need.work - card.vocabulary * BYTES_A_PIECE == pytest.approx(buffer("compute"), rel=0.03)


def tensors_of(kinds: dict[str, int], rows: int = 64) -> tuple[list[tuple[str, tuple[int, ...], int, int]], int]:
    """The list for ``gguf_bytes``, matrices of 64 columns one after another, and the bytes they take."""
    listed: list[tuple[str, tuple[int, ...], int, int]] = []
    offset = 0
    for name, kind in kinds.items():
        listed.append((name, (64, rows), kind, offset))
        offset += 64 * rows // 32 * {F32: 128, F16: 64, Q4_0: 18, Q8_0: 34}[kind]
    return listed, offset


def write(path: Path, kinds: dict[str, int], rows: int = 64) -> Path:
    listed, size = tensors_of(kinds, rows)
    path.write_bytes(gguf_bytes(llama_values(), tensors=listed, data=bytes(size)))
    return path


LAYERED = {
    "token_embd.weight": Q4_0,
    "blk.0.attn_norm.weight": F32,
    "blk.0.ffn_up.weight": Q4_0,
    "blk.1.attn_norm.weight": F32,
    "blk.1.ffn_up.weight": Q4_0,
    "output.weight": Q4_0,
}
Q4, SINGLE = 64 * 64 // 32 * 18, 64 * 64 * 4


def test_matrices_in_another_layout_are_held_twice_where_they_lie_between_others(tmp_path: Path, features: Any) -> None:
    file = write(tmp_path / "m.gguf", LAYERED)
    features("avx2")
    size = gguf_weights(file)
    # Mapped: from the embedding to the last norm. Copied: both ffn_up and the output.
    assert size.held == (Q4 + SINGLE + Q4 + SINGLE) + 3 * Q4
    assert size.droppable == Q4
    assert size.loading == file.stat().st_size + 3 * Q4
    features()
    plain = gguf_weights(file)
    assert (plain.held, plain.droppable) == (4 * Q4 + 2 * SINGLE, 0)


def test_rows_that_do_not_divide_are_left_as_they_are(tmp_path: Path, features: Any) -> None:
    features("avx2")
    file = write(tmp_path / "m.gguf", {"token_embd.weight": F16, "output.weight": Q4_0}, rows=60)
    assert gguf_weights(file).droppable == 0
    assert gguf_weights(file).held == 64 * 60 * 2 + 64 * 60 // 32 * 18


def test_without_mapping_nothing_is_held_twice(tmp_path: Path, features: Any) -> None:
    features("avx2")
    size = gguf_weights(write(tmp_path / "m.gguf", LAYERED), mapped=False)
    assert size.held == 4 * Q4 + 2 * SINGLE
    assert size.droppable == 0
    assert size.loading == size.held + Q4


def test_what_goes_to_a_gpu_is_not_counted(tmp_path: Path, features: Any) -> None:
    features()
    file = write(tmp_path / "m.gguf", LAYERED)
    whole = gguf_weights(file).held
    assert gguf_weights(file, first_on_gpu=2).held == whole - Q4, "the output goes first"
    assert gguf_weights(file, first_on_gpu=1).held == Q4 + SINGLE + Q4
    assert gguf_weights(file, first_on_gpu=0).held == Q4, "the embedding stays"


def test_all_parts_of_a_split_model_are_counted(tmp_path: Path, features: Any) -> None:
    features()
    first = write(tmp_path / "m-00001-of-00002.gguf", {"token_embd.weight": F16})
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002\.gguf is missing"):
        gguf_weights(first)
    write(tmp_path / "m-00002-of-00002.gguf", {"blk.0.ffn_up.weight": F32, "output.weight": Q8_0})
    assert gguf_weights(first).held == 64 * 64 * (2 + 4) + 64 * 64 // 32 * 34


def test_a_folder_that_keeps_its_type_is_mapped_and_one_that_does_not_stands_twice(toy: ToyCheckpoint) -> None:
    count = parameters(read_checkpoint(toy.hf).card)
    same = safetensors_weights(toy.hf, "float16")
    assert (same.held, same.loading) == (2 * count, 2 * count)
    wider = safetensors_weights(toy.hf, "float32")
    assert (wider.held, wider.loading) == (4 * count, 6 * count)
    other = safetensors_weights(toy.hf, "bfloat16")
    assert (other.held, other.loading) == (2 * count, 4 * count)
    quarter = safetensors_weights(toy.hf, "bfloat16", quantization="4bit")
    assert quarter.held < same.held


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 7, struct.pack("<Q", 2**62), struct.pack("<Q", 4) + b"[1]x", struct.pack("<Q", 9) + b'{"w": {}}'],
)
def test_a_damaged_head_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError):
        safetensors_weights(tmp_path, "float32")


def test_rows_side_by_side_need_a_window_each() -> None:
    card = find_model("chinese-alpaca-2-7b")
    one = transformers_need(card, NOTHING, 4096, "bfloat16")
    four = transformers_need(card, NOTHING, 4096, "bfloat16", sequences=4)
    assert one.kv == 2**31
    assert four.kv == 4 * one.kv


@pytest.mark.parametrize(("name", "billions"), [("chinese-alpaca-2-7b", 6.93), ("chinese-alpaca-2-13b", 13.25)])
def test_parameters_are_counted_from_the_card(name: str, billions: float) -> None:
    assert parameters(find_model(name)) / 1e9 == pytest.approx(billions, abs=0.01)


@given(available=st.integers(0, 2**36), limit=st.integers(1, 70_000))
def test_the_largest_window_is_the_largest_that_fits(available: int, limit: int) -> None:
    card = find_model("chinese-alpaca-2-7b-16k")

    def need(window: int) -> int:
        return llama_cpp_need(card, released_weights(card, 0.6), window).required

    found = largest_window(lambda window: llama_cpp_need(card, released_weights(card, 0.6), window), available, limit)
    if found is None:
        assert need(min(256, limit)) > available
    else:
        assert need(found) <= available
        assert found == limit or need(min(limit, found + 256)) > available


def test_the_process_grows_as_predicted(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    from benchmarks.llms_memory import Case, Models, Shape, growth, predict

    case = Case("gguf", Shape(4, 512, 8, 1376), "float16", 4096, "f16")
    models = Models(tmp_path)
    path = models.path(case)
    assert growth(case, path, models.tiny(case), threads=1) == pytest.approx(predict(case, path), rel=0.08)


def test_this_machine_tells_what_it_has() -> None:
    free = available_memory()
    assert free is not None
    assert 1_000_000 < free < 2**50
    assert isinstance(processor_features(), frozenset)


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n", encoding="ascii")


def limits(tmp_path: Path, membership: str) -> list[int]:
    (tmp_path / "cgroup").write_text(membership, encoding="utf-8")
    return control_group_limits(tmp_path / "root", tmp_path / "cgroup")


def test_limits_of_version_2_count_at_every_level(tmp_path: Path) -> None:
    root = tmp_path / "root"
    group(root / "slice" / "unit", memory__max="max", memory__current=5)
    group(root / "slice", memory__max=1000, memory__current=400, memory__stat="anon 300\ninactive_file 100")
    assert limits(tmp_path, "0::/slice/unit\n") == [700]
    group(root / "slice" / "unit", memory__max=90, memory__current=100)
    assert limits(tmp_path, "0::/slice/unit\n") == [0, 700]


def test_limits_of_version_1(tmp_path: Path) -> None:
    root = tmp_path / "root"
    group(root / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=4096)
    group(
        root / "memory" / "job",
        memory__limit_in_bytes=500,
        memory__usage_in_bytes=200,
        memory__stat="total_inactive_file 50",
    )
    assert limits(tmp_path, "7:blkio:/\n4:memory:/job\n0::/\n") == [350, 2**63 - 8192]


def test_a_container_sees_its_own_limit_at_the_root(tmp_path: Path) -> None:
    group(tmp_path / "root", memory__max=800, memory__current=300)
    assert limits(tmp_path, "0::/docker/0123456789\n") == [500]


@pytest.mark.parametrize("membership", ["", "rubbish\n", "0::/../../..\n", "4:memory\n"])
def test_no_limit_is_no_error(tmp_path: Path, membership: str) -> None:
    (tmp_path / "root").mkdir()
    assert limits(tmp_path, membership) == []
    assert control_group_limits(tmp_path / "nowhere", tmp_path / "nothing") == []
