"""GGUF adapters that llama.cpp would pass over, or end the process at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.adapter import read_adapter
from tests.toy_lora import write_gguf_lora

LARGER = 1100
LLAMA_2 = "meta-llama/Llama-2-7b-hf"


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_LANGUAGE", "en")


def pair(name: str = "model.layers.0.self_attn.v_proj") -> dict[str, tuple[Any, Any]]:
    return {name: (np.ones((2, 64), np.float32), np.ones((64, 2), np.float32))}


@pytest.mark.parametrize(
    "name", ["token_embd.weight", "blk.0.attn_norm.weight", "token_embd.weight.lora_a", "x.lora_a"]
)
def test_gguf_tensors_that_llama_cpp_would_pass_over_are_refused(name: str, tmp_path: Path) -> None:
    more = {name: np.ones((64, 2), np.float32)}
    path = write_gguf_lora(tmp_path / "a.gguf", pair(), alpha=2.0, heads=4, more=more)
    with pytest.raises(CheckpointError, match=name.partition(".")[0]):
        read_adapter(path)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_gguf_adapter_without_a_real_alpha_is_refused(alpha: float, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="alpha"):
        read_adapter(write_gguf_lora(tmp_path / "a.gguf", pair(), alpha=alpha, heads=4))


@pytest.mark.parametrize("write", ["add_float64", "add_string", "add_uint32"])
def test_settings_of_the_wrong_type_never_reach_llama_cpp(write: str, tmp_path: Path) -> None:
    """llama.cpp ends the process at them."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    getattr(writer, write)("adapter.lora.alpha", "8" if write == "add_string" else 8)
    for side, shape in (("a", (2, 64)), ("b", (64, 2))):
        writer.add_tensor(f"blk.0.attn_v.weight.lora_{side}", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="alpha"):
        read_adapter(tmp_path / "a.gguf")


def test_another_kind_of_gguf_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"adapter\.type"):
        read_adapter(write_gguf_lora(tmp_path / "a.gguf", pair(), alpha=2.0, heads=4, kind="control"))
