"""Vectors by their keys, and the nearest to a query: exactly while they are few, through a graph when they are many.

Exact search compares the query with every vector, so that its time grows with their number. Beyond ``exact_up_to``
vectors a hierarchical navigable small world graph is walked instead (Malkov and Yashunin, "Efficient and robust
approximate nearest neighbor search using HNSW graphs", 2018; faiss' IndexHNSWFlat): its time grows with the logarithm
of their number, and now and then it misses one of the nearest.

Equal vectors, such as those of a text that comes again and again, are one node: more of them than a node has neighbours
would link to each other only, and a walk that comes to them would end there.

The graph cannot lose a node. A removed vector stays in it as a tombstone that leads the walk on and is never found;
when more than a fifth are tombstones everything is built anew without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
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
_AT_ONCE = 50_000  # vectors copied at a time while everything is built anew
# Comparing so few is faster than a walk that passes by nearly every node it meets.
_FEW, _FEW_OF_ALL = 10_000, 1 / 20


@dataclass(frozen=True)
class SavedGraph:
    """What of a graph has to be kept, beside the vectors that are not removed.

    ``links``: faiss' own format, without vectors. ``nodes``: of every key, int64. ``removed``: the vectors of the other
    nodes, which are tombstones, in their order; float32, shape (tombstones, dimension).
    """

    links: bytes
    nodes: NDArray[np.int64]
    removed: NDArray[np.float32]


class VectorIndex:
    """Vectors of ``dimension`` numbers under whole-number keys; scores are inner products, higher is nearer.

    Up to ``exact_up_to`` different vectors every search is exact. The add that takes it beyond builds the graph from
    all of them, on one thread, for the same calls are to give the same graph: about half a millisecond a vector of 512
    numbers for 20,000 of them, about one for 200,000. The graph goes at the first rebuild with no more than
    ``exact_up_to`` left. For one thread at a time. MissingExtraError without faiss.
    """

    def __init__(self, dimension: int, exact_up_to: int = EXACT_UP_TO) -> None:
        if exact_up_to < 0:
            raise _less_than_none(exact_up_to)
        self._dimension = dimension
        self._exact_up_to = exact_up_to
        self._flat = load_faiss().IndexFlatIP(dimension)
        self._graph: Any = None
        self._nodes: dict[int, int] = {}  # by key
        self._keys: list[dict[int, None]] = []  # by node, those with this vector; none for a tombstone
        self._living = 0  # nodes that are no tombstones
        self._by_digest: dict[bytes, int] = {}  # nodes by their vector's
        self._selector: Any = None  # of what is no tombstone

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return self._dimension

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._nodes)

    # Adding and removing

    def add(self, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add ``vectors``, shape (keys, dimension); those of keys that are there already are replaced.

        WrongUsageError for a key that comes twice. An interruption leaves every key as it was.
        """
        if len(set(keys)) != len(keys) or vectors.shape != (len(keys), self._dimension):
            raise _not_one_each(keys, vectors)
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        digests = [_digest(row) for row in rows]
        new: dict[bytes, int] = {}  # the first row of each
        for row, digest in enumerate(digests):
            if digest not in self._by_digest:
                new.setdefault(digest, row)
        if new:
            self._append(rows[list(new.values())])
            self._by_digest.update(zip(new, range(len(self._keys), len(self._keys) + len(new)), strict=True))
            self._keys += [{} for _ in new]
        before = {key: self._nodes[key] for key in keys if key in self._nodes}
        self._unlink(keys)
        self._link(zip(keys, (self._by_digest[digest] for digest in digests), strict=True))
        try:
            self._settle()
        except BaseException:
            self._unlink(keys)
            self._link(before.items())
            raise

    def remove(self, keys: Iterable[int]) -> None:
        """Remove the vectors of ``keys``; keys that are not there are no error."""
        self._unlink(keys)
        self._settle()

    def _link(self, pairs: Iterable[tuple[int, int]]) -> None:
        for key, node in pairs:
            self._living += not self._keys[node]
            self._nodes[key] = node
            self._keys[node][key] = None
        self._selector = None

    def _unlink(self, keys: Iterable[int]) -> None:
        for key in keys:
            node = self._nodes.pop(key, None)
            if node is not None:
                del self._keys[node][key]
                self._living -= not self._keys[node]
        self._selector = None

    def _append(self, vectors: NDArray[np.float32]) -> None:
        try:
            with _one_thread():
                (self._flat if self._graph is None else self._graph).add(vectors)
        except BaseException:
            # Some are in the graph by half. The next change builds it anew; until then every search is exact.
            self._flat, self._graph = _built(self._flat, np.arange(len(self._keys)), with_graph=False)
            raise

    def _settle(self) -> None:
        """Build everything anew where there are too many tombstones, or vectors without a graph."""
        many = self._living > self._exact_up_to
        if len(self._keys) - self._living > _TOMBSTONES * len(self._keys) or (many and self._graph is None):
            nodes = self._living_nodes()
            self._flat, self._graph = _built(self._flat, nodes, with_graph=many)
            places = dict(zip(nodes.tolist(), range(len(nodes)), strict=True))
            self._nodes = {key: places[node] for key, node in self._nodes.items()}
            self._keys = [self._keys[node] for node in places]
            self._by_digest = {digest: places[node] for digest, node in self._by_digest.items() if node in places}
            self._selector = None

    def _living_nodes(self) -> NDArray[np.int64]:
        return np.asarray([node for node, keys in enumerate(self._keys) if keys], dtype=np.int64)

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
        if among is None:
            few, count = None, self._living
        else:
            few = self._by_node(among)
            count = len(few)
        wanted = min(k, count)  # nodes, each of one key or more
        if wanted < 1:
            return []
        # Of the nodes in sight only so many may be found.
        beam = ceil(max(_BEAM_SEARCHING, 2 * wanted) * len(self._keys) / count)
        exact = self._graph is None or self._living <= self._exact_up_to or beam > _WIDEST_BEAM
        found = []
        if not exact and (few is None or count > max(_FEW, _FEW_OF_ALL * self._living)):
            found = self._nearest(self._graph, query, wanted, self._graph_parameters(few, beam))
        if len(found) < wanted:  # also when what is left lies where the walk does not come
            found = self._nearest(self._flat, query, wanted, self._exact_parameters(few))
        pairs = ((key, score) for node, score in found for key in (self._keys[node] if few is None else few[node]))
        return list(islice(pairs, k))

    def _by_node(self, keys: Iterable[int]) -> dict[int, list[int]]:
        nodes: dict[int, list[int]] = {}
        for key in dict.fromkeys(keys):
            if key in self._nodes:
                nodes.setdefault(self._nodes[key], []).append(key)
        return nodes

    def _nearest(self, index: Any, query: NDArray[np.float32], k: int, parameters: Any) -> list[tuple[int, float]]:
        rows = np.ascontiguousarray(query, dtype=np.float32).reshape(1, self._dimension)
        with _one_thread():  # more gain nothing for one query, and wait for each other where the machine is busy
            scores, nodes = index.search(rows, k, params=parameters)
        return [(node, score) for node, score in zip(nodes[0].tolist(), scores[0].tolist(), strict=True) if node >= 0]

    def _exact_parameters(self, few: Iterable[int] | None) -> Any:
        faiss = load_faiss()
        if few is not None:
            return faiss.SearchParameters(sel=faiss.IDSelectorArray(np.asarray(sorted(few), dtype=np.int64)))
        selector = self._not_removed()
        return None if selector is None else faiss.SearchParameters(sel=selector)

    def _graph_parameters(self, few: Iterable[int] | None, beam: int) -> Any:
        selector = self._not_removed() if few is None else _selector_of(list(few), len(self._keys))
        return load_faiss().SearchParametersHNSW(efSearch=beam, sel=selector)

    def _not_removed(self) -> Any:
        """None where nothing is."""
        if self._selector is None and self._living < len(self._keys):
            self._selector = _selector_of(self._living_nodes(), len(self._keys))
        return self._selector

    # Keeping the graph

    def saved_graph(self, keys: Sequence[int]) -> SavedGraph | None:
        """What ``restored`` needs beside all ``keys`` and their vectors, in this order; None while search is exact."""
        if self._graph is None or self._living <= self._exact_up_to:
            return None
        faiss = load_faiss()
        removed = np.setdiff1d(np.arange(len(self._keys)), self._living_nodes())
        vectors = self._flat.reconstruct_batch(removed) if len(removed) else np.zeros((0, self._dimension), np.float32)
        links = faiss.serialize_index(self._graph, faiss.IO_FLAG_SKIP_STORAGE).tobytes()
        return SavedGraph(links, np.asarray([self._nodes[key] for key in keys], dtype=np.int64), vectors)

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
        rows = _rows(vectors, graph)
        index._graph = _linked(graph.links, len(rows), index.dimension)
        index._flat.add(rows)
        index._graph.storage = index._flat
        index._graph.own_fields = False  # it is the index' own
        index._keys = [{} for _ in rows]
        index._by_digest = {_digest(row): node for node, row in enumerate(rows)}
        index._link(zip(keys, graph.nodes.tolist(), strict=True))
        index._settle()
        return index


