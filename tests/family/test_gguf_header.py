from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.gguf_header import _BLOCKS, read_gguf_header
from tests.family.gguf_files import Raw, gguf_bytes, llama_values, text

VALUES = {
    "general.architecture": "llama",
    "a.whole": 7,
    "a.real": 0.5,
    "a.flag": True,
    "a.list": [1, 2, 3],
    "a.words": ["一", "b"],
}


def write(folder: Path, content: bytes) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("version", [2, 3])
def test_values_lists_and_lengths(tmp_path: Path, version: int) -> None:
    header = read_gguf_header(write(tmp_path, gguf_bytes(VALUES, version=version)), arrays=["a.words"])
    assert header.version == version
    assert header.values == {"general.architecture": "llama", "a.whole": 7, "a.real": 0.5, "a.flag": True}
    assert header.arrays == {"a.words": ["一", "b"]}
    assert header.lengths == {"a.list": 3, "a.words": 2}


@pytest.mark.parametrize(
    ("kind", "code", "number"),
    [
        (0, "<B", 255),
        (1, "<b", -1),
        (2, "<H", 65535),
        (3, "<h", -2),
        (5, "<i", -3),
        (10, "<Q", 2**63),
        (11, "<q", -(2**62)),
        (12, "<d", 0.1),
    ],
)
def test_every_type_of_number(tmp_path: Path, kind: int, code: str, number: float) -> None:
    raw = Raw(kind, struct.pack(code, number))
    listed = Raw(9, struct.pack("<IQ", kind, 2) + raw.data * 2)
    header = read_gguf_header(write(tmp_path, gguf_bytes({"one": raw, "two": listed})), arrays=["two"])
    assert header.values["one"] == number
    assert header.arrays["two"] == [number, number]


def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    import numpy as np

    file = tmp_path / "package.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(4096)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_token_list(["a", "▁b"])
    writer.add_tensor("token_embd.weight", np.zeros((4, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf_header(file, arrays=["tokenizer.ggml.tokens"])
    assert header.values["llama.context_length"] == 4096
    assert header.values["llama.rope.scaling.type"] == "yarn"
    assert header.arrays["tokenizer.ggml.tokens"] == ["a", "▁b"]
    assert header.tensor_count == 1
    # A download that stopped one byte early is noticed.
    whole = file.read_bytes()
    short = write(tmp_path, whole[: len(whole) - 1])
    with pytest.raises(CheckpointError, match="cut short"):
        read_gguf_header(short)


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    constants = pytest.importorskip("gguf.constants")
    known = {int(kind): size for kind, size in constants.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in _BLOCKS} == _BLOCKS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "begin"),
        (b"GGUF", "begin"),
        (b"GGML" + bytes(100), "begin"),
        (gguf_bytes(VALUES, version=1), "version 1"),
        (gguf_bytes(VALUES, version=0x03000000), "version"),
        (gguf_bytes(VALUES, keys=2**63), "keys"),
        (gguf_bytes(VALUES, keys=7), "without a name"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0) + bytes(64), "tensors"),
        (gguf_bytes({"a": Raw(99, b"")}), "type 99"),
        (gguf_bytes({"a": Raw(9, struct.pack("<IQ", 9, 1) + bytes(32))}), "type 9"),
        (gguf_bytes({"a": Raw(9, struct.pack("<IQ", 4, 2**62))}), "items"),
        (gguf_bytes({"a": Raw(9, struct.pack("<IQ", 8, 3_000_000))}), "items"),
        (gguf_bytes({"a": Raw(8, struct.pack("<Q", 2**40))}), "bytes"),
        (gguf_bytes({"a": Raw(8, struct.pack("<Q", 2) + b"\xff\xfe")}), "UTF-8"),
        (gguf_bytes({"a": 1})[:24] + text("a") + struct.pack("<I", 4), "bytes"),
        (gguf_bytes({"general.alignment": 0}), "alignment"),
        (gguf_bytes({}, tensors=[("t", (2**40, 2**40), 0, 0)]), "cut short"),
        (gguf_bytes({}, tensors=[("t", (32,), 0, 2**50)], data=bytes(128)), "cut short"),
        (gguf_bytes({}, tensors=[("t", (1,) * 5, 0, 0)], data=bytes(128)), "dimensions"),
    ],
)
def test_hostile_files_are_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=reason) as caught:
            read_gguf_header(write(tmp_path, content), arrays=["a"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert caught.value.hint.zh
    assert caught.value.hint.en


def test_a_key_may_stand_once(tmp_path: Path) -> None:
    pair = text("a") + struct.pack("<II", 4, 1)
    with pytest.raises(CheckpointError, match="twice"):
        read_gguf_header(write(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pair * 2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), cut=st.integers(0, 2000))
def test_damage_is_an_error_or_nothing(tmp_path: Path, edits: list[tuple[int, int]], cut: int) -> None:
    values: dict[str, Any] = llama_values(
        tokenizer__ggml__tokens=["a", "b"], tokenizer__ggml__scores=[0.0, 1.0], tokenizer__ggml__token_type=[1, 1]
    )
    content = bytearray(gguf_bytes(values, tensors=[("t", (64,), 0, 0)], data=bytes(256)))
    for position, byte in edits:
        content[position] = byte
    file = write(tmp_path, bytes(content[: max(0, len(content) - cut)] if cut < 1500 else content))
    tracemalloc.start()
    try:
        read_gguf_header(file, arrays=["tokenizer.ggml.tokens", "tokenizer.ggml.scores"])
    except CheckpointError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.gguf"):
        with pytest.raises(CheckpointError):
            read_gguf_header(path)
