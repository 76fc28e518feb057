from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.retrieval.vector_index import SavedGraph, VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytest.importorskip("faiss", reason="needs the dense extra")

DIMENSION = 64
LIMIT = 500  # exact_up_to of the indexes below


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


def saved(index: VectorIndex, of: Sequence[int] = ()) -> SavedGraph:
    graph = index.saved_graph(of)
    assert graph is not None
    return graph


def has_graph(index: VectorIndex) -> bool:
    return index.saved_graph([]) is not None


@pytest.fixture(scope="module")
def whole() -> VectorIndex:
    """All vectors in a graph; not to be changed."""
    return index_of(5_000)


# The graph


def test_the_graph_finds_nearly_all_of_the_nearest(whole: VectorIndex) -> None:
    assert has_graph(whole)
    assert recall(whole, np.arange(5_000)) >= 0.95
    for query in QUERIES[:10]:
        for key, score in whole.search(query, 5):
            assert score == pytest.approx(float(VECTORS[key] @ query), abs=1e-5)


def test_the_same_calls_give_the_same_results(whole: VectorIndex) -> None:
    again = index_of(5_000)
    one, other = saved(whole), saved(again)
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


@pytest.mark.parametrize(("texts", "copies"), [(1, 1_000), (20, 100)])
def test_vectors_that_come_again_and_again_do_not_end_the_walk(texts: int, copies: int) -> None:
    """Each a node of its own, they would bring the share of the nearest that are found down to 0.7."""
    index = index_of(5_000)
    repeated = clustered(texts, seed=5)
    index.add(range(5_000, 5_000 + texts * copies), np.repeat(repeated, copies, axis=0))
    for query in QUERIES:
        found = keys(index.search(query, copies + 10))
        others = [key for key in found if key < 5_000]
        assert len(set(found)) == copies + 10
        assert len(set(others[:10]) & set(nearest(query, 10, np.arange(5_000)))) >= min(10, len(others)) - 1
    assert set(keys(index.search(repeated[0], copies))) == set(range(5_000, 5_000 + copies))
    assert keys(index.search(repeated[0], 2, [3, 5_002, 5_001])) == [5_002, 5_001]
    index.remove(range(5_000, 4_999 + copies))
    assert keys(index.search(repeated[0], 1)) == [4_999 + copies]
    assert len(saved(index).removed) == 0


def test_where_the_walk_finds_too_few_the_search_is_exact(monkeypatch: pytest.MonkeyPatch, whole: VectorIndex) -> None:
    nearest_of = VectorIndex._nearest
    monkeypatch.setattr(
        VectorIndex,
        "_nearest",
        lambda self, index, query, k, parameters: nearest_of(
            self, index, query, 3 if index is self._graph else k, parameters
        ),
    )
    assert recall(whole, np.arange(5_000)) == 1.0


# Removing


def test_what_is_removed_is_never_found() -> None:
    index = index_of(5_000)
    removed = [key for query in QUERIES for key in nearest(query, 5, np.arange(5_000))]
    index.remove(removed)
    left = np.setdiff1d(np.arange(5_000), removed)
    graph = saved(index)
    assert len(graph.removed) == len(set(removed)) == 5_000 - len(index)
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
    before = saved(index)
    index.remove([1_000, 1_000, 7_777])
    after = saved(index)
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
    assert len(saved(index).removed) == 2
    assert keys(index.search(VECTORS[3_000], 1)) == [5]
    assert 5 not in keys(index.search(VECTORS[5], 20))
    index.add([7_000], VECTORS[5:6])
    assert len(saved(index).removed) == 1
    assert keys(index.search(VECTORS[5], 1)) == [7_000]


# Across the line


