from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from chinese_alpaca_rag.errors import CheckpointError, ModelError, ModelNotFoundError, WrongUsageError
from chinese_alpaca_rag.retrieval import LocalEmbeddings
from chinese_alpaca_rag.retrieval.embeddings import batches, instruction_of
from tests.retrieval.toy_embedder import write_embedder

pytest.importorskip("sentence_transformers", reason="needs the dense extra")
pytest.importorskip("onnx", reason="needs the dense extra")

import numpy as np

TEXTS = ["年假有几天？", "员工每年享受十五日带薪年假。", "出差住宿标准上限 500 元", "annual leave", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedder(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["float32", "int8"])
def embeddings(request: pytest.FixtureRequest, folder: Path, cache: Path) -> LocalEmbeddings:
    return LocalEmbeddings(folder, precision=request.param, device="cpu", cache_folder=cache)


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[LocalEmbeddings]:
        return LocalEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"folder": "/models/bge-small-zh-v1.5"}


class TestStandard(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path, cache: Path) -> None:
        type(self).parameters = {"folder": folder, "precision": "int8", "cache_folder": cache}

    parameters: dict[str, Any]

    @property
    def embeddings_class(self) -> type[LocalEmbeddings]:
        return LocalEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return self.parameters


def test_vectors_are_those_of_sentence_transformers(folder: Path, embeddings: LocalEmbeddings) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    found = embeddings.vectors(TEXTS)
    assert found.shape == expected.shape
    least = 0.9999 if embeddings.precision == "float32" else 0.98
    assert (found * expected).sum(axis=1).min() > least


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("mean", False), ("cls", False)])
def test_other_poolings(tmp_path: Path, pooling: str, normalize: bool) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_embedder(tmp_path / "toy", pooling=pooling, normalize=normalize)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    for precision, tolerance in (("float32", 1e-4), ("int8", 0.2)):
        found = LocalEmbeddings(folder, precision=precision, device="cpu").vectors(TEXTS)  # type: ignore[arg-type]
        assert np.linalg.norm(found - expected, axis=1).max() < tolerance * np.linalg.norm(expected, axis=1).max()


def test_a_long_text_is_read_to_its_end(embeddings: LocalEmbeddings) -> None:
    beginning = "年假有几天" * 30
    one, two, same = embeddings.vectors([beginning, beginning + "合同签订" * 30, beginning])
    assert np.allclose(one, same, atol=1e-5)
    assert float(one @ two) < 0.999
    assert abs(float(np.linalg.norm(two)) - 1) < 1e-5


def test_order_and_company_make_no_difference(embeddings: LocalEmbeddings) -> None:
    together = embeddings.vectors(TEXTS)
    alone = np.concatenate([embeddings.vectors([text]) for text in TEXTS])
    backwards = embeddings.vectors(TEXTS[::-1])[::-1]
    # Integers are chosen by the range of what is read together.
    least = 0.9999 if embeddings.precision == "float32" else 0.98
    assert (together * alone).sum(axis=1).min() > least
    assert (together * backwards).sum(axis=1).min() > least


def test_the_instruction_stands_before_queries_only(folder: Path) -> None:
    plain = LocalEmbeddings(folder, device="cpu")
    told = LocalEmbeddings(folder, device="cpu", query_instruction="合同：")
    assert told.embed_documents(["年假"]) == plain.embed_documents(["年假"])
    assert told.embed_query("年假") == pytest.approx(plain.embed_query("合同：年假"), abs=1e-6)


def test_instructions_by_name_and_by_file(tmp_path: Path) -> None:
    for name, expected in (
        ("bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章："),
        ("BAAI_bge-large-en", "Represent this sentence for searching relevant passages: "),
        ("bge-m3", ""),
        ("other", ""),
    ):
        assert instruction_of(tmp_path / name) == expected
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    assert instruction_of(tmp_path) == "query: "
    (tmp_path / "config_sentence_transformers.json").write_text("[1]")
    assert instruction_of(tmp_path) == ""


def test_what_was_converted_is_kept_and_checked(folder: Path, tmp_path: Path) -> None:
    first = LocalEmbeddings(folder, precision="int8", cache_folder=tmp_path)
    vectors = first.vectors(TEXTS)
    [kept] = tmp_path.iterdir()
    model = kept / "model.onnx"
    written = model.stat().st_mtime_ns
    assert np.array_equal(LocalEmbeddings(folder, precision="int8", cache_folder=tmp_path).vectors(TEXTS), vectors)
    assert model.stat().st_mtime_ns == written
    content = model.read_bytes()
    model.write_bytes(content[:-9] + b"another..")
    assert np.array_equal(LocalEmbeddings(folder, precision="int8", cache_folder=tmp_path).vectors(TEXTS), vectors)
    assert model.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [kept.name]


def test_the_kept_model_needs_no_torch(folder: Path, cache: Path) -> None:
    LocalEmbeddings(folder, precision="int8", cache_folder=cache).embed_query("年假")
    program = (
        "import sys; from chinese_alpaca_rag.retrieval import LocalEmbeddings;"
        f"LocalEmbeddings({str(folder)!r}, precision='int8', cache_folder={str(cache)!r}).embed_query('年假');"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_fingerprints(folder: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(folder, same)
    assert LocalEmbeddings(same).fingerprint == LocalEmbeddings(folder, precision="int8").fingerprint
    other = write_embedder(tmp_path / "other", seed=1)
    assert LocalEmbeddings(other).fingerprint != LocalEmbeddings(folder).fingerprint
    assert LocalEmbeddings(folder, passage_instruction="文：").fingerprint != LocalEmbeddings(folder).fingerprint


def test_many_threads(embeddings: LocalEmbeddings) -> None:
    expected = embeddings.embed_query("年假有几天")
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(embeddings.embed_query, ["年假有几天"] * 20))


def test_progress_and_nothing_to_do(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    embeddings = LocalEmbeddings(folder, device="cpu", on_progress=lambda *both: seen.append(both))
    embeddings.embed_documents(["年假有几天公司员工每享受" * 5] * 40)
    assert seen[-1] == (40, 40)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert embeddings.embed_documents([]) == []


def test_text_that_is_no_unicode(embeddings: LocalEmbeddings) -> None:
    assert np.isfinite(embeddings.vectors(["\ud800年假", "\x00", "😀" * 200])).all()


def test_wrong_uses(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="bge-small-zh"):
        LocalEmbeddings(tmp_path / "none").embed_query("年假")
    with pytest.raises(WrongUsageError, match="int8"):
        LocalEmbeddings(folder, precision="int4")  # type: ignore[arg-type]
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(CheckpointError, match="safetensors"):
        LocalEmbeddings(tmp_path).embed_query("年假")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "model.safetensors").write_bytes(b"damaged")
    for precision in ("float32", "int8"):
        with pytest.raises((CheckpointError, ModelError)):
            LocalEmbeddings(damaged, precision=precision).embed_query("年假")


@given(st.lists(st.integers(1, 90), max_size=60), st.integers(1, 300))
def test_batches_hold_every_row_once_and_no_more_than_fits(lengths: list[int], most: int) -> None:
    rows = [(number, [0] * length) for number, length in enumerate(lengths)]
    made = batches(rows, most)
    assert sorted(number for batch in made for number, _ in batch) == list(range(len(lengths)))
    for batch in made:
        longest = max(len(row) for _, row in batch)
        assert len(batch) == 1 or longest * len(batch) <= most
