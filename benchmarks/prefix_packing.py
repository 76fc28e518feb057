"""How much of their prompts do questions over one library have to have evaluated, by the way sources are laid out?

Questions over encyclopaedia passages, drawn with a Zipf law over the passages that they are about: 200 one by one,
and conversations of three about one passage. Each prompt is the real chain's, in the family's own tokens, and what
need not be evaluated is its longest common beginning with one of the prompts before it that are held. Compared are
the order of the ranking, canonical order, and canonical order behind the beginnings of earlier prompts. No weights
are needed: which tokens prompts have in common is a matter of the prompts.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from benchmarks.figures import figure, medians, skipped
from benchmarks.question_set import DATA, AskedQuestion, QuestionSet, ingested, passage_number
from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.chains.packings import Packing, PackingMemory, RecentPackings
from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, fill, source_messages
from chinese_alpaca_rag.chains.sources import excerpts_of, lay_out
from chinese_alpaca_rag.family.template import render_prompt
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.llms.messages import as_turns
from chinese_alpaca_rag.retrieval import LibraryRetriever

TOKENIZER = DATA.parent / "tokenizer" / "tokenizer.model"
QUESTIONS = 200
TURNS = 3
EXPONENTS = (1.0, 1.1)
SEEDS = (1, 2)
# A 7B model's prompts of this length take some 60,000 tokens: 30 GiB in half precision, 16 in q8_0.
HELD = 32
WINDOW = 16_384
PASSAGES = 12


@dataclass
class Tally:
    """The prompts of one run, in tokens.

    ``found`` counts the questions with their own document in the prompt, ``complete`` those with every passage there
    that the retriever found, and ``kept`` the passages that stood in prompts without having been found.
    """

    prompts: int = 0
    tokens: int = 0
    evaluated: int = 0
    found: int = 0
    complete: int = 0
    kept: int = 0
    _held: deque[tuple[int, ...]] = field(default_factory=lambda: deque(maxlen=HELD))

    def read(self, ids: tuple[int, ...]) -> int:
        """Read one prompt; the number of tokens that were held. The last one is always evaluated."""
        reused = min(max((shared(ids, held) for held in self._held), default=0), len(ids) - 1)
        self._held.append(ids)
        self.prompts += 1
        self.tokens += len(ids)
        self.evaluated += len(ids) - reused
        return reused


class PromptsOnly(BaseChatModel):
    """Renders and counts prompts as the family's 7B-16K does, and holds the last of them; it answers nothing."""

    tally: Any
    tokenizer: Any
    window: int = WINDOW
    max_tokens: int = 512
    _sent: str = PrivateAttr(default="")

    @property
    def _llm_type(self) -> str:
        return "prompts-only"

    @property
    def sent(self) -> str:
        """The text of the last prompt."""
        return self._sent

    def ids(self, messages: Sequence[BaseMessage]) -> tuple[int, ...]:
        return render_prompt("alpaca-2", as_turns(messages), self.tokenizer).ids

    def count_prompt_tokens(self, messages: Sequence[BaseMessage]) -> int:
        return len(self.ids(messages))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        ids = self.ids(messages)
        if len(ids) + self.max_tokens > self.window:
            raise AssertionError(f"a prompt of {len(ids)} tokens for a window of {self.window}")
        self._sent = messages[-1].text
        usage = UsageMetadata(
            input_tokens=len(ids),
            output_tokens=1,
            total_tokens=len(ids) + 1,
            input_token_details={"cache_read": self.tally.read(ids)},
        )
        yield ChatGenerationChunk(message=AIMessageChunk(content="。", usage_metadata=usage))


class NothingRemembered(RecentPackings):
    """Leaves every prompt in canonical order."""

    def remember(self, packing: Packing) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Run:
    """What the questions are asked of."""

    whole: QuestionSet
    retriever: LibraryRetriever
    tokenizer: FamilyTokenizer

    def in_score_order(self, asked: Sequence[int]) -> Tally:
        """Prompts as a chain writes them that takes passages as they are ranked."""
        tally, texts = Tally(), DEFAULT_PROMPTS.zh
        model = PromptsOnly(tally=tally, tokenizer=self.tokenizer)
        for number in asked:
            question = self.whole.questions[number]
            sources = lay_out(excerpts_of(self.retriever.invoke(question.text)), canonical=False)
            task = fill(texts.answer, question=question.text)
            list(model.stream(source_messages(texts, sources, task, language="zh")))
            self._look_for_what_was_found(question, model.sent, tally)
        return tally

    def by_the_chain(self, asked: Sequence[int], packings: PackingMemory) -> Tally:
        """The question answering chain's own prompts."""
        tally = Tally()
        model = PromptsOnly(tally=tally, tokenizer=self.tokenizer)
        chain = create_qa_chain(model, self.retriever, packings=packings)
        for number in asked:
            question = self.whole.questions[number]
            tally.kept += chain.invoke(question.text).receipt.passages_kept
            self._look_for_what_was_found(question, model.sent, tally)
        return tally

    def in_one_go(self, asked: Sequence[int]) -> Tally:
        """The same chain, given all questions at once; how it is with what was found is tested elsewhere."""
        tally = Tally()
        model = PromptsOnly(tally=tally, tokenizer=self.tokenizer)
        answers = create_qa_chain(model, self.retriever).batch([self.whole.questions[number].text for number in asked])
        tally.kept = sum(answer.receipt.passages_kept for answer in answers)
        return tally

    def _look_for_what_was_found(self, question: AskedQuestion, sent: str, tally: Tally) -> None:
        documents = self.retriever.invoke(question.text)
        shown = [document for document in documents if document.page_content in sent]
        tally.complete += len(shown) == len(documents)
        tally.found += any(passage_number(document.metadata["source"]) == question.passage for document in shown)


