"""Our full-text search beside what people use otherwise: to build, to add a file to, to ask, and what it finds.

    python -m benchmarks.bench_retrieval_beside

``Library`` is on disk, every file durable before the next one is taken, and is asked from a freshly opened one, which
remembers nothing. LangChain's BM25Retriever and bm25s, both over jieba's words, and FAISS (flat) are in memory; what
it takes to save and load them is not counted. Chroma is on disk. Questions and additions go to all in turn, in one
process. An addition ends when a search has found it. BM25Retriever and bm25s must be built again for one; they are
let off splitting the old passages again.

FAISS and Chroma get pairs of characters hashed to 512 dimensions: a stand-in that costs next to nothing where an
embedding model would take milliseconds to seconds a passage. Compare their speed and cost; their recall is the
stand-in's and says nothing about that of embeddings.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench_retrieval import Ranks, files_among, recombined
from benchmarks.figures import figure, medians, skipped
from benchmarks.question_set import DATA, AskedQuestion, QuestionSet, passage_number
from benchmarks.search_engines import TIMED, Chroma, Engine, Files, installed_engines
from chinese_alpaca_rag.offline import stay_offline

QUESTIONS = {1_000: 200, 10_000: 200, 100_000: 100}  # at each number of passages
MOST = max(QUESTIONS)
ADDED = 10  # passages in a file that is added
ADDITIONS = 3
CHROMA_LIMIT = 90  # seconds to build, so that the whole run stays near five minutes; a longer build is left out


@dataclass
class Measured:
    """What was measured of one engine at one number of passages."""

    build: float  # seconds, without the preparation
    preparing: float
    search: list[float] = field(default_factory=list)  # ms
    found: list[int] = field(default_factory=list)
    add: list[float] = field(default_factory=list)  # seconds

    @property
    def ranks(self) -> Ranks:
        return Ranks(self.found)

    def search_at(self, share: int) -> float:
        """A percentile of the milliseconds of a search."""
        return statistics.quantiles(self.search, n=100)[share - 1]


def build_all(engines: Sequence[Engine], files: Files, folder: Path) -> dict[str, Measured]:
    texts = [text for _, passages in files for text in passages]
    preparations = {id(one.preparation): one.preparation for one in engines if one.preparation is not None}
    preparing = {key: preparation.prepare(texts) for key, preparation in preparations.items()}
    measured = {}
    for engine in engines:
        place = folder / engine.name
        place.mkdir()
        started = time.perf_counter()
        engine.build(files, place)
        seconds = time.perf_counter() - started
        measured[engine.name] = Measured(seconds, preparing.get(id(engine.preparation), 0.0))
    return measured


def in_turn(engines: Sequence[Engine], number: int) -> list[Engine]:
    """All engines, another one first each time."""
    first = number % len(engines)
    return [*engines[first:], *engines[:first]]


def ask_all(engines: Sequence[Engine], questions: Sequence[AskedQuestion], measured: dict[str, Measured]) -> None:
    gc.freeze()  # the millions of objects of one index are not to be walked during another's search
    for number, question in enumerate(questions):
        for engine in in_turn(engines, number):
            started = time.perf_counter()
            passages = engine.search(question.text)
            measured[engine.name].search.append(1000 * (time.perf_counter() - started))
            found = question.passage in passages
            measured[engine.name].found.append(passages.index(question.passage) + 1 if found else 0)
    gc.unfreeze()


def add_to_all(engines: Sequence[Engine], passages: Sequence[str], measured: dict[str, Measured], count: int) -> None:
    """Add files of ``ADDED`` passages each; among the most, only one to those that are built again for it."""
    for number in range(ADDITIONS):
        added = passages[number * ADDED : (number + 1) * ADDED]
        path = f"/{1_000_000 + number}.txt"
        for engine in in_turn(engines, number):
            if engine.rebuilt and number and count >= MOST:
                continue
            started = time.perf_counter()
            engine.add(path, added)
            found = engine.search(added[0])
            measured[engine.name].add.append(time.perf_counter() - started)
            assert passage_number(path) in found, f"{engine.name} does not find what was added"


def print_tables(count: int, measured: dict[str, Measured]) -> None:
    name = f"{count} passages"
    words, vectors = ("BM25Retriever", "bm25s"), ("FAISS_flat", "Chroma")
    for what, group in (("words by jieba", words), ("stand-in vectors", vectors)):
        held = [measured[one] for one in group if one in measured]
        if held:
            basis = "timed" if count <= TIMED else f"from the pace of {TIMED}"
            medians(f"{name}, {what}, to be added to the build, s, {basis}", all_passages=held[0].preparing)
    tables: dict[str, Callable[[Measured], float]] = {
        "build in s": lambda one: one.build,
        f"one more file of {ADDED} passages until found, ms": lambda one: 1000 * statistics.median(one.add),
        "search p50 in ms": lambda one: one.search_at(50),
        "search p95 in ms": lambda one: one.search_at(95),
    }
    for title, value in tables.items():
        medians(f"{name}, {title}", **{key: value(one) for key, one in measured.items()})
    for k in (1, 5):
        recall = {key: one.ranks.recall(k) for key, one in measured.items()}
        medians(f"{name}, recall@{k}", **{key: value for key, value in recall.items() if key not in vectors})
        stand_in = {key: value for key, value in recall.items() if key in vectors}
        if stand_in:
            medians(f"{name}, recall@{k} of the stand-in vectors, not of embeddings", **stand_in)


def print_figures(count: int, measured: dict[str, Measured]) -> None:
    ours = measured["library"]
    others = [one for name, one in measured.items() if name != "library"]
    if others:
        for k in (1, 5):
            best = max(one.ranks.recall(k) for one in others)
            figure(f"retrieval_beside_{count}_recall@{k}_above_best", ours.ranks.recall(k) - best, ">=", 0)
    langchain = measured.get("BM25Retriever")
    if count == MOST and langchain is not None:
        added = statistics.median(ours.add) / statistics.median(langchain.add)
        figure(f"retrieval_beside_{count}_add_vs_BM25Retriever", added, "<=", 0.05)
        asked = ours.search_at(50) / langchain.search_at(50)
        figure(f"retrieval_beside_{count}_p50_vs_BM25Retriever", asked, "<=", 0.2)


def left_out(engine: Engine, count: int, former: dict[str, Measured]) -> bool:
    """Whether Chroma would take too long, by what it took for a tenth; a graph's build grows as n log n."""
    if not isinstance(engine, Chroma) or count < MOST or engine.name not in former:
        return False
    expected = 12.5 * former[engine.name].build
    if expected <= CHROMA_LIMIT:
        return False
    skipped(f"retrieval_beside_{count}_Chroma", f"would take about {expected:.0f} s to build, over {CHROMA_LIMIT}")
    return True


def measure(whole: QuestionSet, engines: Sequence[Engine], count: int) -> dict[str, Measured]:
    others = count - len(whole.passages)
    asked = [question for question in whole.questions if question.text.strip()]
    questions = random.Random(7).sample(asked, QUESTIONS[count])
    additions = recombined(whole, ADDITIONS * ADDED, altered=True)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        measured = build_all(engines, files_among(whole, others), Path(folder))
        ask_all(engines, questions, measured)
        add_to_all(engines, additions, measured, count)
        for engine in engines:
            engine.close()
    rounds = ", ".join(f"{engine.name} {len(measured[engine.name].add)}" for engine in engines)
    print(f"{count} passages: {len(questions)} questions, files added: {rounds}", flush=True)
    print_tables(count, measured)
    print_figures(count, measured)
    return measured


def main() -> None:
    if not DATA.exists():
        skipped("retrieval_beside", "the shared question set is not on this machine")
        return
    stay_offline()
    whole = QuestionSet.from_squad(DATA)
    measured: dict[str, Measured] = {}
    engines = installed_engines()
    for count in QUESTIONS:
        engines = [engine for engine in engines if not left_out(engine, count, measured)]
        measured = measure(whole, engines, count)


if __name__ == "__main__":
    main()
