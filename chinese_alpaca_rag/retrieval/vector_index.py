"""Vectors by their keys, and the nearest to a query: exactly while they are few, through a graph when they are many.

Exact search compares the query with every vector, so that its time grows with their number. Beyond ``exact_up_to``
vectors a hierarchical navigable small world graph is walked instead (Malkov and Yashunin, "Efficient and robust
approximate nearest neighbor search using HNSW graphs", 2018; faiss' IndexHNSWFlat): its time grows with the logarithm
of their number, and now and then it misses one of the nearest.

The graph cannot lose a node. A removed vector stays in it as a tombstone that leads the walk on and is never found;
when more than a fifth are tombstones everything is built anew without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from chinese_alpaca_rag.errors import MissingExtraError, WrongUsageError
from chinese_alpaca_rag.language import Words

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Vectors that a query is compared with one by one.
EXACT_UP_TO = 200_000

# The paper's M (neighbours of a node, twice as many on the lowest level), efConstruction and least efSearch, the
# nodes that the walk keeps in sight while a node is added and while a query is answered.
_NEIGHBOURS = 32
_BEAM_ADDING = 100
_BEAM_SEARCHING = 128
# A walk with a wider beam costs as much as comparing all: faiss looks through the beam at every step.
_WIDEST_BEAM = 4096
_TOMBSTONES = 1 / 5
# Comparing so few is faster than a walk that passes by nearly every node it meets.
_FEW, _FEW_OF_ALL = 10_000, 1 / 20


@dataclass(frozen=True)
class SavedGraph:
    """What of a graph has to be kept, beside the vectors that are not removed.

    ``links``: faiss' own format, without vectors. ``removed``: the tombstones, ascending, one row each with its place
    among all (``node``, int64) and its ``vector`` (float32, the dimension).
    """

    links: bytes
    removed: NDArray[np.void]


class VectorIndex:
    """Vectors of ``dimension`` numbers under whole-number keys; scores are inner products, higher is nearer.

    Up to ``exact_up_to`` vectors every search is exact. The add that takes it beyond builds the graph from all of
    them, on one thread, for the same calls are to give the same graph: about a quarter of a millisecond a vector of
    512 numbers where there are 20,000, half of one where there are 300,000. The graph goes at the first rebuild with
    no more than ``exact_up_to`` left. For one thread at a time. MissingExtraError without faiss.
    """

    def __init__(self, dimension: int, exact_up_to: int = EXACT_UP_TO) -> None:
        if exact_up_to < 0:
            raise _less_than_none(exact_up_to)
        self._dimension = dimension
        self._exact_up_to = exact_up_to
        self._flat, self._graph = _built(np.zeros((0, dimension), dtype=np.float32), with_graph=False)
        self._keys: list[int] = []  # by node, those of tombstones too
        self._nodes: dict[int, int] = {}  # by key, in the order of adding; without tombstones
        self._selector: Any = None  # of what is no tombstone

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return self._dimension

    def __len__(self) -> int:
        """How many vectors there are."""
        return len(self._nodes)

    # Adding and removing

    def add(self, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add ``vectors``, shape (keys, dimension); those of keys that are there already are replaced.

        WrongUsageError for a key that comes twice. An interruption leaves the index without any of them.
        """
        if len(set(keys)) != len(keys) or vectors.shape != (len(keys), self._dimension):
            raise _not_one_each(keys, vectors)
        self.remove(keys)
        if self._graph is None and len(self) + len(keys) > self._exact_up_to:
            self._build_anew(keys, vectors)
            return
        self._append(np.ascontiguousarray(vectors, dtype=np.float32))
        self._nodes.update(zip(keys, range(len(self._keys), len(self._keys) + len(keys)), strict=True))
        self._keys += keys
        self._selector = None

    def remove(self, keys: Iterable[int]) -> None:
        """Remove the vectors of ``keys``; keys that are not there are no error."""
        gone = [self._nodes.pop(key) for key in dict.fromkeys(keys) if key in self._nodes]
        if gone:
            self._selector = None
            if len(self._keys) - len(self) > _TOMBSTONES * len(self._keys):
                self._build_anew([], np.zeros((0, self._dimension), dtype=np.float32))

    def _append(self, vectors: NDArray[np.float32]) -> None:
        whole = self._flat.ntotal
        try:
            with _one_thread():
                (self._flat if self._graph is None else self._graph).add(vectors)
        except BaseException:
            # Some are in the graph by half. The next add builds it anew; until then every search is exact.
            self._flat, self._graph = _built(self._flat.reconstruct_n(0, whole), with_graph=False)
            raise

    def _build_anew(self, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Without tombstones, with ``vectors`` under new ``keys``; as a graph where there are enough."""
        all_keys = [*self._nodes, *keys]
        rows = np.concatenate([self.vectors(list(self._nodes)), vectors])
        self._flat, self._graph = _built(rows, with_graph=len(all_keys) > self._exact_up_to)
        self._keys = all_keys
        self._nodes = {key: node for node, key in enumerate(all_keys)}
        self._selector = None

    # Reading

    def vectors(self, keys: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of ``keys``, shape (keys, dimension). KeyError for a key that is not there."""
        if not keys:
            return np.zeros((0, self._dimension), dtype=np.float32)
        nodes = np.asarray([self._nodes[key] for key in keys], dtype=np.int64)
        vectors: NDArray[np.float32] = self._flat.reconstruct_batch(nodes)
        return vectors

    def search(self, query: NDArray[np.float32], k: int, among: Iterable[int] | None = None) -> list[tuple[int, float]]:
        """Keys and scores of the ``k`` nearest to ``query``, shape (dimension,), nearest first.

        ``among``: only these keys, those that are not there passed over. As many come as there are, up to ``k``. Among
        a few (10,000, or a twentieth of all), and for a ``k`` above some 2,000, the search is exact.
        """
        few, count = None, len(self)
        if among is not None:
            few = np.unique(np.asarray([self._nodes[key] for key in among if key in self._nodes], dtype=np.int64))
            count = len(few)
        k = min(k, count)
        if k < 1:
            return []
        # Of the nodes in sight only so many may be found.
        beam = ceil(max(_BEAM_SEARCHING, 2 * k) * len(self._keys) / count)
        exact = self._graph is None or len(self) <= self._exact_up_to or beam > _WIDEST_BEAM
        if exact or (few is not None and count <= max(_FEW, _FEW_OF_ALL * len(self))):
            return self._nearest(self._flat, query, k, self._exact_parameters(few))
        found = self._nearest(self._graph, query, k, self._graph_parameters(few, beam))
        if len(found) < k:  # what is left lies where the walk does not come
            found = self._nearest(self._flat, query, k, self._exact_parameters(few))
        return found

    def _nearest(self, index: Any, query: NDArray[np.float32], k: int, parameters: Any) -> list[tuple[int, float]]:
        rows = np.ascontiguousarray(query, dtype=np.float32).reshape(1, self._dimension)
        scores, nodes = index.search(rows, k, params=parameters)
        found = zip(nodes[0].tolist(), scores[0].tolist(), strict=True)
        return [(self._keys[node], score) for node, score in found if node >= 0]

    def _exact_parameters(self, few: NDArray[np.int64] | None) -> Any:
        faiss = load_faiss()
        if few is not None:
            return faiss.SearchParameters(sel=faiss.IDSelectorArray(few))
        selector = self._not_removed()
        return None if selector is None else faiss.SearchParameters(sel=selector)

    def _graph_parameters(self, few: NDArray[np.int64] | None, beam: int) -> Any:
        selector = self._not_removed() if few is None else _selector_of(few, len(self._keys))
        return load_faiss().SearchParametersHNSW(efSearch=beam, sel=selector)

    def _not_removed(self) -> Any:
        """None where nothing is."""
        if self._selector is None and len(self) < len(self._keys):
            nodes = np.fromiter(self._nodes.values(), dtype=np.int64, count=len(self))
            self._selector = _selector_of(nodes, len(self._keys))
        return self._selector

    # Keeping the graph

    def saved_graph(self) -> SavedGraph | None:
        """What ``restored`` needs beside keys and vectors in the order of adding; None where searches are exact."""
        if self._graph is None or len(self) <= self._exact_up_to:
            return None
        faiss = load_faiss()
        kept = np.zeros(len(self._keys), dtype=bool)
        kept[np.fromiter(self._nodes.values(), dtype=np.int64, count=len(self))] = True
        nodes = np.flatnonzero(~kept)
        removed = np.zeros(len(nodes), dtype=_tombstone(self._dimension))
        removed["node"] = nodes
        if len(nodes):
            removed["vector"] = self._flat.reconstruct_batch(nodes)
        return SavedGraph(faiss.serialize_index(self._graph, faiss.IO_FLAG_SKIP_STORAGE).tobytes(), removed)

    @classmethod
    def restored(
        cls, keys: Sequence[int], vectors: NDArray[np.float32], exact_up_to: int, graph: SavedGraph | None
    ) -> VectorIndex:
        """An index of ``vectors``, with ``graph`` where they are many; without one it is built.

        ValueError for a graph that is not one of these vectors.
        """
        index = cls(vectors.shape[1], exact_up_to)
        if graph is None or len(keys) <= exact_up_to:
            index.add(keys, vectors)
            return index
        removed = graph.removed
        total = len(keys) + len(removed)
        if removed.dtype != _tombstone(index.dimension) or removed.ndim != 1:
            raise ValueError("tombstones of another form")
        nodes = removed["node"]
        if len(nodes) and (nodes[0] < 0 or nodes[-1] >= total or (np.diff(nodes) < 1).any()):
            raise ValueError("tombstones out of place")
        kept = np.ones(total, dtype=bool)
        kept[nodes] = False
        rows = np.empty((total, index.dimension), dtype=np.float32)
        rows[kept], rows[nodes] = vectors, removed["vector"]
        index._graph = _linked(graph.links, total, index.dimension)
        index._flat.add(rows)
        index._graph.storage = index._flat
        index._graph.own_fields = False  # it is the index' own
        index._nodes = dict(zip(keys, np.flatnonzero(kept).tolist(), strict=True))
        index._keys = [-1] * total
        for key, node in index._nodes.items():
            index._keys[node] = key
        return index


def load_faiss() -> Any:
    """The module. MissingExtraError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError.for_package("faiss", "dense") from error
    return faiss


def _built(vectors: NDArray[np.float32], *, with_graph: bool) -> tuple[Any, Any]:
    """The vectors one after another, and the graph that owns them or None."""
    faiss = load_faiss()
    if not with_graph:
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        return flat, None
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _BEAM_ADDING
    with _one_thread():
        graph.add(vectors)
    return faiss.downcast_index(graph.storage), graph


def _linked(links: bytes, total: int, dimension: int) -> Any:
    """The graph of ``links``, which has no vectors yet. ValueError unless every link leads to a node that is there.

    faiss follows links without looking; its own checks on reading are those of recent versions only.
    """
    faiss = load_faiss()
    try:
        graph = faiss.deserialize_index(np.frombuffer(links, dtype=np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(str(error)) from error
    right = faiss.IndexHNSWFlat(dimension, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    if type(graph) is not type(right) or graph.metric_type != right.metric_type:
        raise ValueError("not a graph for inner products")
    if (graph.ntotal, graph.d, graph.storage) != (total, dimension, None):
        raise ValueError(f"a graph of {graph.ntotal} vectors, not {total}")
    names = ("levels", "offsets", "neighbors", "cum_nneighbor_per_level")
    levels, offsets, neighbours, places = (faiss.vector_to_array(getattr(graph.hnsw, name)) for name in names)
    if not np.array_equal(places, faiss.vector_to_array(right.hnsw.cum_nneighbor_per_level)):
        raise ValueError("another number of neighbours")
    _check_links(levels, offsets.astype(np.int64), neighbours, places, total)
    top, start = graph.hnsw.max_level, graph.hnsw.entry_point
    if not 0 <= start < total or not 0 <= top < levels[start]:
        raise ValueError("no entry point")
    graph.hnsw.efConstruction = _BEAM_ADDING
    return graph


def _check_links(
    levels: NDArray[np.int32],
    offsets: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    places: NDArray[np.int32],
    total: int,
) -> None:
    """``levels``: of each node, the lowest counted; its links begin at ``offsets``, those of level l at ``places``."""
    if len(levels) != total or levels.min(initial=1) < 1 or levels.max(initial=1) >= len(places):
        raise ValueError("levels out of range")
    if len(offsets) != total + 1 or offsets[0] != 0 or not np.array_equal(np.diff(offsets), places[levels]):
        raise ValueError("links out of place")
    if len(neighbours) != offsets[-1] or neighbours.min(initial=0) < -1 or neighbours.max(initial=0) >= total:
        raise ValueError("links to nodes that are not there")
    for level in range(1, int(levels.max(initial=1))):
        first = offsets[np.flatnonzero(levels > level)] + places[level]
        linked = neighbours[first[:, None] + np.arange(places[level + 1] - places[level])]
        if (levels[linked[linked >= 0]] <= level).any():
            raise ValueError("links to nodes that are not on their level")


def _selector_of(nodes: NDArray[np.int64], total: int) -> Any:
    chosen = np.zeros(total, dtype=bool)
    chosen[nodes] = True
    return load_faiss().IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def _tombstone(dimension: int) -> np.dtype[np.void]:
    return np.dtype([("node", "<i8"), ("vector", "<f4", (dimension,))])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss in the calling thread: several race for the graph's nodes, and the graph is another each time."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _less_than_none(exact_up_to: int) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"exact_up_to 是 {exact_up_to}，不能小于零。", en=f"exact_up_to is {exact_up_to}, less than zero."),
        hint=Words(
            zh=f"给一个向量数，如默认的 {EXACT_UP_TO}；0 表示总是近似。",
            en=f"Give a number of vectors, such as the default {EXACT_UP_TO}; 0 is never exactly.",
        ),
    )


def _not_one_each(keys: Sequence[int], vectors: NDArray[np.float32]) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"{len(set(keys))} 个不同的键，向量的形状却是 {vectors.shape}。",
            en=f"{len(set(keys))} different keys, but vectors of shape {vectors.shape}.",
        ),
        hint=Words(
            zh="每个键一个同维的向量，键不可重复。", en="Give one vector of the index's dimension for each key."
        ),
    )
