"""The one core of the family's chat models: messages to ids, limits, streaming, usage, cancelling.

A backend's class (``gguf``, ``huggingface``) adds its own fields and says how its weights are opened;
everything that a LangChain user sees is here.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.catalogue import ModelCard, Sampling
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from chinese_alpaca_rag.family.template import Prompt, chat_template, render_prompt
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Backend, Logits, next_logits
from chinese_alpaca_rag.llms.generation import Generation, Request
from chinese_alpaca_rag.llms.headers import fingerprint, header, tokenizer
from chinese_alpaca_rag.llms.messages import as_turns, count_fragments
from chinese_alpaca_rag.llms.refusals import (
    check_names,
    check_stops,
    no_room_for_prompt,
    nothing_to_answer,
    prompt_overflow,
    wrong_format,
)
from chinese_alpaca_rag.llms.sampling import check_sampling
from chinese_alpaca_rag.llms.turns import Turns

#: What a single call may say otherwise than the model does.
CALL_FIELDS = ("temperature", "top_k", "top_p", "repetition_penalty", "max_tokens", "seed")


def _by_card(read: Callable[[ModelCard, dict[str, Any]], Any], *, frozen: bool = False) -> Any:
    """A field whose default comes from the checkpoint's card (and from the fields above it)."""
    return Field(default_factory=lambda data: read(header(data["model_path"]).card, data), frozen=frozen)


