from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from chinese_alpaca_rag.errors import VectorStoreDamagedError, WrongUsageError
from chinese_alpaca_rag.retrieval import FaissStore
from chinese_alpaca_rag.retrieval.vector_index import SavedGraph, VectorIndex
from tests.retrieval.character_embeddings import CharacterEmbeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytest.importorskip("faiss", reason="needs the dense extra")

DIMENSION = 64
LIMIT = 500  # exact_up_to of the indexes below


class TestFaissStoreOfGraphs(VectorStoreIntegrationTests):
    """LangChain's own tests, with a graph from the first document on."""

    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return FaissStore(self.get_embeddings(), exact_up_to=0)


def clustered(number: int, seed: int = 0, clusters: int = 100) -> NDArray[np.float32]:
    """Unit vectors around ``clusters`` centres."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((clusters, DIMENSION))
    vectors = centres[chance.integers(0, clusters, number)] + 0.7 * chance.standard_normal((number, DIMENSION))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


VECTORS = clustered(5_000)
QUERIES = clustered(100, seed=1)


def index_of(number: int, exact_up_to: int = LIMIT) -> VectorIndex:
    index = VectorIndex(DIMENSION, exact_up_to)
    index.add(range(number), VECTORS[:number])
    return index


def keys(found: list[tuple[int, float]]) -> list[int]:
    return [key for key, _ in found]


def nearest(query: NDArray[np.float32], k: int, among: NDArray[np.int64]) -> list[int]:
    scores = VECTORS[among] @ query
    return [int(key) for key in among[np.argsort(-scores, kind="stable")[:k]]]


def recall(index: VectorIndex, among: NDArray[np.int64], k: int = 10, given: bool = False) -> float:
    """The share of the true ``k`` nearest that are found, over all queries."""
    found = [set(keys(index.search(query, k, among.tolist() if given else None))) for query in QUERIES]
    right = [set(nearest(query, k, among)) for query in QUERIES]
    return float(np.mean([len(one & other) / k for one, other in zip(found, right, strict=True)]))


@pytest.fixture(scope="module")
def whole() -> VectorIndex:
    """All vectors in a graph; not to be changed."""
    return index_of(5_000)


# The graph


def test_the_graph_finds_nearly_all_of_the_nearest(whole: VectorIndex) -> None:
    assert whole.saved_graph() is not None
    assert recall(whole, np.arange(5_000)) >= 0.95
    for query in QUERIES[:10]:
        for key, score in whole.search(query, 5):
            assert score == pytest.approx(float(VECTORS[key] @ query), abs=1e-5)


def test_the_same_calls_give_the_same_results(whole: VectorIndex) -> None:
    again = index_of(5_000)
    one, other = whole.saved_graph(), again.saved_graph()
    assert one is not None
    assert other is not None
    assert one.links == other.links
    assert [again.search(query, 20) for query in QUERIES] == [whole.search(query, 20) for query in QUERIES]


def test_added_a_few_at_a_time_it_finds_as_well() -> None:
    index = VectorIndex(DIMENSION, LIMIT)
    for start in range(0, 5_000, 250):
        index.add(range(start, start + 250), VECTORS[start : start + 250])
    assert recall(index, np.arange(5_000)) >= 0.95
    assert np.array_equal(index.vectors([4_999, 0, 700]), VECTORS[[4_999, 0, 700]])


@pytest.mark.parametrize("k", [1, 100, 1_000, 3_000, 5_000, 9_999])
def test_as_many_are_found_as_there_are(whole: VectorIndex, k: int) -> None:
    found = whole.search(QUERIES[0], k)
    assert len(set(keys(found))) == min(k, 5_000)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_vectors_that_the_walk_does_not_reach_are_found_all_the_same() -> None:
    """So many equal vectors have links to each other only, or none."""
    index = VectorIndex(2, 0)
    index.add(range(3_000), np.asarray([[1.0, 0.0]] * 2_900 + [[-1.0, 0.0]] * 100, dtype=np.float32))
    index.remove(range(2_500, 2_900))
    found = keys(index.search(np.asarray([-1.0, 0.0], dtype=np.float32), 150))
    assert len(set(found)) == 150
    assert set(range(2_900, 3_000)) <= set(found)


# Removing


def test_what_is_removed_is_never_found() -> None:
    index = index_of(5_000)
    removed = [key for query in QUERIES for key in nearest(query, 5, np.arange(5_000))]
    index.remove(removed)
    left = np.setdiff1d(np.arange(5_000), removed)
    saved = index.saved_graph()
    assert saved is not None
    assert len(saved.removed) == len(set(removed)) == 5_000 - len(index)
    for query in QUERIES:
        found = keys(index.search(query, 200))
        assert len(found) == 200
        assert not set(found) & set(removed)
    assert recall(index, left) >= 0.95
    with pytest.raises(KeyError):
        index.vectors([removed[0]])


def test_beyond_a_fifth_it_is_built_anew() -> None:
    index = index_of(5_000)
    index.remove(range(1_000))
    before = index.saved_graph()
    index.remove([1_000, 1_000, 7_777])
    after = index.saved_graph()
    assert before is not None
    assert after is not None
    assert (len(before.removed), len(after.removed)) == (1_000, 0)
    assert len(index) == 3_999
    assert recall(index, np.arange(1_001, 5_000)) >= 0.95


def test_many_removals_leave_k_results() -> None:
    index = index_of(3_000, exact_up_to=100)
    chance = random.Random(3)
    left = set(range(3_000))
    while len(left) > 20:
        gone = chance.sample(sorted(left), min(137, len(left) - 20))
        index.remove(gone)
        left -= set(gone)
        found = keys(index.search(QUERIES[0], 50))
        assert len(set(found)) == min(50, len(left))
        assert set(found) <= left
    assert sorted(keys(index.search(QUERIES[0], 50))) == sorted(left)


def test_a_key_added_again_has_its_new_vector() -> None:
    index = index_of(2_000)
    index.add([5, 6], VECTORS[3_000:3_002])
    assert len(index) == 2_000
    assert keys(index.search(VECTORS[3_000], 1)) == [5]
    assert 5 not in keys(index.search(VECTORS[5], 20))


# Across the line


def test_across_the_line_and_back() -> None:
    index = VectorIndex(DIMENSION, LIMIT)
    for upto, approximate in ((LIMIT, False), (LIMIT + 1, True), (2_000, True)):
        index.add(range(len(index), upto), VECTORS[len(index) : upto])
        assert (index.saved_graph() is not None) is approximate
        assert recall(index, np.arange(upto)) >= (0.95 if approximate else 1.0)
    index.remove(range(LIMIT, 2_000))
    assert index.saved_graph() is None
    assert recall(index, np.arange(LIMIT)) == 1.0
    index.add(range(LIMIT, 1_500), VECTORS[LIMIT:1_500])
    assert index.saved_graph() is not None
    assert recall(index, np.arange(1_500)) >= 0.95
    index.remove(range(1_500))
    assert len(index) == 0
    assert index.search(QUERIES[0], 5) == []
    index.add([3], VECTORS[3:4])
    assert keys(index.search(QUERIES[0], 5)) == [3]


def test_to_and_fro_at_the_line_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(LIMIT + 1)
    monkeypatch.setattr(VectorIndex, "_build_anew", lambda *_: pytest.fail("built anew"))
    for key in range(50):
        index.remove([key])
        assert recall(index, np.setdiff1d(np.arange(LIMIT + 1), [key])) == 1.0  # LIMIT are left: exact
        index.add([key], VECTORS[key : key + 1])
        assert index.saved_graph() is not None


def test_an_interrupted_add_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    faiss: Any = pytest.importorskip("faiss")
    index = index_of(1_000)
    add = faiss.IndexHNSWFlat.add

    def interrupted(graph: Any, vectors: NDArray[np.float32]) -> None:
        add(graph, vectors[:7])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(faiss.IndexHNSWFlat, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.add(range(1_000, 1_100), VECTORS[1_000:1_100])
    assert len(index) == 1_000
    assert recall(index, np.arange(1_000)) == 1.0
    index.add(range(1_000, 1_100), VECTORS[1_000:1_100])
    assert index.saved_graph() is not None
    assert recall(index, np.arange(1_100)) >= 0.95


# Filters


def test_among_a_few_it_is_exact(whole: VectorIndex) -> None:
    few = np.arange(0, 5_000, 7)
    assert recall(whole, few, given=True) == 1.0
    assert keys(whole.search(QUERIES[0], 5, [7, 7, 99_999])) == [7]
    assert whole.search(QUERIES[0], 5, []) == []
    assert whole.search(QUERIES[0], 5, [99_999]) == []
    assert whole.search(QUERIES[0], 0) == []


@pytest.mark.parametrize("every", [2, 11])
def test_among_many_the_graph_is_walked(monkeypatch: pytest.MonkeyPatch, whole: VectorIndex, every: int) -> None:
    monkeypatch.setattr("chinese_alpaca_rag.retrieval.vector_index._FEW", 100)
    some = np.arange(0, 5_000, every)
    assert recall(whole, some, given=True) >= 0.95
    for query in QUERIES[:20]:
        found = keys(whole.search(query, 30, some.tolist()))
        assert len(found) == 30
        assert set(found) <= set(some.tolist())


def test_wrong_use() -> None:
    with pytest.raises(WrongUsageError):
        VectorIndex(DIMENSION, -1)
    index = index_of(10)
    for wrong, vectors in (([10, 10], VECTORS[:2]), ([10], VECTORS[:2]), ([10], VECTORS[:1, :3])):
        with pytest.raises(WrongUsageError):
            index.add(wrong, vectors)
    assert len(index) == 10


# Against brute force

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.lists(st.integers(0, 39), unique=True, max_size=12)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, exact_up_to=st.sampled_from([0, 12, 1_000]), query=st.integers(0, 99))
def test_any_sequence_is_like_brute_force(steps: list[tuple[str, list[int]]], exact_up_to: int, query: int) -> None:
    """Graphs of so few vectors miss none."""
    index = VectorIndex(DIMENSION, exact_up_to)
    held: dict[int, NDArray[np.float32]] = {}
    for number, (what, some) in enumerate(steps):
        if what == "add":
            rows = [VECTORS[100 * number + key] for key in some]
            index.add(some, np.asarray(rows, dtype=np.float32).reshape(len(some), DIMENSION))
            held.update(zip(some, rows, strict=True))
        else:
            index.remove(some)
            held = {key: row for key, row in held.items() if key not in some}
        assert len(index) == len(held)
        for among in (None, some):
            allowed = [key for key in held if among is None or key in among]
            right = sorted(allowed, key=lambda key: -float(held[key] @ QUERIES[query]))
            found = index.search(QUERIES[query], 5, among)
            assert keys(found) == right[:5]
            assert [score for _, score in found] == pytest.approx([held[key] @ QUERIES[query] for key in right[:5]])


# On disk

WORDS = [f"第{number}条：{chr(0x4E00 + number * 7)}{chr(0x5E00 + number * 3)}" for number in range(300)]


@pytest.fixture
def store() -> FaissStore:
    store = FaissStore.from_texts(WORDS, CharacterEmbeddings(), ids=[str(n) for n in range(300)], exact_up_to=50)
    store.delete([str(number) for number in range(0, 300, 10)])
    return store


def found_in(store: FaissStore) -> list[tuple[str | None, float]]:
    return [
        (document.id, score) for text in WORDS[:40] for document, score in store.similarity_search_with_score(text, k=9)
    ]


def test_saved_and_opened_with_its_graph(store: FaissStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(tmp_path)
    assert {"graph.faiss", "removed.npy"} < {path.name for path in tmp_path.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "add", lambda *_: pytest.fail("built anew"))
        again = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert found_in(again) == found_in(store)
    again.add_texts(["又一段。"], ids=["new"])
    again.delete(["1"])
    again.save(tmp_path)
    third = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert found_in(third) == found_in(again)
    assert [document.id for document in third.similarity_search("又一段。", k=1)] == ["new"]
    assert [document.id for document in third.documents()] == [document.id for document in again.documents()]


def test_opened_with_another_line(store: FaissStore, tmp_path: Path) -> None:
    store.save(tmp_path)
    exact = FaissStore.open(tmp_path, CharacterEmbeddings())
    assert len(exact) == 270
    exact.save(tmp_path)
    assert not list(tmp_path.rglob("graph.faiss"))
    again = FaissStore.open(tmp_path, CharacterEmbeddings(), exact_up_to=50)
    assert [score for _, score in found_in(again)] == pytest.approx([score for _, score in found_in(exact)])
    again.save(tmp_path)
    assert list(tmp_path.rglob("graph.faiss"))


@pytest.mark.parametrize("part", ["graph.faiss", "removed.npy"])
def test_every_damage_to_the_graph_is_noticed(store: FaissStore, tmp_path: Path, part: str) -> None:
    store.save(tmp_path / "whole")
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


def test_a_graph_of_other_vectors_is_damage(store: FaissStore, tmp_path: Path) -> None:
    """Whole by its digest, as after a hand has been at it, and still not believed."""
    store.save(tmp_path / "one")
    store.add_texts(["又一段。"])
    store.save(tmp_path / "other", replace=True)
    [one], [other] = ([*(tmp_path / name).rglob("manifest.json")] for name in ("one", "other"))
    shutil.copy(other.with_name("graph.faiss"), one.with_name("graph.faiss"))
    manifest = json.loads(one.read_text())
    manifest["sha256"]["graph.faiss"] = json.loads(other.read_text())["sha256"]["graph.faiss"]
    one.write_text(json.dumps(manifest))
    with pytest.raises(VectorStoreDamagedError, match="300"):
        FaissStore.open(tmp_path / "one", CharacterEmbeddings(), exact_up_to=50)
    del manifest["sha256"]["removed.npy"]
    one.write_text(json.dumps(manifest))
    with pytest.raises(VectorStoreDamagedError):
        FaissStore.open(tmp_path / "one", CharacterEmbeddings(), exact_up_to=50)


def test_links_are_checked_before_they_are_followed() -> None:
    """Any byte may be another: either it is refused or the search stays within the vectors."""
    index = index_of(300, exact_up_to=0)
    index.remove([4, 9])
    saved = index.saved_graph()
    assert saved is not None
    left = [key for key in range(300) if key not in (4, 9)]
    vectors = index.vectors(left)
    chance = random.Random(13)
    refused = 0
    for _ in range(300):
        links = bytearray(saved.links)
        links[chance.randrange(len(links))] = chance.randrange(256)
        try:
            again = VectorIndex.restored(left, vectors, 0, SavedGraph(bytes(links), saved.removed))
        except ValueError:
            refused += 1
        else:
            assert set(keys(again.search(QUERIES[0], 20))) <= set(left)
    assert refused > 100


def test_tombstones_are_checked() -> None:
    index = index_of(300, exact_up_to=0)
    index.remove([4, 9])
    saved = index.saved_graph()
    assert saved is not None
    left = [key for key in range(300) if key not in (4, 9)]
    for nodes in ((9, 4), (4, 4), (-1, 4), (4, 300)):
        removed = saved.removed.copy()
        removed["node"] = nodes
        with pytest.raises(ValueError, match="tombstones"):
            VectorIndex.restored(left, index.vectors(left), 0, SavedGraph(saved.links, removed))
    for other in (saved.removed["vector"].copy(), saved.removed.reshape(1, 2)):
        with pytest.raises(ValueError, match="tombstones"):
            VectorIndex.restored(left, index.vectors(left), 0, SavedGraph(saved.links, other))
