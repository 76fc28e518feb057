from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from chinese_alpaca_rag.errors import (
    EmbeddingChangedError,
    VectorStoreChangedError,
    VectorStoreDamagedError,
    VectorStoreError,
    VectorStoreNotFoundError,
    WrongUsageError,
)
from chinese_alpaca_rag.retrieval import FaissStore
from chinese_alpaca_rag.retrieval.vector_index import VectorIndex
from tests.retrieval.character_embeddings import CharacterEmbeddings

pytest.importorskip("faiss", reason="needs the dense extra")

TEXTS = ["年假有十五天。", "住宿每晚五百元。", "九点上班。", "午休一小时。"]


class TestFaissStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return FaissStore(self.get_embeddings())


class TestFaissStoreOfGraphs(VectorStoreIntegrationTests):
    """LangChain's own tests, with a graph from the first document on."""

    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return FaissStore(self.get_embeddings(), exact_up_to=0)


@pytest.fixture
def store() -> FaissStore:
    return FaissStore.from_texts(
        TEXTS,
        CharacterEmbeddings(),
        [{"source": f"/{number}", "page": number % 2} for number in range(4)],
        ids=list("abcd"),
    )


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_the_most_alike_come_first_with_their_cosine(store: FaissStore) -> None:
    found = store.similarity_search_with_score("年假有十五天。", k=10)
    assert found[0][0].id == "a"
    assert found[0][1] == pytest.approx(1.0, abs=1e-6)
    scores = [score for _, score in found]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    query = np.asarray(CharacterEmbeddings().embed_query("年假有十五天。"))
    other = np.asarray(CharacterEmbeddings().embed_query(found[1][0].page_content))
    assert scores[1] == pytest.approx(query @ other / np.linalg.norm(query) / np.linalg.norm(other), abs=1e-6)


def test_filters(store: FaissStore) -> None:
    assert sorted(map(str, ids(store.similarity_search("年假", k=4, filter={"page": 1})))) == ["b", "d"]
    assert ids(store.similarity_search("年假", k=4, filter=lambda document: document.id == "c")) == ["c"]
    assert store.similarity_search("年假", filter={"page": 7}) == []
    assert store.similarity_search("年假", filter={"none": None}) == []
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"source": "/3"}})
    assert ids(retriever.invoke("年假")) == ["d"]


def test_relevance_and_diversity(store: FaissStore) -> None:
    [(best, relevance), *_] = store.similarity_search_with_relevance_scores("九点上班。", k=2)
    assert (best.id, round(relevance, 5)) == ("c", 1.0)
    threshold = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.999})
    assert ids(threshold.invoke("九点上班。")) == ["c"]
    store.add_texts(["九点上班。。"], ids=["again"])
    assert set(ids(store.similarity_search("九点上班。", k=2))) == {"c", "again"}
    assert set(ids(store.max_marginal_relevance_search("九点上班。", k=2, lambda_mult=0.1))) != {"c", "again"}
    assert FaissStore(CharacterEmbeddings()).max_marginal_relevance_search("九点") == []


def test_a_text_is_embedded_once(store: FaissStore) -> None:
    embedding: Any = store.embeddings
    embedding.embedded.clear()
    store.add_texts(["年假有十五天。", "新的。", "新的。"], ids=["x", "y", "z"])
    assert embedding.embedded == ["新的。"]
    assert len(store) == 7


def test_what_is_given_back_is_the_callers_own(store: FaissStore) -> None:
    store.get_by_ids(["a"])[0].metadata["source"] = "changed"
    assert store.get_by_ids(["a"])[0].metadata["source"] == "/0"


def test_wrong_numbers_and_wrong_dimensions(store: FaissStore) -> None:
    with pytest.raises(WrongUsageError):
        store.add_texts(["一", "二"], ids=["1"])
    with pytest.raises(WrongUsageError):
        store.add_texts(["一"], [{}, {}])
    with pytest.raises(EmbeddingChangedError):
        store.similarity_search_by_vector([1.0, 2.0])
    assert store.similarity_search("年假", k=0) == []
    assert len(store) == 4


def test_vectors_that_are_none_are_refused(store: FaissStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.embeddings, "embed_documents", lambda texts: [[float("nan")] * 64 for _ in texts])
    with pytest.raises(VectorStoreError):
        store.add_texts(["新的"])
    assert len(store) == 4
    assert ids(store.similarity_search("年假有十五天。", k=1)) == ["a"]


# On disk


