"""Embedding models and cross-encoders that the settings name, from ``ingest`` to ``ask``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.library.vectors import PassageVectors
from tests.cli.conftest import Alpaca

pytest.importorskip("sentence_transformers", reason="needs the dense extra")
pytest.importorskip("onnx", reason="needs the dense extra")

from tests.retrieval.toy_cross_encoder import write_cross_encoder
from tests.retrieval.toy_embedder import write_embedder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedder(tmp_path_factory.mktemp("models") / "embedder", most=128)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "cross-encoder"
    write_cross_encoder(folder)
    return folder


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "文档"
    folder.mkdir()
    (folder / "年假.txt").write_text("正式员工每年享有十五天带薪年假。", encoding="utf-8")
    (folder / "差旅.txt").write_text("出差住宿每晚不超过五百元。", encoding="utf-8")
    return folder


def vectors_kept() -> int:
    with Library.open(Path(os.environ["HOME"]) / ".local/share/chinese-alpaca-rag/library", readonly=True) as library:
        [embedder] = PassageVectors(library).embedders()
        return len(PassageVectors(library).read(embedder)[0])


def test_ingest_makes_vectors_and_search_uses_them(
    alpaca: Alpaca, documents: Path, embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alpaca("ingest", documents / "差旅.txt").code == 0
    monkeypatch.setenv("ALPACA_RAG_EMBEDDING", str(embedder))
    done = alpaca("search", "年假")
    assert done.code == 0
    assert "1 passage without vectors" in done.err
    assert "Vectors made of 2 passages" in alpaca("ingest", documents).err
    assert "Vectors made" not in alpaca("ingest", documents).err
    assert vectors_kept() == 2
    found = alpaca("search", "年假", "--json").document["passages"]
    assert Path(found[0]["source"]).name == "年假.txt"
    assert len(found) == 2  # vectors find something alike to anything
    done = alpaca("ask", "年假有几天？", "--json")
    assert "十五天" in done.document["answer"]
    assert done.err == ""
    (documents / "年假.txt").unlink()
    assert alpaca("ingest", documents, "--prune").code == 0
    assert vectors_kept() == 1


def test_a_part_of_the_library_stays_one(
    alpaca: Alpaca, documents: Path, embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_RAG_EMBEDDING", str(embedder))
    assert alpaca("ingest", documents).code == 0
    found = alpaca("search", "年假", "--in", documents / "差旅.txt", "--json").document["passages"]
    assert [Path(one["source"]).name for one in found] == ["差旅.txt"]


def test_a_cross_encoder_ranks_again(
    alpaca: Alpaca, documents: Path, cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alpaca("ingest", documents).code == 0
    plain = alpaca("search", "年假 住宿", "--json").document["passages"]
    monkeypatch.setenv("ALPACA_RAG_RERANKER", str(cross_encoder))
    ranked = alpaca("search", "年假 住宿", "--json").document["passages"]
    assert {one["source"] for one in ranked} == {one["source"] for one in plain}
    assert [one["score"] for one in ranked] == sorted((one["score"] for one in ranked), reverse=True)
    assert [one["score"] for one in ranked] != [one["score"] for one in plain]
    assert alpaca("ask", "年假有几天？", "--json").code == 0


def test_evaluation_measures_what_is_used(
    alpaca: Alpaca, documents: Path, embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "年假有几天？", "source": "年假.txt"}\n', encoding="utf-8")
    monkeypatch.setenv("ALPACA_RAG_EMBEDDING", str(embedder))
    assert alpaca("ingest", documents).code == 0
    assert alpaca("evaluate", "retrieval", questions, "--json").code == 0


@pytest.mark.parametrize("name", ["ALPACA_RAG_EMBEDDING", "ALPACA_RAG_RERANKER"])
def test_wrong_folders(
    alpaca: Alpaca, documents: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alpaca("ingest", documents).code == 0
    monkeypatch.setenv(name, str(tmp_path / "none"))
    done = alpaca("ask", "年假有几天？", "--json")
    assert (done.code, done.error["type"]) == (1, "ModelNotFoundError")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(name, str(tmp_path / "empty"))
    assert alpaca("search", "年假", "--json").error["type"] == "CheckpointError"
    monkeypatch.setenv(name, "none")
    assert alpaca("ask", "年假有几天？").code == 0


def test_a_wrong_model_is_told_before_anything_is_read(
    alpaca: Alpaca, documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_RAG_EMBEDDING", str(tmp_path / "none"))
    assert alpaca("ingest", documents, "--json").error["type"] == "ModelNotFoundError"
    monkeypatch.delenv("ALPACA_RAG_EMBEDDING")
    assert alpaca("search", "年假", "--json").error["type"] == "LibraryNotFoundError"


def test_the_doctor_looks_at_them(
    alpaca: Alpaca, embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_RAG_EMBEDDING", str(embedder))
    monkeypatch.setenv("ALPACA_RAG_RERANKER", str(tmp_path / "none"))
    states = {one["name"]: one["state"] for one in alpaca("doctor", "--json").document["checks"]}
    assert (states["embedding"], states["reranker"]) == ("ok", "problem")
