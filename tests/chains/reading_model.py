"""A chat model for testing chains: a double, with no language model in it.

It reads its prompt as text, and answers only with sentences that stand there. A token is a character,
except that two line breaks in a row are one: like a real tokenizer's, its counts do not add up over a
join. It refuses a prompt that does not fit its window.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from chinese_alpaca_rag.llms.interface import CountsPrompts, SourceText
from chinese_alpaca_rag.sentences import sentence_spans

TEMPLATE_TOKENS = 11
CHUNK = 7

_LABEL = re.compile(r"^\[(\d+)\] .*$", re.MULTILINE)
_QUESTION = re.compile(r"\n(?:问题：|Question: )(.*)\Z", re.DOTALL)

Manner = Literal["quote", "ramble", "nothing"]


class ReadingModel(BaseChatModel):
    """Quotes the sentences of its prompt that share most with the question, each with its number.

    ``manner`` "ramble" instead writes as much as ``rambling`` says, whatever is asked, and "nothing"
    always says that there is nothing. ``prompts`` are those it was sent, ``said`` counts the chunks it
    gave out, ``counted`` how often it was asked to count.
    """

    window: int = 4000
    max_tokens: int = 300
    manner: Manner = "quote"
    rambling: int = 300
    reports_usage: bool = True
    prompts: list[str] = Field(default_factory=list)
    said: int = 0
    counted: int = 0
    closed: int = 0
    pace: Any = None
    _guard: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "reading-double"

    def count_prompt_tokens(self, messages: Sequence[BaseMessage]) -> int:
        self.counted += 1
        return count_tokens(messages)

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
        tokens = count_tokens(messages)
        if tokens + self.max_tokens > self.window:
            raise AssertionError(f"{tokens} + {self.max_tokens} tokens do not fit a window of {self.window}")
        prompt = messages[-1].text
        with self._guard:
            self.prompts.append("\n".join(message.text for message in messages))
        reply = self._reply(prompt)
        cut = len(reply) > self.max_tokens and self.manner != "ramble"
        reply = reply[: self.max_tokens] if cut else reply
        try:
            for start in range(0, len(reply), CHUNK):
                if self.pace is not None:
                    self.pace()
                self.said += 1
                yield ChatGenerationChunk(message=AIMessageChunk(content=reply[start : start + CHUNK]))
        finally:
            self.closed += 1
        yield ChatGenerationChunk(message=self._last(tokens, len(reply), cut))

    def _last(self, sent: int, written: int, cut: bool) -> AIMessageChunk:
        usage: UsageMetadata = {
            "input_tokens": sent,
            "output_tokens": written,
            "total_tokens": sent + written,
            "input_token_details": {"cache_read": TEMPLATE_TOKENS},
        }
        return AIMessageChunk(
            content="",
            usage_metadata=usage if self.reports_usage else None,
            response_metadata={"model_name": "reading-double", "finish_reason": "length" if cut else "stop"},
        )

    def _reply(self, prompt: str) -> str:
        asked = _QUESTION.search(prompt)
        if self.manner == "ramble":
            return ("无休无止地写下去，一直没有停。" * self.rambling)[: self.rambling]
        if self.manner == "nothing":
            return "无相关内容。" if asked is None or "\n" in prompt else ""
        statements = _statements(prompt.rpartition("\n\n")[0])
        question = _pairs(asked.group(1)) if asked else set()
        best = sorted(statements, key=lambda statement: -len(_pairs(statement[0]) & question))[:3]
        return "\n".join(f"{text}[{number}]" for text, number in best) or "资料中没有提到。"


class SourceReadingModel(ReadingModel):
    """Takes the sources beside the messages, as the extractive reader does, and quotes their first sentences."""

    given: list[tuple[str, list[SourceText]]] = Field(default_factory=list)

    @property
    def reads_sources(self) -> bool:
        return True

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        self.given.append((kwargs["question"], kwargs["sources"]))
        for source in kwargs["sources"]:
            start, end = sentence_spans(source.text)[0]
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"“{source.text[start:end]}”[{source.number}]\n"))


def count_tokens(messages: Sequence[BaseMessage]) -> int:
    texts = [message.text for message in messages]
    return TEMPLATE_TOKENS + sum(len(text) - text.count("\n\n") for text in texts)


def shown_sources(prompt: str) -> dict[int, str]:
    """The numbered sources that a prompt shows, by number, without their labels (the task behind the last one goes)."""
    body = prompt.rpartition("\n\n")[0]
    labels = list(_LABEL.finditer(body))
    if not labels:
        return {}
    ends = [label.start() for label in labels[1:]] + [len(body)]
    return {int(label[1]): body[label.end() + 1 : end].strip("\n") for label, end in zip(labels, ends, strict=True)}


def _statements(body: str) -> list[tuple[str, int]]:
    """Sentences with the number of their source, from a block of sources or from notes."""
    sources = shown_sources(body + "\n\n")
    if sources:
        return [
            (text[start:end], number) for number, text in sources.items() for start, end in sentence_spans(text)[:20]
        ]
    return [(match[1].strip(), int(match[2])) for match in re.finditer(r"([^\[\]\n]+)\[(\d+)\]", body)]


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def _satisfies(model: ReadingModel) -> CountsPrompts:
    return model
