"""The one core of the family's chat models: messages to ids, limits, streaming, usage, cancelling.

A backend's class adds its own fields and says how an answer is made; everything that a LangChain user sees
is here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, ClassVar, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import run_in_executor

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.template import Prompt, Turn, chat_template, render_prompt
from chinese_alpaca_rag.llms.family_model import FamilyModel, usage
from chinese_alpaca_rag.llms.messages import as_turns, count_fragments
from chinese_alpaca_rag.llms.refusals import nothing_to_answer
from chinese_alpaca_rag.llms.request import Answer, Request


class ChatAlpaca(FamilyModel, BaseChatModel):
    """A chat model of the family; the base of ``ChatAlpacaGGUF``, ``ChatAlpacaHF`` and ``ChatAlpacaEndpoint``."""

    streaming: bool = False
    """Whether ``invoke`` also reports each token to callbacks."""

    _langchain_fields: ClassVar[frozenset[str]] = frozenset(BaseChatModel.model_fields)

    def _check_model(self) -> None:
        super()._check_model()
        chat_template(self.card)

    @property
    def _llm_type(self) -> str:
        return "chinese-alpaca-rag"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._identity()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "chinese-alpaca-rag"
        params["ls_model_name"] = str(kwargs.get("model", self.model_name))
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(
            max_input_tokens=self.window - 1,
            max_output_tokens=self.max_tokens,
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            tool_calling=False,
            structured_output=False,
        )

    # Counting: exact, and without weights.

    def render(self, messages: Sequence[BaseMessage]) -> Prompt:
        """The prompt that ``messages`` become, in token ids. Raises ``WrongUsageError`` for what is none."""
        return self._rendered(as_turns(messages))

    def _rendered(self, turns: Sequence[Turn]) -> Prompt:
        return render_prompt(chat_template(self.card), turns, self.tokenizer)

    def count_prompt_tokens(self, messages: Sequence[BaseMessage]) -> int:
        """The length in tokens of the prompt that ``messages`` become, template and BOS included."""
        return len(self.render(messages).ids)

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of ``text`` on its own, without BOS."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.tokenizer.encode(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """As ``count_prompt_tokens``; what is no whole conversation yet (LangChain's ``trim_messages`` counts
        such) is counted turn by turn and never comes out too low by a template's words.
        """
        turns = as_turns(messages)
        try:
            return len(self._rendered(turns).ids)
        except WrongUsageError:
            return count_fragments(chat_template(self.card), turns, self.tokenizer)

    # Answering.

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._answer(messages, stop, kwargs, threading.Event())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        cancelled = threading.Event()
        try:
            return await run_in_executor(None, self._answer, messages, stop, kwargs, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return self._chunks(messages, stop, kwargs, threading.Event())

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        cancelled = threading.Event()
        chunks = self._chunks(messages, stop, kwargs, cancelled)
        try:
            while (chunk := await run_in_executor(None, next, chunks, None)) is not None:
                yield chunk
        finally:
            cancelled.set()
            # A step still running in its thread cannot be closed from here: it sees the event and ends.
            with suppress(ValueError):
                chunks.close()

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any], cancelled: threading.Event
    ) -> ChatResult:
        answer = self._whole_answer_to(self._prepare(messages, stop, arguments), cancelled)
        message = AIMessage(
            content="".join(answer.pieces()),
            usage_metadata=usage(answer),
            response_metadata=self._response_metadata(answer) | self._logprobs(answer),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _whole_answer_to(self, request: Request, cancelled: threading.Event) -> Answer:
        """As ``_answer_to``, for an answer that is not streamed."""
        return self._answer_to(request, cancelled)

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any], cancelled: threading.Event
    ) -> Generator[ChatGenerationChunk]:
        answer = self._answer_to(self._prepare(messages, stop, arguments), cancelled)
        told = 0
        with closing(answer.pieces()) as pieces:
            for piece in pieces:
                metadata = self._logprobs(answer, told)
                told = len(answer.logprobs)
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece, response_metadata=metadata))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=usage(answer),
                response_metadata=self._response_metadata(answer) | self._logprobs(answer, told),
                chunk_position="last",
            )
        )

    def _prepare(self, messages: list[BaseMessage], stop: list[str] | None, arguments: Mapping[str, Any]) -> Request:
        """Check everything that can be checked before anything is evaluated."""
        overrides = self._overrides(arguments)
        turns = as_turns(messages)
        if not turns or turns[-1].role != "user":
            raise nothing_to_answer()

        def under(system: str) -> tuple[int, ...]:
            others = [turn for turn in turns if turn.role != "system"]
            return self._rendered([Turn("system", system), *others]).ids

        return self._request(self._rendered(turns).ids, stop, overrides, under=under)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the model holds; the next call takes it again."""