def measure() -> None:
    """Print the share of tokens evaluated for each order of the sources."""
    if not (DATA.exists() and TOKENIZER.exists()):
        skipped("sticky packing", "the shared question set and tokenizer are not on this machine")
        return
    whole = QuestionSet.from_squad(DATA)
    with ingested(whole.passages) as library:
        run = Run(whole, LibraryRetriever(library=library, k=PASSAGES), FamilyTokenizer.from_file(TOKENIZER))
        for name, draw in (("", one_by_one), ("_conversations", conversations)):
            tallies: defaultdict[str, list[Tally]] = defaultdict(list)
            for exponent in EXPONENTS:
                for seed in SEEDS:
                    asked = draw(whole, random.Random(seed), exponent)
                    tallies["score"].append(run.in_score_order(asked))
                    tallies["canonical"].append(run.by_the_chain(asked, NothingRemembered()))
                    tallies["sticky"].append(run.by_the_chain(asked, RecentPackings()))
                    tallies["in_one_go"].append(run.in_one_go(asked))
            show(name, tallies)


def show(name: str, tallies: dict[str, list[Tally]]) -> None:
    """The figures of one kind of questions, over all draws together."""

    def per(order: str, value: str, base: str = "prompts") -> float:
        runs = tallies[order]
        return float(sum(getattr(run, value) for run in runs) / sum(getattr(run, base) for run in runs))

    shares = {order: per(order, "evaluated", "tokens") for order in tallies}
    told = f"questions{name.replace('_', ' in ')}"
    medians(f"{told}, tokens evaluated of the prompts' tokens", **shares)
    medians(
        f"{told}, per prompt",
        tokens_in_score_order=per("score", "tokens"),
        tokens_sticky=per("sticky", "tokens"),
        evaluated_in_score_order=per("score", "evaluated"),
        evaluated_sticky=per("sticky", "evaluated"),
        evaluated_in_one_go=per("in_one_go", "evaluated"),
        passages_kept=per("sticky", "kept"),
        passages_kept_in_one_go=per("in_one_go", "kept"),
    )
    medians(
        f"{told}, sticky against score order",
        tokens_evaluated=per("sticky", "evaluated") / per("score", "evaluated"),
        recall=per("sticky", "found") / per("score", "found"),
    )
    figure(f"sticky_evaluated_share{name}", shares["sticky"], "<=", 0.5)
    figure(f"sticky_against_score_order_share{name}", shares["sticky"] / shares["score"], "<=", 0.5)
    figure(f"sticky_prompts_with_all_that_was_found{name}", per("sticky", "complete"), ">=", 1.0)


def one_by_one(whole: QuestionSet, draw: random.Random, exponent: float) -> list[int]:
    """Questions about passages drawn with a Zipf law, each time any question about the passage."""
    about = by_passage(whole)
    return [draw.choice(about[passage]) for passage in zipf(draw, sorted(about), QUESTIONS, exponent)]


def conversations(whole: QuestionSet, draw: random.Random, exponent: float) -> list[int]:
    """Several different questions in a row about each passage."""
    about = by_passage(whole)
    talked_about = [passage for passage in sorted(about) if len(about[passage]) >= TURNS]
    asked: list[int] = []
    for passage in zipf(draw, talked_about, -(-QUESTIONS // TURNS), exponent):
        asked += draw.sample(about[passage], TURNS)
    return asked[:QUESTIONS]


def zipf(draw: random.Random, items: Sequence[int], count: int, exponent: float) -> list[int]:
    """``count`` of ``items``, the one at rank r with a probability that falls as r to the power of ``-exponent``."""
    ranked = list(items)
    draw.shuffle(ranked)
    return draw.choices(ranked, [1 / rank**exponent for rank in range(1, len(ranked) + 1)], k=count)


def by_passage(whole: QuestionSet) -> dict[int, list[int]]:
    """The numbers of the questions about each passage."""
    about: defaultdict[int, list[int]] = defaultdict(list)
    for number, question in enumerate(whole.questions):
        if question.text.strip():
            about[question.passage].append(number)
    return dict(about)


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """How many ids two prompts begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


if __name__ == "__main__":
    measure()