def test_across_the_line_and_back() -> None:
    index = VectorIndex(DIMENSION, LIMIT)
    for upto, approximate in ((LIMIT, False), (LIMIT + 1, True), (2_000, True)):
        index.add(range(len(index), upto), VECTORS[len(index) : upto])
        assert (has_graph(index)) is approximate
        assert recall(index, np.arange(upto)) >= (0.95 if approximate else 1.0)
    index.remove(range(LIMIT, 2_000))
    assert not has_graph(index)
    assert recall(index, np.arange(LIMIT)) == 1.0
    index.add(range(LIMIT, 1_500), VECTORS[LIMIT:1_500])
    assert has_graph(index)
    assert recall(index, np.arange(1_500)) >= 0.95
    index.remove(range(1_500))
    assert len(index) == 0
    assert index.search(QUERIES[0], 5) == []
    index.add([3], VECTORS[3:4])
    assert keys(index.search(QUERIES[0], 5)) == [3]


def test_to_and_fro_at_the_line_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(LIMIT + 1)
    monkeypatch.setattr("chinese_alpaca_rag.retrieval.vector_index._built", lambda *_, **__: pytest.fail("built anew"))
    for key in range(50):
        index.remove([key])
        assert recall(index, np.setdiff1d(np.arange(LIMIT + 1), [key])) == 1.0  # LIMIT are left: exact
        index.add([key], VECTORS[key : key + 1])
        assert has_graph(index)


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
    assert has_graph(index)
    assert recall(index, np.arange(1_100)) >= 0.95


def test_an_interrupted_building_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(LIMIT)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("chinese_alpaca_rag.retrieval.vector_index._built", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.add([3, 9_000], VECTORS[1_000:1_002])
    assert len(index) == LIMIT
    assert recall(index, np.arange(LIMIT)) == 1.0
    index.add([9_000], VECTORS[1_001:1_002])
    assert has_graph(index)
    assert keys(index.search(VECTORS[1_001], 1)) == [9_000]
    assert keys(index.search(VECTORS[3], 1)) == [3]


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
            rows = [VECTORS[100 * (number % 3) + key // 2] for key in some]  # some are equal
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
            scores = [float(held[key] @ QUERIES[query]) for key in right[:5]]
            assert [score for _, score in found] == pytest.approx(scores, abs=1e-5)
            assert len(set(keys(found))) == len(found)
            assert set(keys(found)) <= set(allowed)
            for key, score in found:
                assert score == pytest.approx(float(held[key] @ QUERIES[query]), abs=1e-5)


# What of it is kept


@pytest.fixture(scope="module")
def with_tombstones() -> tuple[list[int], NDArray[np.float32], SavedGraph]:
    """Keys, their vectors and the graph of 300 nodes, of which 4 and 9 are tombstones."""
    index = index_of(300, exact_up_to=0)
    index.remove([4, 9])
    left = [key for key in range(300) if key not in (4, 9)]
    return left, index.vectors(left), saved(index, left)


def test_links_are_checked_before_they_are_followed(
    with_tombstones: tuple[list[int], NDArray[np.float32], SavedGraph],
) -> None:
    """Any byte may be another: either it is refused or the search stays within the vectors."""
    left, vectors, graph = with_tombstones
    chance = random.Random(13)
    refused = 0
    for _ in range(300):
        links = bytearray(graph.links)
        links[chance.randrange(len(links))] = chance.randrange(256)
        try:
            again = VectorIndex.restored(left, vectors, 0, replace(graph, links=bytes(links)))
        except ValueError:
            refused += 1
        else:
            assert set(keys(again.search(QUERIES[0], 20))) <= set(left)
    assert refused > 100


def test_nodes_and_tombstones_are_checked(
    with_tombstones: tuple[list[int], NDArray[np.float32], SavedGraph],
) -> None:
    left, vectors, graph = with_tombstones
    first_is = [np.concatenate([[node], graph.nodes[1:]]) for node in (-1, 300, 1)]
    wrong = [replace(graph, nodes=nodes) for nodes in (*first_is, graph.nodes[1:], graph.nodes.astype(np.int32))]
    removed = (graph.removed[:1], graph.removed[:, :3], graph.removed.astype(np.float64), graph.removed.ravel())
    wrong += [replace(graph, removed=cast("NDArray[np.float32]", each)) for each in removed]
    for other in wrong:
        with pytest.raises(ValueError, match=r"node|tombstones|vectors"):
            VectorIndex.restored(left, vectors, 0, other)
    right = VectorIndex.restored(left, vectors, 0, graph)
    assert recall(right, np.asarray(left)) == 1.0
