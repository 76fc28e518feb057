"""One run's calls of the model: streaming, usage, time, and stopping.

Parts are read one after another unless the config says otherwise (``max_concurrency``): a model on this
machine gains nothing from being asked by several threads, and not every one survives it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, patch_config

from chinese_alpaca_rag.chains.measuring import Measure
from chinese_alpaca_rag.chains.results import Place, Receipt, StrategyName
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.interface import SourceText

logger = logging.getLogger(__name__)
# Remarks reach callers with the last event; printing them unasked is not a library's business.
logger.addHandler(logging.NullHandler())

Prompt = Sequence[BaseMessage]
# Where models say why a reply ended, and what they say when it was cut at its longest.
_ENDINGS = ("finish_reason", "stop_reason", "done_reason")
_CUT = ("length", "max_tokens", "MAX_TOKENS")


class StoppedError(Exception):
    """The run was stopped from outside; raised in a thread that still reads for it."""


@dataclass(frozen=True)
class ReaderInput:
    """What a model that reads sources itself is given beside the messages."""

    question: str
    sources: tuple[SourceText, ...]


@dataclass
class ModelCalls:
    """The calls of one run, and what they took. ``began`` is ``time.monotonic()`` at its start."""

    model: Runnable[Any, Any]
    model_name: str
    measure: Measure
    config: RunnableConfig
    stop: threading.Event
    began: float
    prompt_tokens: int = 0
    reused_tokens: int = 0
    output_tokens: int = 0
    first_token_after: float | None = None
    cut_replies: int = 0
    remarks: list[Words] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def final(self, prompt: Prompt, name: str, reader: ReaderInput | None = None) -> Iterator[str]:
        """The final reply, piece by piece; the time of its first piece is kept."""
        for text in self._reply(prompt, name, reader):
            self.note_first_token()
            yield text

    def read_all(self, prompts: Sequence[Prompt], name: str) -> Iterator[tuple[int, str]]:
        """Each prompt's index and whole reply, in the order in which the replies are finished."""
        threads = self.config.get("max_concurrency") or 1
        if threads < 2 or len(prompts) < 2:
            for index, prompt in enumerate(prompts):
                yield index, self._read(prompt, f"{name} {index + 1}/{len(prompts)}")
            return
        executor = ContextThreadPoolExecutor(max_workers=min(threads, len(prompts)))
        try:
            futures = {
                executor.submit(self._read, prompt, f"{name} {index + 1}/{len(prompts)}"): index
                for index, prompt in enumerate(prompts)
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            self.stop.set()
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def take(self, prompt: Prompt, reply: BaseMessage) -> str:
        """The final reply where it was made together with others: its text, accounted for as one of this run's."""
        usage = _Usage()
        usage.add(reply)
        text = str(reply.text)
        self._account(prompt, text, usage)
        self.note_first_token()
        return text

    def note_first_token(self) -> None:
        """The final reply has begun."""
        if self.first_token_after is None:
            self.first_token_after = time.monotonic() - self.began

    def remark(self, words: Words) -> None:
        """Keep what the caller should know, and log it for those who only take the result."""
        logger.warning("%s", words)
        self.remarks.append(words)

    def receipt(self, strategy: StrategyName, used: int, dropped: tuple[Place, ...] = (), *, kept: int = 0) -> Receipt:
        """The receipt of everything so far; ``kept`` of the ``used`` passages were not found for this run."""
        if self.cut_replies:
            replies = self.cut_replies
            self.remark(
                Words(
                    zh=f"有 {replies} 次回答达到了长度上限（max_tokens），没有写完。",
                    en=f"{replies} of the replies reached max_tokens and ended there, unfinished.",
                )
            )
        seconds = time.monotonic() - self.began
        return Receipt(
            model=self.model_name,
            strategy=strategy,
            window=self.measure.window,
            prompt_tokens=self.prompt_tokens,
            reused_tokens=self.reused_tokens,
            evaluated_tokens=self.prompt_tokens - self.reused_tokens,
            output_tokens=self.output_tokens,
            passages_used=used,
            passages_kept=kept,
            passages_dropped=len(dropped),
            seconds_to_first_token=seconds if self.first_token_after is None else self.first_token_after,
            seconds=seconds,
            dropped=dropped,
            remarks=tuple(map(str, self.remarks)),
        )

    def _read(self, prompt: Prompt, name: str) -> str:
        return "".join(self._reply(prompt, name, None)).strip()

    def _reply(self, prompt: Prompt, name: str, reader: ReaderInput | None) -> Iterator[str]:
        self._check_stop()
        given = {} if reader is None else {"question": reader.question, "sources": list(reader.sources)}
        stream = self.model.stream(list(prompt), patch_config(self.config, run_name=name), **given)
        texts: list[str] = []
        usage = _Usage()
        with closing(_closable(stream)) as chunks:
            for chunk in chunks:
                self._check_stop()
                usage.add(chunk)
                text = str(chunk.text)
                if text:
                    texts.append(text)
                    yield text
        self._account(prompt, "".join(texts), usage)

    def _account(self, prompt: Prompt, reply: str, usage: _Usage) -> None:
        counted = self.measure.window is not None
        sent, written = usage.tokens or (
            (self.measure.count(prompt), self.measure.count_text(reply)) if counted else (0, 0)
        )
        with self._guard:
            self.prompt_tokens += sent if counted else 0
            self.output_tokens += written if counted else 0
            self.reused_tokens += min(max(0, usage.reused), sent) if counted else 0
            self.cut_replies += usage.cut
            self.model_name = usage.model_name or self.model_name

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise StoppedError


class _Usage:
    """What the chunks of one reply say about it; token counts add up over chunks, by LangChain's rule."""

    def __init__(self) -> None:
        self.tokens: tuple[int, int] | None = None
        self.reused = 0
        self.cut = False
        self.model_name = ""

    def add(self, chunk: BaseMessage) -> None:
        usage = getattr(chunk, "usage_metadata", None)
        if usage:
            sent, written = self.tokens or (0, 0)
            self.tokens = (sent + usage.get("input_tokens", 0), written + usage.get("output_tokens", 0))
            self.reused += (usage.get("input_token_details") or {}).get("cache_read", 0) or 0
        known = chunk.response_metadata
        self.cut = self.cut or any(known.get(key) in _CUT for key in _ENDINGS)
        self.model_name = str(known.get("model_name") or self.model_name)


def _closable(stream: Iterator[Any]) -> Any:
    """``stream`` itself if it can be closed, else the same in a generator."""
    return stream if hasattr(stream, "close") else (chunk for chunk in stream)