class ChatAlpaca(BaseChatModel):
    """A chat model of the family; the base of ``ChatAlpacaGGUF`` and ``ChatAlpacaHF``.

    Making one reads the checkpoint's header only; weights load at the first call and stay until
    ``close``. One object may be used by any number of threads; its answers are made one after another.
    Whatever is not said follows the model's own card; ``None`` means the same as not saying it.
    """

    model_config = ConfigDict(extra="forbid")

    model_path: Path = Field(frozen=True)
    """A GGUF file or a transformers folder, as the class expects."""
    alpha: float | Literal["auto"] | None = Field(default="auto", frozen=True)
    """NTK's alpha: "auto" follows the window, a number fixes it, ``None`` forbids NTK."""
    window: int = _by_card(lambda card, _: card.window, frozen=True)
    """The context window, in tokens: prompt and reply together."""
    max_tokens: int = _by_card(lambda card, fields: max(1, min(card.sampling.max_tokens, fields["window"] // 2)))
    """The longest reply, in tokens. The card's own figure never takes more than half of the window."""
    temperature: float = _by_card(lambda card, _: card.sampling.temperature)
    """0 chooses the likeliest token always."""
    top_k: int = _by_card(lambda card, _: card.sampling.top_k)
    """How many of the likeliest tokens are drawn from; 0 is all."""
    top_p: float = _by_card(lambda card, _: card.sampling.top_p)
    """The probability that the tokens drawn from have together."""
    repetition_penalty: float = _by_card(lambda card, _: card.sampling.repetition_penalty)
    """Divides the odds of the reply's last 64 tokens; 1.0 is none."""
    seed: int | None = None
    """Makes replies repeatable; ``None`` draws a fresh one for each."""
    stop: list[str] | None = None
    """Texts that end a reply and are no part of it."""
    streaming: bool = False
    """Whether ``invoke`` also reports each token to callbacks."""

    backend_format: ClassVar[Literal["gguf", "hf"]]

    _turns: Turns = PrivateAttr(default_factory=Turns)
    _backend: Backend | None = PrivateAttr(default=None)
    _checkpoint: Checkpoint = PrivateAttr()
    _plan: RopePlan = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _known_names_only(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = [name for name in cls.model_fields if name not in BaseChatModel.model_fields]
        check_names(cls.__name__, set(values) - set(BaseChatModel.model_fields), own)
        return {name: value for name, value in values.items() if value is not None or name == "alpha"}

    @field_validator("model_path")
    @classmethod
    def _home_is_known(cls, path: Path) -> Path:
        return path.expanduser()

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self._checkpoint = header(self.model_path)
        if self._checkpoint.format != self.backend_format:
            raise wrong_format(self._checkpoint)
        chat_template(self._checkpoint.card)
        self._plan = plan_rope(self._checkpoint.card, self.window, alpha=self.alpha)
        check_sampling(self._sampling(), self.seed)
        check_stops(self.stop)
        if self.max_tokens >= self.window:
            raise no_room_for_prompt(self.max_tokens, self.window)
        return self

    @abstractmethod
    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> Backend:
        """Open the weights. Raises ``CheckpointError``, ``ModelError`` or ``MissingExtraError``."""

    # What the model is.

    @property
    def model_name(self) -> str:
        """The name in the catalogue, or the file's own."""
        return self._checkpoint.name

    @property
    def checkpoint(self) -> Checkpoint:
        """What the checkpoint's header says."""
        return self._checkpoint

    @property
    def rope(self) -> RopePlan:
        """The rotary embedding that this window is opened with."""
        return self._plan

    @property
    def tokenizer(self) -> FamilyTokenizer:
        """The model's own tokenizer; weights stay where they are."""
        return tokenizer(self.model_path)

    @property
    def _llm_type(self) -> str:
        return f"chinese-alpaca-rag-{self.backend_format}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # LangChain's caches know an answer by these: whatever can change it has to be among them.
        return {
            "model_name": self.model_name,
            "model_path": str(self.model_path),
            "files": fingerprint(self.model_path),
            "rope": asdict(self._plan),
            "window": self.window,
            **{name: getattr(self, name) for name in CALL_FIELDS},
            "default_stop": self.stop,
        }

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
        return render_prompt(chat_template(self._checkpoint.card), as_turns(messages), self.tokenizer)

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
        if tools:
            raise WrongUsageError(
                Words(zh="本模型不能调用工具。", en="This model calls no tools."),
                hint=Words(zh="请不要传入 tools。", en="Leave tools out."),
            )
        turns = as_turns(messages)
        template = chat_template(self._checkpoint.card)
        try:
            return len(render_prompt(template, turns, self.tokenizer).ids)
        except WrongUsageError:
            return count_fragments(template, turns, self.tokenizer)

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
        self, messages: list[BaseMessage], stop: list[str] | None, overrides: dict[str, Any], cancelled: threading.Event
    ) -> ChatResult:
        generation = self._begin(messages, stop, overrides, cancelled)
        message = AIMessage(
            content="".join(generation.pieces()),
            usage_metadata=_usage(generation),
            response_metadata=self._response_metadata(generation),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, overrides: dict[str, Any], cancelled: threading.Event
    ) -> Generator[ChatGenerationChunk]:
        generation = self._begin(messages, stop, overrides, cancelled)
        with closing(generation.pieces()) as pieces:
            for piece in pieces:
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=_usage(generation),
                response_metadata=self._response_metadata(generation),
                chunk_position="last",
            )
        )

    def _begin(
        self, messages: list[BaseMessage], stop: list[str] | None, overrides: dict[str, Any], cancelled: threading.Event
    ) -> Generation:
        """Check everything that can be checked before anything is evaluated."""
        overrides = {name: value for name, value in overrides.items() if name != "stream"}
        check_names(f"{type(self).__name__}.invoke", overrides, CALL_FIELDS)
        sampling, seed = self._sampling(overrides), overrides.get("seed", self.seed)
        check_sampling(sampling, seed)
        stops = check_stops(self.stop if stop is None else stop)
        if not messages or as_turns(messages[-1:])[0].role != "user":
            raise nothing_to_answer()
        ids = self.render(messages).ids
        room = self._plan.window - len(ids)
        if room < 1:
            raise prompt_overflow(len(ids), self._plan.window, self._checkpoint.card)
        return Generation(
            Request(ids, replace(sampling, max_tokens=min(sampling.max_tokens, room)), seed, stops),
            self.tokenizer,
            turns=self._turns,
            open_backend=self._opened,
            cancelled=cancelled,
        )

    def _sampling(self, overrides: Mapping[str, Any] = MappingProxyType({})) -> Sampling:
        return Sampling(**{name: overrides.get(name, getattr(self, name)) for name in CALL_FIELDS if name != "seed"})

    def _response_metadata(self, generation: Generation) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "finish_reason": generation.finish_reason,
            "window": self._plan.window,
            "rope": asdict(self._plan),
        }

    # Weights.

    def next_token_logits(self, ids: Sequence[int]) -> Logits:
        """The logits after ``ids``, one for each id of the vocabulary. Loads the weights."""
        with self._alone():
            return next_logits(self._opened(), ids)

    def close(self) -> None:
        """Free weights and context, once an answer in progress has ended; the next call loads them again."""
        with self._alone():
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no answer is being made."""
        me = object()
        try:
            with self._turns.step(me):
                yield
        finally:
            self._turns.leave(me)

    def _opened(self) -> Backend:
        """The backend, loaded when it is not. Only inside a turn."""
        if self._backend is None:
            self._backend = self._load(self._checkpoint, self._plan)
        return self._backend


def _usage(generation: Generation) -> UsageMetadata:
    prompt_tokens = len(generation.request.ids)
    return UsageMetadata(
        input_tokens=prompt_tokens,
        output_tokens=generation.output_tokens,
        total_tokens=prompt_tokens + generation.output_tokens,
        input_token_details=InputTokenDetails(cache_read=generation.reused),
    )