def load_faiss() -> Any:
    """The module. MissingExtraError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError.for_package("faiss", "dense") from error
    return faiss


def _digest(vector: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def _built(flat: Any, nodes: NDArray[np.int64], *, with_graph: bool) -> tuple[Any, Any]:
    """The vectors of some nodes of ``flat``, one after another, and the graph that owns them or None."""
    faiss = load_faiss()
    new: Any = faiss.IndexFlatIP(flat.d)
    if with_graph:
        new = faiss.IndexHNSWFlat(flat.d, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        new.hnsw.efConstruction = _BEAM_ADDING
    with _one_thread():
        for start in range(0, len(nodes), _AT_ONCE):
            new.add(flat.reconstruct_batch(nodes[start : start + _AT_ONCE]))
    return (faiss.downcast_index(new.storage), new) if with_graph else (new, None)


def _rows(vectors: NDArray[np.float32], graph: SavedGraph) -> NDArray[np.float32]:
    """The vectors of all nodes. ValueError unless every node has one, and one only."""
    nodes, removed = graph.nodes, graph.removed
    if nodes.dtype != np.int64 or nodes.shape != vectors.shape[:1]:
        raise ValueError("not one node for each vector")
    if removed.dtype != np.float32 or removed.ndim != 2 or removed.shape[1] != vectors.shape[1]:
        raise ValueError("tombstones of another form")
    living = np.unique(nodes)
    total = len(living) + len(removed)
    if living[0] < 0 or living[-1] >= total:
        raise ValueError("nodes out of range")
    rows = np.empty((total, vectors.shape[1]), dtype=np.float32)
    rows[np.setdiff1d(np.arange(total), living)] = removed
    rows[nodes] = vectors
    if not np.array_equal(rows[nodes], vectors):
        raise ValueError("different vectors of one node")
    return rows


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


def _selector_of(nodes: Sequence[int] | NDArray[np.int64], total: int) -> Any:
    chosen = np.zeros(total, dtype=bool)
    chosen[nodes] = True
    return load_faiss().IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


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
