"""``doctor``: what works, what is missing, and an exit code that says whether something needed is broken."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from chinese_alpaca_rag.cli import model_checks
from chinese_alpaca_rag.cli.packages import EXTRAS, REQUIRED
from chinese_alpaca_rag.family import memory, preflight
from chinese_alpaca_rag.family.catalogue import find_model
from tests.cli.conftest import ROOT, Alpaca, Done
from tests.family.hf_folders import config_of, write_hf
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model


def state(done: Done, name: str) -> str:
    return check(done, name)["state"]


def check(done: Done, name: str) -> dict[str, str]:
    found: dict[str, str] = next(check for check in done.document["checks"] if check["name"] == name)
    return found


def test_the_packages_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        found = {re.split(r"[\[<>=!~ ;]", requirement)[0] for requirement in requirements}
        return found - {"chinese-alpaca-rag"}  # an extra that stands on another

    assert set(REQUIRED) == names(project["dependencies"])
    extras = {extra: names(each) for extra, each in project["optional-dependencies"].items() if extra != "all"}
    assert {extra: set(packages) for extra, packages in EXTRAS.items()} == extras


def test_everything_needed_works_here(alpaca: Alpaca, library: Path) -> None:
    done = alpaca("doctor", "--library", library, "--json")
    assert done.code == 0
    assert done.document["ok"] is True
    assert "problem" not in {each["state"] for each in done.document["checks"]}
    assert "2 files · 3 passages" in check(done, "library")["detail"]
    assert state(done, "sqlite") == state(done, "packages") == state(done, "offline") == "ok"


@pytest.mark.parametrize(
    ("language", "words"), [("zh", ["知识库", "一切可用。"]), ("en", ["library", "Everything needed works."])]
)
def test_a_person_reads_marks_and_hints(alpaca: Alpaca, language: str, words: list[str]) -> None:
    done = alpaca("doctor", language=language)
    assert done.code == 0, "no library yet is no fault"
    assert "✓" in done.out
    assert "alpaca-rag ingest" in done.out
    assert all(word in done.out for word in words)


def test_a_missing_extra_is_a_hint_and_a_missing_package_a_problem(
    alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = metadata.version

    def without(*missing: str) -> None:
        def version(name: str) -> str:
            if name in missing:
                raise metadata.PackageNotFoundError(name)
            return installed(name)

        monkeypatch.setattr(metadata, "version", version)

    without("llama-cpp-python")
    done = alpaca("doctor", "--json")
    assert (done.code, state(done, "extra-gguf")) == (0, "hint")
    assert "pip install 'chinese-alpaca-rag[gguf]'" in check(done, "extra-gguf")["hint"]
    without("selectolax")
    done = alpaca("doctor", "--json")
    assert (done.code, done.document["ok"], state(done, "packages")) == (1, False, "problem")


def test_a_broken_library_is_a_problem(alpaca: Alpaca, library: Path) -> None:
    (library / "library.sqlite3").write_bytes(b"SQLite format 3\0" + b"rubbish" * 400)
    done = alpaca("doctor", "--library", library, "--json")
    assert (done.code, state(done, "library")) == (1, "problem")
    assert check(done, "library")["hint"]


def model_states(done: Done) -> dict[str, str]:
    return {each["name"]: each["state"] for each in done.document["checks"] if each["name"].startswith("model")}


def test_a_model_is_looked_at_without_being_loaded(alpaca: Alpaca, toys: ToyCheckpoint) -> None:
    for path in (toys.gguf, toys.hf):
        done = alpaca("doctor", "--model", path, "--window", "1K", "--json")
        assert done.code == 0
        states = model_states(done)
        del states["models"]
        assert states == {
            "model": "hint",
            "model-kind": "ok",
            "model-tokenizer": "ok",
            "model-window": "ok",
            "model-memory": "ok",
        }
        assert "not in the catalogue" in check(done, "model")["detail"]
        assert "template alpaca-2" in check(done, "model-kind")["detail"]
        assert "1,024 pieces" in check(done, "model-tokenizer")["detail"]
        assert "1,024 tokens" in check(done, "model-window")["detail"]
        assert "1,024 tokens" in check(done, "model-memory")["detail"]


def test_every_kv_type_is_predicted(alpaca: Alpaca, toys: ToyCheckpoint) -> None:
    detail = check(alpaca("doctor", "--model", toys.gguf, "--json"), "model-memory")["detail"]
    for words in ("f16: weights", "q8_0", "q4_0", "longest windows that fit", "18,432"):
        assert words in detail
    for language, words in (("zh", "所需内存"), ("en", "memory needed")):
        assert words in alpaca("doctor", "--model", toys.gguf, language=language).out


def test_a_model_of_the_catalogue_is_named(alpaca: Alpaca, tmp_path: Path) -> None:
    folder = write_hf(tmp_path / "chinese-alpaca-2-7b-16k", config_of(find_model("chinese-alpaca-2-7b-16k")))
    done = alpaca("doctor", "--model", folder, "--json")
    assert state(done, "model") == "ok"
    assert "chinese-alpaca-2-7b-16k" in check(done, "model")["detail"]
    assert "linear ×4" in check(done, "model-window")["detail"]
    assert (done.code, state(done, "model-tokenizer")) == (1, "problem"), "the toy's tokenizer is not the 7B's"


def test_a_window_out_of_reach_is_a_problem(alpaca: Alpaca, toys: ToyCheckpoint) -> None:
    done = alpaca("doctor", "--model", toys.gguf, "--window", "64K", "--json")
    assert (done.code, state(done, "model-window")) == (1, "problem")
    assert "--window 18432" in check(done, "model-window")["hint"]


def test_a_base_model_is_pointed_out(alpaca: Alpaca, tmp_path: Path) -> None:
    base = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), kind="base")
    done = alpaca("doctor", "--model", base.gguf, "--json")
    assert (done.code, state(done, "model-kind")) == (0, "hint")
    assert "chat model" in check(done, "model-kind")["hint"]


def test_a_model_that_is_not_here_is_predicted_from_its_card(alpaca: Alpaca) -> None:
    done = alpaca("doctor", "--model", "chinese-alpaca-2-7b-16k", "--json")
    assert (done.code, state(done, "model")) == (1, "problem")
    assert "hf download" in check(done, "model")["hint"]
    assert "16,384 tokens" in check(done, "model-memory")["detail"]
    assert "q4_k 12 GiB" in check(done, "model-memory")["detail"]


def test_a_model_that_cannot_be_opened_is_a_problem(alpaca: Alpaca, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    for model in (tmp_path / "broken.gguf", "chinese-alpaca-2-7b", "no-such-model", "chinese-llama-2-7b"):
        done = alpaca("doctor", "--model", model, "--json")
        assert (done.code, state(done, "model")) == (1, "problem"), model
        assert check(done, "model")["hint"]


def test_a_model_without_its_package_is_a_problem(
    alpaca: Alpaca, toys: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        model_checks, "installed", lambda packages: ([], [*packages]) if "torch" in packages else ([], [])
    )
    done = alpaca("doctor", "--model", toys.hf, "--json")
    assert (done.code, state(done, "model")) == (1, "problem")
    assert "chinese-alpaca-rag[hf]" in check(done, "model")["hint"]


def test_too_little_memory_is_a_problem(alpaca: Alpaca, toys: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks, "_has_gpu", lambda: False)
    monkeypatch.setattr(preflight, "available_memory", lambda: 4_000_000)
    done = alpaca("doctor", "--model", toys.gguf, "--json")
    assert (done.code, state(done, "model-memory")) == (1, "problem")
    assert "0.00373 GiB are available" in check(done, "model-memory")["detail"]
    assert re.search(r"window=\d+, kv_type='q4_0'", check(done, "model-memory")["hint"])
    monkeypatch.setattr(model_checks, "_has_gpu", lambda: True)
    assert state(alpaca("doctor", "--model", toys.gguf, "--json"), "model-memory") == "hint"


def test_tracing_that_is_allowed_is_pointed_out(alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_ALLOW_TRACING", "1")
    assert state(alpaca("doctor", "--json"), "offline") == "hint"


def test_models_of_the_folder_are_named(alpaca: Alpaca, toys: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPACA_RAG_MODELS", str(toys.gguf.parent))
    detail = check(alpaca("doctor", "--json"), "models")["detail"]
    assert toys.gguf.name in detail
    assert toys.hf.name in detail


def test_the_prompt_cache_is_told_of(alpaca: Alpaca, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(alpaca("doctor", "--json"), "cache")
    assert found["state"] == "ok"
    assert found["detail"] == f"{own_home}/.cache/chinese-alpaca-rag/prefixes · 0 B of at most 20 GiB"
    assert "提示词缓存" in alpaca("doctor", language="zh").out
    alpaca("cache", "limit", "0")
    assert "limit 0" in check(alpaca("doctor", "--json"), "cache")["detail"]
    assert "--no-cache" in check(alpaca("doctor", "--no-cache", "--json"), "cache")["detail"]
    monkeypatch.setenv("ALPACA_RAG_PREFIXES", "off")
    assert "not in use (ALPACA_RAG_PREFIXES)" in check(alpaca("doctor", "--json"), "cache")["detail"]


def test_a_prompt_cache_that_cannot_be_used_is_a_hint(
    alpaca: Alpaca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/prefixes").touch()
    for cache in (tmp_path / "cache", tmp_path / "file", tmp_path / "file/deeper"):
        monkeypatch.setenv("ALPACA_RAG_CACHE", str(cache))
        done = alpaca("doctor", "--json")
        assert (done.code, state(done, "cache")) == (0, "hint"), cache
        assert str(cache / "prefixes") in check(done, "cache")["detail"]
        assert "ALPACA_RAG_CACHE" in check(done, "cache")["hint"]


def test_nothing_heavy_is_imported(toys: ToyCheckpoint) -> None:
    program = (
        "import sys; sys.argv = ['alpaca-rag', 'doctor', '--json', '--model', sys.argv[1]]\n"
        "from chinese_alpaca_rag.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'llama_cpp', 'unstructured', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(toys.gguf)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr.strip() == "[]"


def test_memory_is_known_on_this_machine() -> None:
    free = memory.available_memory()
    assert free is not None
    assert 1_000_000 < free < 2**50
