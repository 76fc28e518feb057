"""Does the right passage come first, does the reader quote the sentence with the answer, and how fast?

    python -m benchmarks.bench_retrieval

1,002 questions over 256 encyclopaedia passages, each ingested as a file through the real pipeline. Beside
every figure stands a plain baseline: BM25 over words between spaces, as LangChain's own retriever has it, BM25
over characters and their pairs in Python, and the sentence that shares most characters with the question.
The weights of the reader were fitted on these questions; ``python -m benchmarks.fit_sentence_weights``
cross-validates them.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import figure, medians, skipped
from benchmarks.question_set import DATA, AskedQuestion, QuestionSet, ingested, passage_number
from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.library.records import Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms import ExtractiveReader
from chinese_alpaca_rag.retrieval import LibraryRetriever
from chinese_alpaca_rag.sentences import sentence_spans

MANY = 20_000
MOST = 100_000
TIMED = 200


class PlainBM25:
    """Okapi BM25 over all documents in Python; ``split`` makes the terms."""

    def __init__(self, texts: Sequence[str], split: Callable[[str], list[str]]) -> None:
        self._split = split
        held = [Counter(split(text)) for text in texts]
        self._lengths = [sum(terms.values()) for terms in held]
        self._mean = statistics.fmean(self._lengths)
        self._postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, terms in enumerate(held):
            for term, count in terms.items():
                self._postings[term].append((number, count))

    def search(self, query: str, limit: int) -> list[int]:
        """The numbers of the best documents."""
        scores: defaultdict[int, float] = defaultdict(float)
        for term in set(self._split(query)):
            postings = self._postings.get(term, ())
            rarity = math.log1p((len(self._lengths) - len(postings) + 0.5) / (len(postings) + 0.5))
            for number, count in postings:
                norm = 1.2 * (0.25 + 0.75 * self._lengths[number] / self._mean)
                scores[number] += rarity * count * 2.2 / (count + norm)
        return sorted(scores, key=lambda number: -scores[number])[:limit]


@dataclass
class Ranks:
    """Where the right passage stood, question by question; 0 where it did not."""

    found: list[int]

    def recall(self, k: int) -> float:
        return sum(1 <= rank <= k for rank in self.found) / len(self.found)

    @property
    def reciprocal(self) -> float:
        return sum(1 / rank for rank in self.found if rank) / len(self.found)


def characters_and_pairs(text: str) -> list[str]:
    return [*text, *(text[start : start + 2] for start in range(len(text) - 1))]


def rank(questions: Sequence[AskedQuestion], search: Callable[[str], Sequence[int]]) -> Ranks:
    found = []
    for question in questions:
        passages = list(search(question.text))
        found.append(passages.index(question.passage) + 1 if question.passage in passages else 0)
    return Ranks(found)


def most_alike_sentence(question: str, passage: str) -> str:
    """The baseline reader: the sentence that shares the most different characters with the question."""
    sentences = [passage[start:end] for start, end in sentence_spans(passage)]
    return max(sentences, key=lambda sentence: len(set(sentence) & set(question)), default="")


def measure_recall(whole: QuestionSet, library: Library, characters: PlainBM25) -> None:
    retriever = LibraryRetriever(library=library)
    ours = rank(whole.questions, lambda text: [passage_number(d.metadata["source"]) for d in retriever.invoke(text)])
    by_spaces = PlainBM25(whole.passages, str.split)
    spaces = rank(whole.questions, lambda text: by_spaces.search(text, 12))
    plain = rank(whole.questions, lambda text: characters.search(text, 12))
    for k, target in ((1, 0.975), (5, 0.997)):
        medians(
            f"recall@{k}",
            library=ours.recall(k),
            bm25_over_characters=plain.recall(k),
            bm25_over_spaces=spaces.recall(k),
        )
        figure(f"retrieval_recall@{k}", ours.recall(k), ">=", target)
    medians("mean reciprocal rank", library=ours.reciprocal, bm25_over_characters=plain.reciprocal)
    figure("retrieval_mrr", ours.reciprocal, ">=", 0.98)


def measure_reader(whole: QuestionSet, library: Library, characters: PlainBM25) -> None:
    chain = create_qa_chain(ExtractiveReader(), LibraryRetriever(library=library))
    first = three = verified = cited = alike = 0
    seconds = []
    for question in whole.questions:
        if not question.text.strip():
            continue
        started = time.perf_counter()
        quotes = chain.invoke(question.text).citations
        seconds.append(time.perf_counter() - started)
        first += any(answer in citation.quote for answer in question.answers for citation in quotes[:1])
        three += any(answer in citation.quote for answer in question.answers for citation in quotes)
        verified += sum(citation.verified for citation in quotes)
        cited += len(quotes)
        best = characters.search(question.text, 1)
        quoted = most_alike_sentence(question.text, whole.passages[best[0]]) if best else ""
        alike += any(answer in quoted for answer in question.answers)
    count = len(whole.questions)
    medians("answer in the first sentence", reader=first / count, most_alike_sentence=alike / count)
    figure("extractive_first_sentence", first / count, ">=", 0.68)
    medians("answer in what is quoted", reader=three / count, sentences_quoted=cited / count)
    figure("extractive_first_three", three / count, ">=", 0.80)
    figure("extractive_verified", verified / cited, ">=", 1.0)
    figure("extractive_question_ms", 1000 * statistics.median(seconds), "<=", 50)


def measure_speed(
    name: str, questions: Sequence[str], library: Library, plain: PlainBM25, limits: tuple[int, int]
) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    for question in questions:
        for times, search in ((ours, library.search), (theirs, plain.search)):
            started = time.perf_counter()
            search(question, limit=12)
            times.append(1000 * (time.perf_counter() - started))
    for share, limit in zip((50, 95), limits, strict=True):
        at = statistics.quantiles(ours, n=100)[share - 1], statistics.quantiles(theirs, n=100)[share - 1]
        medians(f"{name}, p{share} in ms", library=at[0], bm25_in_python=at[1])
        figure(f"{name}_p{share}_ms", at[0], "<=", limit)


def recombined(whole: QuestionSet, count: int, *, altered: bool = False) -> list[str]:
    """``count`` passages of about 350 characters out of the set's sentences, each as it stands there or ``altered``."""
    generator = random.Random(1)
    everything = "".join(whole.passages)
    sentences = [passage[start:end] for passage in whole.passages for start, end in sentence_spans(passage)]
    passages: list[str] = []
    while len(passages) < count:
        passage = ""
        while len(passage) < 350:
            sentence = generator.choice(sentences)
            if altered:
                cut = generator.randrange(len(sentence) + 1)
                sentence = sentence[:cut] + "".join(generator.choices(everything, k=3)) + sentence[cut:]
            passage += sentence
        passages.append(passage)
    return passages


