"""What is refused before weights are opened, and whether the hint of a refusal is true."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import CheckpointError, NotEnoughMemoryError
from chinese_alpaca_rag.family.catalogue import find_model
from chinese_alpaca_rag.family.checkpoint import Checkpoint, read_checkpoint
from chinese_alpaca_rag.family.preflight import Preflight, inspect, predict_released, require_memory
from chinese_alpaca_rag.family.rope import plan_rope
from tests.family.gguf_files import gguf_bytes, llama_values
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import smallest_tokenizer_model, toy_tokenizer_model

PLENTY = 2**40


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_LANGUAGE", "en")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    return build_toy_family(
        tmp_path_factory.mktemp("preflight"), tokenizer_model=toy_tokenizer_model(), window=16384, rope="linear-4"
    )


@pytest.fixture(params=["gguf", "hf"])
def checkpoint(request: pytest.FixtureRequest, toy: ToyCheckpoint) -> Checkpoint:
    return read_checkpoint(getattr(toy, request.param))


def parts(report: Preflight) -> list[str]:
    return [problem.part for problem in report.problems]


def way(checkpoint: Checkpoint, kind: str) -> dict[str, Any]:
    return {"kv_type" if checkpoint.format == "gguf" else "dtype": kind}


def hinted(error: NotEnoughMemoryError) -> list[tuple[int, str]]:
    """The windows and types that the hint proposes."""
    found = re.findall(r"window=(\d+), (?:kv_type|dtype)='(\w+)'", error.hint.en)
    assert found == re.findall(r"window=(\d+), (?:kv_type|dtype)='(\w+)'", error.hint.zh)
    return [(int(window), kind) for window, kind in found]


def test_a_sound_checkpoint_has_no_problem(checkpoint: Checkpoint) -> None:
    report = inspect(checkpoint, available=PLENTY)
    assert report.problems == ()
    assert report.vocabulary == 1024
    assert report.plan is not None
    assert report.plan.window == 16384
    assert not report.in_catalogue
    assert all(fit.fits and fit.largest == 32768 for fit in report.fits)
    needs = [fit.need.kv for fit in report.fits]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)


def test_a_path_is_read(toy: ToyCheckpoint) -> None:
    assert inspect(toy.gguf, available=PLENTY).checkpoint == read_checkpoint(toy.gguf)


def test_a_window_out_of_reach_is_a_problem(checkpoint: Checkpoint) -> None:
    report = inspect(checkpoint, 40_000, available=PLENTY)
    assert parts(report) == ["window"]
    assert report.plan is None
    assert report.fits == ()


def test_beyond_the_trained_window_there_is_a_note(checkpoint: Checkpoint) -> None:
    notes = [note.en for note in inspect(checkpoint, 24576, available=PLENTY).notes]
    assert any("NTK with alpha 2" in note for note in notes)


def test_another_models_tokenizer_is_a_problem(toy: ToyCheckpoint, tmp_path: Path) -> None:
    folder = tmp_path / toy.hf.name
    shutil.copytree(toy.hf, folder)
    (folder / "tokenizer.model").write_bytes(smallest_tokenizer_model())
    report = inspect(folder, available=PLENTY)
    assert parts(report) == ["tokenizer"]
    assert report.vocabulary is None
    assert report.fits, "the memory is predicted all the same"


def test_an_embedding_of_another_size_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "chinese-alpaca-2-toy.gguf"
    tensors = [("token_embd.weight", (64, 500), 0, 0)]
    file.write_bytes(gguf_bytes(llama_values(), tensors=tensors, data=bytes(64 * 500 * 4)))
    report = inspect(file, available=PLENTY)
    assert parts(report) == ["tokenizer"]
    assert "1024 pieces" in report.problems[0].message.en
    assert "500 rows" in report.problems[0].message.en


def test_a_base_model_is_no_problem_but_noted(tmp_path: Path) -> None:
    built = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), kind="base")
    report = inspect(built.gguf, available=PLENTY)
    assert report.problems == ()
    assert any("base model" in note.en for note in report.notes)


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    with pytest.raises(CheckpointError):
        inspect(tmp_path / "m.gguf")


def test_what_there_is_is_asked_of_the_system(checkpoint: Checkpoint) -> None:
    plan = plan_rope(checkpoint.card, 1024)
    assert require_memory(checkpoint, plan).total > 0
    assert inspect(checkpoint, 1024).available


def test_a_refusal_names_both_numbers_and_its_hint_is_true(checkpoint: Checkpoint) -> None:
    plan = plan_rope(checkpoint.card)
    need = require_memory(checkpoint, plan, available=PLENTY).required
    assert require_memory(checkpoint, plan, available=need).required == need
    free = need * 3 // 4
    with pytest.raises(NotEnoughMemoryError) as caught:
        require_memory(checkpoint, plan, available=free)
    message = caught.value.message.en
    assert f"{need / 2**30:.3g} GiB" in message
    assert f"{free / 2**30:.3g} GiB" in message
    assert "16384" in message
    proposed = hinted(caught.value)
    assert proposed
    for window, kind in proposed:
        fitting = plan_rope(checkpoint.card, window)
        assert require_memory(checkpoint, fitting, available=free, **way(checkpoint, kind)).required <= free
        if window < plan.window:
            beyond = plan_rope(checkpoint.card, window + 256)
            with pytest.raises(NotEnoughMemoryError):
                require_memory(checkpoint, beyond, available=free, **way(checkpoint, kind))


def test_a_smaller_type_is_proposed_for_the_whole_window(toy: ToyCheckpoint) -> None:
    checkpoint = read_checkpoint(toy.gguf)
    plan = plan_rope(checkpoint.card)
    free = require_memory(checkpoint, plan, kv_type="q4_0", available=PLENTY).required
    with pytest.raises(NotEnoughMemoryError) as caught:
        require_memory(checkpoint, plan, kv_type="f16", available=free)
    proposed = hinted(caught.value)
    assert (16384, "q4_0") in proposed
    assert proposed[0][1] == "f16"
    assert proposed[0][0] < 16384


def test_where_nothing_fits_the_weights_are_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(NotEnoughMemoryError) as caught:
        require_memory(checkpoint, plan_rope(checkpoint.card), available=1000)
    assert hinted(caught.value) == []
    assert "weights alone" in caught.value.hint.en
    assert "仅权重" in caught.value.hint.zh


def test_too_little_memory_is_reported_not_raised(checkpoint: Checkpoint) -> None:
    report = inspect(checkpoint, available=1000)
    assert parts(report) == ["memory"]
    assert not any(fit.fits or fit.largest for fit in report.fits)


def test_what_goes_to_a_gpu_is_not_asked_of_the_machine(toy: ToyCheckpoint) -> None:
    checkpoint = read_checkpoint(toy.gguf)
    plan = plan_rope(checkpoint.card)
    on_cpu = require_memory(checkpoint, plan, available=PLENTY)
    half = require_memory(checkpoint, plan, available=PLENTY, n_gpu_layers=2)
    moved = require_memory(checkpoint, plan, available=PLENTY, n_gpu_layers=-1)
    assert on_cpu.kv == 2 * half.kv
    assert moved.kv == 0
    assert moved.weights < half.weights < on_cpu.weights


def test_locked_pages_cannot_be_taken_back(toy: ToyCheckpoint) -> None:
    checkpoint = read_checkpoint(toy.gguf)
    need = require_memory(checkpoint, plan_rope(checkpoint.card), available=PLENTY, locked=True)
    assert need.required == need.weights + need.kv + need.work


def test_released_weights_are_counted_from_the_card() -> None:
    fits = {fit.name: fit for fit in predict_released(find_model("chinese-alpaca-2-7b-16k"), available=24 * 2**30)}
    assert fits["f16"].need.weights == pytest.approx(12.9 * 2**30, rel=0.01)
    assert fits["q4_k"].need.weights == pytest.approx(3.9 * 2**30, rel=0.01)
    assert fits["f16"].need.kv == 8 * 2**30
    assert fits["q4_k"].largest == 32768
    assert 16384 <= (fits["f16"].largest or 0) < 32768
