"""Which weights of full-text search find the right passage most often?

    python -m benchmarks.fit_lexical_weights

Prints, for each choice, recall at 1 and 5 over the passages of the question set, and over them and 20,000 others
made of their sentences. A larger k1 and a smaller b find more among the others; alone, a smaller k1 finds a few more.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench_retrieval import MANY, Ranks, files_among, put_passages, rank
from benchmarks.question_set import DATA, QuestionSet, passage_number
from chinese_alpaca_rag.library import search
from chinese_alpaca_rag.library.store import Library


def ranks(whole: QuestionSet, library: Library) -> Ranks:
    return rank(
        whole.questions, lambda text: [passage_number(found.source) for found, _ in library.search(text, limit=5)]
    )


def main() -> None:
    if not DATA.exists():
        print("the shared question set is not on this machine")
        return
    whole = QuestionSet.from_squad(DATA)
    with TemporaryDirectory() as folder:
        alone = Library.open(Path(folder) / "alone", create=True)
        among = Library.open(Path(folder) / "among", create=True)
        for number, passage in enumerate(whole.passages):
            put_passages(alone, f"/{number}.txt", [passage])
        for path, passages in files_among(whole, MANY):
            put_passages(among, path, passages)
        for k1, b, triple in product((0.9, 1.2, 2.0), (0.0, 0.1, 0.4), (0.0, 0.3, 0.6)):
            search.K1, search.B, search.TRIPLE = k1, b, triple
            first, second = ranks(whole, alone), ranks(whole, among)
            print(
                f"k1={k1} b={b} triple={triple}: alone {first.recall(1):.4f} {first.recall(5):.4f}, "
                f"among others {second.recall(1):.4f} {second.recall(5):.4f}",
                flush=True,
            )
        alone.close()
        among.close()


if __name__ == "__main__":
    main()
