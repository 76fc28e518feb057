"""How should full-text search and vectors be weighed, where nobody knows how good the embedding model is?

    python -m benchmarks.fit_fusion_weights

Prints recall at 1 and 5 of each choice, over the passages of the question set and over them and 5,000 others made of
their sentences. The vectors are a stand-in, hashed pairs of characters: far weaker than a real model, so that what is
measured is how much full-text search loses by a model that is of no use.
"""

from __future__ import annotations

import zlib
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from langchain_core.embeddings import Embeddings

from benchmarks.bench_retrieval import files_among, put_passages, rank
from benchmarks.question_set import DATA, QuestionSet, passage_number
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import HybridRetriever, LibraryRetriever, LibraryVectors

DIMENSION = 512


class HashedPairs(Embeddings):
    """Each pair of characters adds to one of 512 numbers, or takes from it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return list(map(self.embed_query, texts))

    def embed_query(self, text: str) -> list[float]:
        vector = np.full(DIMENSION, 1e-6)
        for start in range(len(text) - 1):
            number = zlib.crc32(text[start : start + 2].encode("utf-8", "replace"))
            vector[number % DIMENSION] += 1 if number & 1024 else -1
        return list(map(float, np.sign(vector) * np.sqrt(np.abs(vector))))


def numbers(retriever: HybridRetriever, text: str) -> list[int]:
    return [passage_number(document.metadata["source"]) for document in retriever.invoke(text)]


def main() -> None:
    if not DATA.exists():
        print("the shared question set is not on this machine")
        return
    whole = QuestionSet.from_squad(DATA)
    for count in (0, 5000):
        with TemporaryDirectory() as folder, Library.open(Path(folder) / "library", create=True) as library:
            for path, passages in files_among(whole, count):
                put_passages(library, path, passages)
            vectors = LibraryVectors(library, HashedPairs())
            vectors.embed_missing()
            for constant, weight in [(0, 0.0), *product((60, 10, 2, 0), (1.0, 0.5, 0.3))]:
                retriever = HybridRetriever(
                    lexical=LibraryRetriever(library=library), store=vectors, weights=(1.0, weight),
                    rank_constant=constant,
                )  # fmt: skip
                found = rank(whole.questions, partial(numbers, retriever))
                print(
                    f"{count} others, constant {constant}, vectors weigh {weight}: "
                    f"recall@1 {found.recall(1):.3f}, recall@5 {found.recall(5):.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
