"""Ways to search passages, behind one face: ours, and those that ``bench_retrieval_beside`` puts beside it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_retrieval import put_passages
from benchmarks.figures import skipped
from benchmarks.question_set import passage_number
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.sentences import sentence_spans

TIMED = 10_000  # passages of which a preparation is timed; its pace does not depend on their number
DIMENSION = 512
LIMIT = 12
CHROMA_BATCH = 5_000

Files = Sequence[tuple[str, Sequence[str]]]


class Preparation:
    """What has to be made of a text before it is indexed, made once, timed, and kept for all who need it."""

    def __init__(self, make: Callable[[str], Any], assemble: Callable[[str], Any] | None = None) -> None:
        self._make = make
        self._assemble = assemble or make
        self._kept: dict[str, Any] = {}

    def of(self, text: str) -> Any:
        """What was kept for ``text``, or what is made now, as for a question."""
        kept = self._kept.get(text)
        return self._make(text) if kept is None else kept

    def prepare(self, texts: Sequence[str]) -> float:
        """Keep what belongs to ``texts``: the seconds it takes, from the pace of the first ``TIMED``."""
        timed = texts[:TIMED]
        started = time.perf_counter()
        self._kept = {text: self._make(text) for text in timed}
        seconds = time.perf_counter() - started
        self._kept.update((text, self._assemble(text)) for text in texts[TIMED:])
        return seconds * sum(map(len, texts)) / sum(map(len, timed))


def jieba_words() -> Preparation:
    """Splits into words; past the timed passages, out of the words of the sentences, which come again and again."""
    import jieba

    jieba.setLogLevel("WARNING")
    jieba.initialize()
    sentences: dict[str, list[str]] = {}

    def assembled(text: str) -> list[str]:
        words: list[str] = []
        for start, end in sentence_spans(text):
            sentence = text[start:end]
            if sentence not in sentences:
                sentences[sentence] = jieba.lcut(sentence)
            words += sentences[sentence]
        return words

    return Preparation(jieba.lcut, assembled)


def pair_vector(text: str) -> Any:
    """The stand-in for an embedding: counts of pairs of characters, hashed with signs, of length 1."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    hashes = ((codes[:-1] << np.uint64(21)) + codes[1:]) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    signs = 1.0 - 2.0 * ((hashes >> np.uint64(16)) & np.uint64(1)).astype(np.float64)
    vector = np.bincount((hashes % np.uint64(DIMENSION)).astype(np.int64), signs, DIMENSION).astype(np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


class Engine(ABC):
    """One way to search; passages are known by the numbers of their files."""

    name: str
    rebuilt = False  # for each addition
    preparation: Preparation | None = None

    @abstractmethod
    def build(self, files: Files, folder: Path) -> None:
        """Index ``files``; ``folder`` is empty and for this engine alone."""

    @abstractmethod
    def search(self, question: str) -> list[int]:
        """The numbers of the best ``LIMIT`` passages' files, best first."""

    @abstractmethod
    def add(self, path: str, passages: Sequence[str]) -> None:
        """Index one more file."""

    @abstractmethod
    def close(self) -> None:
        """Give back files and texts."""


class OurLibrary(Engine):
    name = "library"

    def build(self, files: Files, folder: Path) -> None:
        self._folder = folder / "library"
        with Library.open(self._folder, create=True) as library:
            for path, passages in files:
                put_passages(library, path, passages)
        self._opened = Library.open(self._folder, readonly=True)

    def search(self, question: str) -> list[int]:
        return [passage_number(passage.source) for passage, _ in self._opened.search(question, limit=LIMIT)]

    def add(self, path: str, passages: Sequence[str]) -> None:
        with Library.open(self._folder) as library:
            put_passages(library, path, passages)

    def close(self) -> None:
        self._opened.close()


class InMemory(Engine):
    """Keeps texts and numbers side by side, as the programs that use such an index do."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self.made = preparation.of

    def build(self, files: Files, folder: Path) -> None:
        self.texts = [text for _, passages in files for text in passages]
        self.numbers = [passage_number(path) for path, passages in files for _ in passages]
        self.index(0)

    def add(self, path: str, passages: Sequence[str]) -> None:
        start = len(self.texts)
        self.texts += passages
        self.numbers += [passage_number(path)] * len(passages)
        self.index(0 if self.rebuilt else start)

    def close(self) -> None:
        self.texts, self.numbers = [], []

    @abstractmethod
    def index(self, start: int) -> None:
        """Index the texts from ``start`` on."""


class LangChainBM25(InMemory):
    name = "BM25Retriever"
    rebuilt = True

    def __init__(self, preparation: Preparation) -> None:
        import rank_bm25  # noqa: F401 - which the retriever imports only when it is built
        from langchain_community.retrievers import BM25Retriever

        super().__init__(preparation)
        self._class = BM25Retriever

    def index(self, start: int) -> None:
        metadatas = [{"number": number} for number in self.numbers]
        self._retriever = self._class.from_texts(self.texts, metadatas, preprocess_func=self.made, k=LIMIT)

    def search(self, question: str) -> list[int]:
        return [document.metadata["number"] for document in self._retriever.invoke(question)]


class BM25S(InMemory):
    name = "bm25s"
    rebuilt = True

    def __init__(self, preparation: Preparation) -> None:
        import bm25s

        super().__init__(preparation)
        self._class = bm25s.BM25

    def index(self, start: int) -> None:
        self._bm25 = self._class()
        self._bm25.index([self.made(text) for text in self.texts], show_progress=False)

    def search(self, question: str) -> list[int]:
        found, scores = self._bm25.retrieve([self.made(question)], k=LIMIT, show_progress=False)
        return [self.numbers[row] for row, score in zip(found[0], scores[0], strict=True) if score > 0]


class FaissFlat(InMemory):
    name = "FAISS_flat"

    def __init__(self, preparation: Preparation) -> None:
        import faiss

        super().__init__(preparation)
        self._new_index = faiss.IndexFlatIP

    def index(self, start: int) -> None:
        if start == 0:
            self._index = self._new_index(DIMENSION)
        self._index.add(np.stack([self.made(text) for text in self.texts[start:]]))

    def search(self, question: str) -> list[int]:
        _, found = self._index.search(self.made(question)[None], LIMIT)
        return [self.numbers[row] for row in found[0]]


class Chroma(InMemory):
    name = "Chroma"

    def __init__(self, preparation: Preparation) -> None:
        import chromadb

        super().__init__(preparation)
        self._chromadb = chromadb

    def build(self, files: Files, folder: Path) -> None:
        settings = self._chromadb.Settings(anonymized_telemetry=False)
        client = self._chromadb.PersistentClient(path=str(folder), settings=settings)
        self._collection = client.create_collection("passages", embedding_function=None, metadata={"hnsw:space": "ip"})
        super().build(files, folder)

    def index(self, start: int) -> None:
        for first in range(start, len(self.texts), CHROMA_BATCH):
            some = range(first, min(first + CHROMA_BATCH, len(self.texts)))
            self._collection.add(
                ids=[str(row) for row in some],
                embeddings=np.stack([self.made(self.texts[row]) for row in some]),
                documents=[self.texts[row] for row in some],
                metadatas=[{"number": self.numbers[row]} for row in some],
            )

    def search(self, question: str) -> list[int]:
        found = self._collection.query(
            query_embeddings=self.made(question)[None], n_results=LIMIT, include=["documents", "metadatas"]
        )
        return [int(metadata["number"]) for metadata in found["metadatas"][0]]


def installed_engines() -> list[Engine]:
    """Ours and all others whose packages are here."""
    engines: list[Engine] = [OurLibrary()]
    vectors = Preparation(pair_vector)
    words: list[Preparation] = []

    def split() -> Preparation:
        if not words:
            words.append(jieba_words())
        return words[0]

    makers: list[Callable[[], Engine]] = [
        lambda: LangChainBM25(split()),
        lambda: BM25S(split()),
        lambda: FaissFlat(vectors),
        lambda: Chroma(vectors),
    ]
    for name, make in zip(("BM25Retriever", "bm25s", "FAISS", "Chroma"), makers, strict=True):
        try:
            engines.append(make())
        except ImportError as error:
            skipped(f"retrieval_beside_{name}", f"{error.name} is not installed (make .venv/.bench)")
    return engines