def files_among(whole: QuestionSet, count: int) -> list[tuple[str, Sequence[str]]]:
    """Paths and passages, shuffled: the set's, each in a file of its own, and ``count`` others in files of 80."""
    files: list[tuple[str, Sequence[str]]] = [
        (f"/{number}.txt", [passage]) for number, passage in enumerate(whole.passages)
    ]
    others = recombined(whole, count)
    files += [(f"/-{start + 1}.txt", others[start : start + 80]) for start in range(0, count, 80)]
    random.Random(3).shuffle(files)
    return files


def measure_among(whole: QuestionSet, count: int) -> None:
    """The same questions where each sentence of the right passage stands in many others as well."""
    with TemporaryDirectory() as folder, Library.open(Path(folder) / "library", create=True) as library:
        for path, passages in files_among(whole, count):
            put_passages(library, path, passages)
        found = rank(
            whole.questions,
            lambda text: [passage_number(passage.source) for passage, _ in library.search(text, limit=12)],
        )
        medians(f"among {count} others", recall_at_1=found.recall(1), recall_at_5=found.recall(5))
        if count == MANY:
            figure("retrieval_among_20000_recall@5", found.recall(5), ">=", 0.95)
        times = []
        with Library.open(library.folder, readonly=True) as opened:  # which remembers nothing of these questions
            for question in whole.questions:
                started = time.perf_counter()
                opened.search(question.text, limit=12)
                times.append(1000 * (time.perf_counter() - started))
        at = statistics.quantiles(times, n=100)
        medians(f"among {count} others, ms", p50=at[49], p95=at[94])
        if count == MOST:
            figure("retrieval_among_100000_p50_ms", at[49], "<=", 5)


def put_passages(library: Library, path: str, passages: Sequence[str]) -> None:
    pages = tuple(Page(page, text) for page, text in enumerate(passages, start=1))
    library.put_file(
        path=path,
        sha256=path,
        size=0,
        modified_ns=0,
        parser="",
        document=ParsedDocument("txt", Path(path).stem, pages),
        spans=[PassageSpan(page.number, 0, len(page.text)) for page in pages],
    )


def measure_many(whole: QuestionSet, questions: Sequence[str]) -> None:
    passages = recombined(whole, MANY, altered=True)
    with TemporaryDirectory() as folder, Library.open(Path(folder) / "library", create=True) as library:
        started = time.perf_counter()
        for number in range(0, MANY, 100):
            put_passages(library, f"/{number}.txt", passages[number : number + 100])
        figure("store_20000_passages_s", time.perf_counter() - started, "<=", 60)
        measure_speed("search_20000", questions, library, PlainBM25(passages, characters_and_pairs), (40, 80))


def main() -> None:
    if not DATA.exists():
        skipped("retrieval", "the shared question set is not on this machine")
        return
    whole = QuestionSet.from_squad(DATA)
    characters = PlainBM25(whole.passages, characters_and_pairs)
    asked = [question.text for question in whole.questions if question.text.strip()]
    random.Random(2).shuffle(asked)
    with ingested(whole.passages) as library:
        measure_recall(whole, library, characters)
        measure_reader(whole, library, characters)
        measure_speed("search_256", asked[:TIMED], library, characters, (15, 30))
    measure_many(whole, asked[:TIMED])
    for count in (MANY, MOST):
        measure_among(whole, count)


if __name__ == "__main__":
    main()
