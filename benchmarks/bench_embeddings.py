"""How many passages a second are embedded on the CPU, beside sentence-transformers as it comes?

    python -m benchmarks.bench_embeddings

A model of bge-small-zh's shape (4 layers of 512, 8 heads, 21,128 pieces) with random weights; passages of the
question set, cut to between 60 and 500 characters. Both sides are given the same texts in turn. The similarity of the
vectors is that of single precision to 8-bit integers on random weights; a trained model's is to be measured on it.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.figures import figure, medians, skipped
from benchmarks.question_set import DATA, QuestionSet
from chinese_alpaca_rag.offline import stay_offline
from chinese_alpaca_rag.retrieval import LocalEmbeddings

TEXTS = 96
ROUNDS = 5


def main() -> None:
    if not DATA.exists():
        skipped("embeddings", "the shared question set is not on this machine")
        return
    stay_offline()
    from sentence_transformers import SentenceTransformer

    from tests.retrieval.toy_embedder import write_embedder

    generator = random.Random(0)
    passages = QuestionSet.from_squad(DATA).passages
    texts = [passage[: generator.randint(60, 500)] for passage in generator.sample(passages, TEXTS)]
    characters = "".join(sorted({character for passage in passages for character in passage if character.strip()}))
    with TemporaryDirectory() as folder:
        model = write_embedder(
            Path(folder) / "model", hidden=512, layers=4, heads=8, inner=2048, vocabulary=21_128, most=512,
            characters=characters,
        )  # fmt: skip
        usual = SentenceTransformer(str(model), device="cpu", local_files_only=True)
        sides = {
            "sentence_transformers": usual.encode,
            "float32": LocalEmbeddings(model, device="cpu").vectors,
            "int8": LocalEmbeddings(model, precision="int8").vectors,
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        vectors = {}
        for number in range(ROUNDS + 1):
            for name, side in sides.items():
                started = time.perf_counter()
                vectors[name] = side(texts)
                if number:  # the first round loads
                    rates[name].append(TEXTS / (time.perf_counter() - started))
    medians("passages a second", **{name: statistics.median(found) for name, found in rates.items()})
    paired = {
        name: statistics.median(
            ours / theirs for ours, theirs in zip(rates[name], rates["sentence_transformers"], strict=True)
        )
        for name in ("float32", "int8")
    }
    medians("times as fast as sentence-transformers", **paired)
    alike = float((vectors["int8"] * vectors["sentence_transformers"]).sum(axis=1).min())
    figure("embedding_int8_ratio", paired["int8"], ">=", 2)
    figure("embedding_int8_least_similarity", alike, ">=", 0.99)
    same = float(np.abs(vectors["float32"] - vectors["sentence_transformers"]).max())
    figure("embedding_float32_difference", same, "<=", 1e-4)


if __name__ == "__main__":
    main()
