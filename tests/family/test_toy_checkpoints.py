"""The toy of the third generation, and toys that favour some pieces: the stock readers agree on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from tests.toy_byte_pair import toy_byte_pair
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

IDS = np.random.default_rng(0).integers(3, 750, 96).tolist()
Logits = npt.NDArray[np.float32]

# llama-cpp-python's logger stumbles over half a character in what llama.cpp reports of its vocabulary.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def hf_logits(checkpoint: ToyCheckpoint) -> Logits:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.hf, dtype=torch.float32)
    with torch.no_grad():
        logits: Logits = model(torch.tensor([IDS])).logits[0].numpy()
    return logits


def gguf_logits(checkpoint: ToyCheckpoint) -> Logits:
    llama_cpp = pytest.importorskip("llama_cpp")
    llama = llama_cpp.Llama(
        str(checkpoint.gguf), n_ctx=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    llama.eval(IDS)
    logits: Logits = np.array(llama.scores[: len(IDS)])
    llama.close()
    return logits


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    folder = tmp_path_factory.mktemp("third")
    return build_toy_family(folder, byte_pair=toy_byte_pair(), kv_heads=2, window=8192)


@pytest.mark.parametrize(("kind", "template"), [("chat", "llama-3"), ("base", None)])
def test_both_formats_are_read_as_the_same_model(kind: Any, template: str | None, tmp_path: Path) -> None:
    checkpoint = build_toy_family(tmp_path, byte_pair=toy_byte_pair(), kv_heads=2, window=8192, kind=kind, layers=1)
    cards = [read_checkpoint(path).card for path in (checkpoint.gguf, checkpoint.hf)]
    assert cards[0] == cards[1]
    assert (cards[0].generation, cards[0].kind, cards[0].template) == (3, kind, template)
    assert (cards[0].theta, cards[0].kv_heads, cards[0].window) == (500000.0, 2, 8192)


def test_both_backends_agree_on_the_third_generation(third: ToyCheckpoint) -> None:
    one, other = hf_logits(third), gguf_logits(third)
    assert one.std() > 0.9
    np.testing.assert_allclose(one, other, atol=0.02)  # llama.cpp holds keys and values in half precision here


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-pair"])
def test_favoured_pieces_are_likelier_everywhere(kind: str, tmp_path: Path) -> None:
    vocabulary: dict[str, Any] = (
        {"byte_pair": toy_byte_pair()} if kind == "byte-pair" else {"tokenizer_model": toy_tokenizer_model()}
    )
    plain = build_toy_family(tmp_path / "plain", **vocabulary)
    favouring = build_toy_family(tmp_path / "favouring", **vocabulary, favoured={"{": 9.0, "}": -9.0})
    # Nothing else is drawn otherwise.
    weights, changed = (load_file(files.hf / "model.safetensors") for files in (plain, favouring))
    for name, tensor in weights.items():
        inner = tensor[:-1] if tensor.ndim == 1 else tensor[:-1, :-1]
        assert np.array_equal(inner, changed[name][:-1] if tensor.ndim == 1 else changed[name][:-1, :-1])
    one, other = hf_logits(favouring), gguf_logits(favouring)
    np.testing.assert_allclose(one, other, atol=0.02)
    order = one.argsort(axis=-1)
    chosen, shunned = order[:, -1], order[:, 0]
    assert len(set(chosen)) == len(set(shunned)) == 1
    assert len(set(hf_logits(plain).argmax(axis=-1))) > 20
