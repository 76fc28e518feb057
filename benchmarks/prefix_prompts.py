"""Prompts over documents, of a wanted length in tokens, as the question answering chain writes them."""

from __future__ import annotations

import random
from pathlib import Path

from langchain_core.messages import BaseMessage

from chinese_alpaca_rag.chains.prompts import DEFAULT_PROMPTS, fill, source_messages
from chinese_alpaca_rag.chains.sources import Excerpt, Source
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.sentences import sentence_spans

FIRST_QUESTION = "工作满十年的员工有几天年假？"
SECOND_QUESTION = "第二季度的收入是多少万元？"
SOURCE_CHARACTERS = 500
TEXTS = Path(__file__).resolve().parent.parent / "examples" / "documents"


def prompt_over(sources: list[Source], question: str) -> list[BaseMessage]:
    """The chain's messages for ``question`` over ``sources``."""
    texts = DEFAULT_PROMPTS.zh
    return source_messages(texts, sources, fill(texts.answer, question=question), language="zh")


def documents(model: LocalChat, tokens: int, seed: int) -> list[Source]:
    """Sources of sentences drawn by ``seed``, as many as make a prompt of about ``tokens`` tokens, never more."""
    draw = random.Random(seed)
    sentences = _sentences()
    sources: list[Source] = []
    while True:
        text = f"第{draw.randrange(10**9)}号文件。"
        while len(text) < SOURCE_CHARACTERS:
            text += draw.choice(sentences)
        number = len(sources) + 1
        name = f"{seed}-{number}"
        longer = [*sources, Source(number, Excerpt(f"{name}.txt", 1, 0, len(text), text, title=f"资料{name}"))]
        length = model.count_prompt_tokens(prompt_over(longer, SECOND_QUESTION))
        if length > tokens:
            if sources and tokens - model.count_prompt_tokens(prompt_over(sources, SECOND_QUESTION)) < 64:
                return sources
            return _filled(model, sources, longer[-1], tokens)
        sources = longer


def _filled(model: LocalChat, sources: list[Source], last: Source, tokens: int) -> list[Source]:
    """``sources`` and as much of the beginning of ``last`` as fits."""
    shortest, longest = 0, len(last.excerpt.text)
    while longest - shortest > 8:
        middle = (shortest + longest) // 2
        tried = [*sources, Source(last.number, last.excerpt.part(0, middle))]
        fits = model.count_prompt_tokens(prompt_over(tried, SECOND_QUESTION)) <= tokens
        shortest, longest = (middle, longest) if fits else (shortest, middle)
    return [*sources, Source(last.number, last.excerpt.part(0, shortest))]


def _sentences() -> list[str]:
    found = []
    for file in sorted(TEXTS.glob("*.md")) + sorted(TEXTS.glob("*.txt")):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [text[start:end].strip() for start, end in sentence_spans(text)]
    return [sentence for sentence in found if 12 <= len(sentence) <= 80]
