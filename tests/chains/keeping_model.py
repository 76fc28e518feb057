"""The reading double with a memory: it holds the prompts it was sent last, and reports what it need not read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

from tests.chains.reading_model import ReadingModel


class KeepingModel(ReadingModel):
    """Holds ``holds`` prompts; a character is a token, as in counting."""

    holds: int = 32
    _held: list[str] = PrivateAttr(default_factory=list)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        prompt = "\n".join(message.text for message in messages)
        reused = max((_shared(prompt, held) for held in self._held), default=0)
        self._held = [prompt, *self._held][: self.holds]
        for chunk in super()._stream(messages, stop, run_manager, **kwargs):
            if isinstance(chunk.message, AIMessageChunk) and chunk.message.usage_metadata:
                chunk.message.usage_metadata["input_token_details"] = {"cache_read": reused}
            yield chunk


class RankedRetriever(BaseRetriever):
    """Finds ``k`` of what stands in ``rankings`` under the question."""

    rankings: dict[str, list[Document]]
    k: int = 4

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return self.rankings[query][: self.k if k is None else k]


def _shared(left: str, right: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