def test_saved_and_opened_again(store: FaissStore, tmp_path: Path) -> None:
    store.delete(["b"])
    store.save(tmp_path / "vectors")
    again = FaissStore.open(tmp_path / "vectors", CharacterEmbeddings())
    assert again.similarity_search_with_score("上班", k=9) == store.similarity_search_with_score("上班", k=9)
    again.add_texts(["又一段。"], ids=["e"])
    again.save(tmp_path / "vectors")
    assert len(FaissStore.open(tmp_path / "vectors", CharacterEmbeddings())) == 4
    assert len([each for each in (tmp_path / "vectors").iterdir() if each.is_dir()]) == 1


def test_an_empty_store_is_saved_too(tmp_path: Path) -> None:
    store = FaissStore(CharacterEmbeddings())
    store.save(tmp_path)
    again = FaissStore.open(tmp_path, CharacterEmbeddings(8))
    assert len(again) == 0
    again.add_texts(["一"])
    assert len(again) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(VectorStoreNotFoundError):
        FaissStore.open(tmp_path, CharacterEmbeddings())
    with pytest.raises(VectorStoreNotFoundError):
        FaissStore.open(tmp_path / "none", CharacterEmbeddings())


def test_another_model_is_noticed(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    for other in (CharacterEmbeddings(32), DeterministicFakeEmbedding(size=64)):
        with pytest.raises(EmbeddingChangedError):
            FaissStore.open(tmp_path, other)


def test_every_damage_is_noticed(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path / "whole")
    chance = random.Random(5)
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    parts = [path for path in files if path.name != "library.lock"]
    assert len(parts) == 4
    for number, part in enumerate(parts * 8):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(tmp_path / "whole", folder)
        content = bytearray((folder / part).read_bytes())
        match number % 3:
            case 0:
                (folder / part).write_bytes(content[: chance.randrange(len(content))])
            case 1:
                place = chance.randrange(len(content))
                content[place] ^= 1 << chance.randrange(8)
                (folder / part).write_bytes(content)
            case _:
                (folder / part).unlink()
        try:
            opened = FaissStore.open(folder, CharacterEmbeddings())
        except (VectorStoreDamagedError, VectorStoreNotFoundError, EmbeddingChangedError):
            continue
        # A flipped bit in a digit of the probe or in white space changes nothing that is used.
        assert part.name in ("manifest.json", "current")
        assert opened.similarity_search_with_score("年假", k=9) == store.similarity_search_with_score("年假", k=9)


def test_a_manifest_that_means_something_else_is_damage(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    [manifest] = tmp_path.rglob("manifest.json")
    right = json.loads(manifest.read_text())
    changes: list[dict[str, Any]] = [{"format": 2}, {"dimension": 3}, {"probe": "x"}, {"sha256": 1}]
    for wrong in (*({**right, **change} for change in changes), []):
        manifest.write_text(json.dumps(wrong))
        with pytest.raises(VectorStoreDamagedError):
            FaissStore.open(tmp_path, CharacterEmbeddings())
    (tmp_path / "current").write_text("../elsewhere")
    with pytest.raises(VectorStoreDamagedError):
        FaissStore.open(tmp_path, CharacterEmbeddings())


def test_metadata_that_cannot_be_saved_is_named(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    store.add_texts(["新的"], [{"when": object()}], ids=["odd"])
    with pytest.raises(WrongUsageError, match="odd"):
        store.save(tmp_path)
    assert len(FaissStore.open(tmp_path, CharacterEmbeddings())) == 4


def test_two_writers_lose_nothing_in_silence(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    first, second = (FaissStore.open(tmp_path, CharacterEmbeddings()) for _ in range(2))
    first.add_texts(["第一个"], ids=["first"])
    second.add_texts(["第二个"], ids=["second"])
    first.save(tmp_path)
    with pytest.raises(VectorStoreChangedError):
        second.save(tmp_path)
    with pytest.raises(VectorStoreChangedError):
        FaissStore(CharacterEmbeddings()).save(tmp_path)
    assert len(FaissStore.open(tmp_path, CharacterEmbeddings()).get_by_ids(["first", "second"])) == 1


def save_over_and_over(folder: str) -> None:
    store = FaissStore.open(folder, CharacterEmbeddings())
    for number in range(1_000_000):
        store.add_texts([f"第{number}段"], ids=["changing"])
        store.save(folder)


def test_killed_while_saving(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    context = multiprocessing.get_context("spawn")
    chance = random.Random(11)
    for _ in range(6):
        process = context.Process(target=save_over_and_over, args=(str(tmp_path),))
        before = (tmp_path / "current").read_text()
        process.start()
        while (tmp_path / "current").read_text() == before and process.is_alive():
            time.sleep(0.01)
        time.sleep(chance.random() * 0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        again = FaissStore.open(tmp_path, CharacterEmbeddings())
        assert len(again) == 5
        assert ids(again.similarity_search("年假有十五天。", k=1)) == ["a"]
    again.save(tmp_path)
    assert sum(each.is_dir() for each in tmp_path.iterdir()) == 1


def test_from_several_threads() -> None:
    store = FaissStore(CharacterEmbeddings())

    def work(number: int) -> None:
        for each in range(40):
            store.add_texts([f"{number}号的第{each}段"], ids=[f"{number}-{each}"])
            assert store.similarity_search(f"{number}号的第{each}段", k=3)
            if each % 4 == 0:
                store.delete([f"{number}-{each}"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 4 * 30
    assert len(store.similarity_search("段", k=1000)) == 120


# On disk, with a graph

WORDS = [f"第{number}条：{chr(0x4E00 + number * 7)}{chr(0x5E00 + number * 3)}" for number in range(300)]


@pytest.fixture
def of_graph() -> FaissStore:
    store = FaissStore.from_texts(WORDS, CharacterEmbeddings(), ids=[str(n) for n in range(300)], exact_up_to=50)
    store.delete([str(number) for number in range(0, 300, 10)])
    return store


def found_in(store: FaissStore) -> list[tuple[str | None, float]]:
    return [
        (document.id, score) for text in WORDS[:40] for document, score in store.similarity_search_with_score(text, k=9)
    ]


def test_saved_and_opened_with_its_graph(of_graph: FaissStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_graph.save(tmp_path)
    assert {"graph.faiss", "nodes.npy", "removed.npy"} < {path.name for path in tmp_path.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "add", lambda *_: pytest.fail("built anew"))
        again = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert found_in(again) == found_in(of_graph)
    again.add_texts(["又一段。"], ids=["new"])
    again.delete(["1"])
    again.save(tmp_path)
    third = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert found_in(third) == found_in(again)
    assert [document.id for document in third.similarity_search("又一段。", k=1)] == ["new"]
    assert [document.id for document in third.documents()] == [document.id for document in again.documents()]


def test_opened_with_another_line(of_graph: FaissStore, tmp_path: Path) -> None:
    of_graph.save(tmp_path)
    exact = FaissStore.open(tmp_path, CharacterEmbeddings())
    assert len(exact) == 270
    exact.save(tmp_path)
    assert not list(tmp_path.rglob("graph.faiss"))
    again = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert [score for _, score in found_in(again)] == pytest.approx([score for _, score in found_in(exact)])
    again.save(tmp_path)
    assert list(tmp_path.rglob("graph.faiss"))


@pytest.mark.parametrize("part", ["graph.faiss", "nodes.npy", "removed.npy"])
def test_every_damage_to_the_graph_is_noticed(of_graph: FaissStore, tmp_path: Path, part: str) -> None:
    of_graph.save(tmp_path / "whole")
    chance = random.Random(7)
    for number in range(9):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(tmp_path / "whole", folder)
        [path] = folder.rglob(part)
        content = bytearray(path.read_bytes())
        match number % 3:
            case 0:
                path.write_bytes(content[: chance.randrange(len(content))])
            case 1:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
                path.write_bytes(content)
            case _:
                path.unlink()
        with pytest.raises(VectorStoreDamagedError):
            FaissStore.open(folder, CharacterEmbeddings(), exact_up_to=50)


def test_a_graph_of_other_vectors_is_damage(of_graph: FaissStore, tmp_path: Path) -> None:
    """Whole by its digest, as after a hand has been at it, and still not believed."""
    of_graph.save(tmp_path / "one")
    of_graph.add_texts(["又一段。"])
    of_graph.save(tmp_path / "other", replace=True)
    [one], [other] = ([*(tmp_path / name).rglob("manifest.json")] for name in ("one", "other"))
    shutil.copy(other.with_name("graph.faiss"), one.with_name("graph.faiss"))
    manifest = json.loads(one.read_text())
    manifest["sha256"]["graph.faiss"] = json.loads(other.read_text())["sha256"]["graph.faiss"]
    one.write_text(json.dumps(manifest))
    with pytest.raises(VectorStoreDamagedError, match="301 vectors, not 300"):
        FaissStore.open(tmp_path / "one", CharacterEmbeddings(), exact_up_to=50)
    del manifest["sha256"]["removed.npy"]
    one.write_text(json.dumps(manifest))
    with pytest.raises(VectorStoreDamagedError):
        FaissStore.open(tmp_path / "one", CharacterEmbeddings(), exact_up_to=50)
