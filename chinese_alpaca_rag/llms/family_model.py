"""What every model of the family has in LangChain: chat or completion, on this machine or behind a server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Self

from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from chinese_alpaca_rag.family.catalogue import ModelCard, Sampling
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.logprobs import as_openai
from chinese_alpaca_rag.llms.refusals import cannot_be, check_names, check_stops, no_room_for_prompt, prompt_overflow
from chinese_alpaca_rag.llms.request import Answer, Constraint, Request
from chinese_alpaca_rag.llms.sampling import check_sampling, check_switch, check_whole_number

_SAMPLING: Final = ("temperature", "top_k", "top_p", "repetition_penalty", "max_tokens")
#: What a single call may say otherwise than the model does.
CALL_FIELDS: Final = (*_SAMPLING, "min_tokens", "seed", "logprobs", "top_logprobs")

PromptUnder = Callable[[str], tuple[int, ...]]


class FamilyModel(BaseModel):
    """Settings, the checks that need no weights, and the way from ids to a ``Request``.

    Whatever is not said follows the model's own card; ``None`` means the same as not saying it. Unknown
    names are refused with the nearest that is known.
    """

    model_config = ConfigDict(extra="forbid")

    alpha: float | Literal["auto"] | None = Field(default="auto", frozen=True)
    """NTK's alpha: "auto" follows the window, a number fixes it, ``None`` forbids NTK."""
    window: int = Field(default=0, frozen=True)
    """The context window, in tokens: prompt and reply together. By default the trained one."""
    max_tokens: int = 0
    """The longest reply, in tokens. The card's own figure never takes more than half of the window."""
    min_tokens: int = 0
    """The tokens before which a reply does not end by itself; a stop text still ends it."""
    temperature: float = 0.0
    """0 chooses the likeliest token always. By default the card's."""
    top_k: int = 0
    """How many of the likeliest tokens are drawn from; 0 is all. By default the card's."""
    top_p: float = 1.0
    """The probability that the tokens drawn from have together. By default the card's."""
    repetition_penalty: float = 1.0
    """Divides the odds of the reply's last 64 tokens; 1.0 is none. By default the card's."""
    seed: int | None = None
    """Makes replies repeatable; ``None`` draws a fresh one for each."""
    stop: list[str] | None = None
    """Texts that end a reply and are no part of it."""
    logprobs: bool = False
    """Whether ``response_metadata["logprobs"]`` tells each token's log-probability, in OpenAI's form."""
    top_logprobs: int = 0
    """How many alternatives to each token it tells as well."""

    _langchain_fields: ClassVar[frozenset[str]] = frozenset()
    call_fields: ClassVar[tuple[str, ...]] = CALL_FIELDS

    _plan: RopePlan = PrivateAttr()

    @classmethod
    @abstractmethod
    def _card_of(cls, values: Mapping[str, Any]) -> ModelCard | None:
        """The card of the model that ``values`` mean; ``None`` where they do not say. Raises ``AlpacaRagError``."""

    @property
    @abstractmethod
    def card(self) -> ModelCard:
        """What is known of the model."""

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer; weights stay where they are."""

    @property
    @abstractmethod
    def model_name(self) -> str:
        """The name in the catalogue, or the file's own."""

    @abstractmethod
    def _answer_to(self, request: Request, cancelled: Cancellation) -> Answer:
        """The work on ``request``, nothing of it begun."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_the_kits_words(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as problem:
            raise cannot_be(problem) from problem

    @model_validator(mode="before")
    @classmethod
    def _known_names_with_the_cards_figures(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        own = [name for name in cls.model_fields if name not in cls._langchain_fields]
        check_names(cls.__name__, set(values) - cls._langchain_fields, own)
        said = {name: value for name, value in values.items() if value is not None or name == "alpha"}
        card = cls._card_of(said)
        if card is None:
            return said
        window = said.setdefault("window", card.window)
        longest = window // 2 if isinstance(window, int) else card.window
        defaults = asdict(card.sampling) | {"max_tokens": max(1, min(card.sampling.max_tokens, longest))}
        return defaults | said

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self._check_model()
        self._plan = plan_rope(self.card, self.window, alpha=self.alpha)
        self._check_call({})
        check_stops(self.stop)
        if self.max_tokens >= self.window:
            raise no_room_for_prompt(self.max_tokens, self.window)
        self._get_ready()
        return self

    def _get_ready(self) -> None:
        """What is left to do once everything is checked."""

    def _check_model(self) -> None:
        """Refuse a checkpoint that this class cannot be used with, before anything is planned."""

    def _check_call(self, overrides: Mapping[str, Any]) -> None:
        """Raise ``WrongUsageError`` for settings that cannot be meant."""
        check_sampling(self._sampling(overrides), overrides.get("seed", self.seed))
        check_whole_number("min_tokens", overrides.get("min_tokens", self.min_tokens))
        check_switch("logprobs", overrides.get("logprobs", self.logprobs))
        check_whole_number("top_logprobs", overrides.get("top_logprobs", self.top_logprobs))

    @property
    def rope(self) -> RopePlan:
        """The rotary embedding that this window is opened with."""
        return self._plan

    def _identity(self) -> dict[str, Any]:
        """All that can change an answer: LangChain's caches know answers by it."""
        return {
            "model_name": self.model_name,
            "rope": asdict(self._plan),
            "window": self.window,
            **{name: getattr(self, name) for name in self.call_fields},
            "default_stop": self.stop,
        }

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of ``text`` on its own, without BOS."""
        custom = getattr(self, "custom_get_token_ids", None)
        return list(custom(text)) if custom is not None else self.tokenizer.encode(text)

    def close(self) -> None:
        """Give back what the model holds; the next call takes it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # From ids to a request.

    def _overrides(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a call says otherwise, checked. ``stream`` and ``None`` say nothing."""
        overrides = {name: value for name, value in arguments.items() if name != "stream"}
        check_names(f"{type(self).__name__}.invoke", overrides, self.call_fields)
        overrides = {name: value for name, value in overrides.items() if value is not None}
        self._check_call(overrides)
        return overrides

    def _request(
        self,
        ids: tuple[int, ...],
        stop: list[str] | None,
        overrides: Mapping[str, Any] = MappingProxyType({}),
        constraint: Constraint | None = None,
        under: PromptUnder | None = None,
    ) -> Request:
        """The request for a reply to ``ids``. Raises ``PromptOverflowError`` where the window leaves no room.

        ``under`` gives the ids of the same prompt under another system text, where guidance asks for them.
        """
        room = self._plan.window - len(ids)
        if room < 1:
            raise prompt_overflow(len(ids), self._plan.window, self.card)
        sampling = self._sampling(overrides)
        wanted = overrides.get("logprobs", self.logprobs)
        return Request(
            ids,
            replace(sampling, max_tokens=min(sampling.max_tokens, room)),
            overrides.get("seed", self.seed),
            check_stops(self.stop if stop is None else stop),
            min_tokens=overrides.get("min_tokens", self.min_tokens),
            top_logprobs=overrides.get("top_logprobs", self.top_logprobs) if wanted else None,
            constraint=constraint,
        )

    def _sampling(self, overrides: Mapping[str, Any]) -> Sampling:
        return Sampling(**{name: overrides.get(name, getattr(self, name)) for name in _SAMPLING})

    # What is told of an answer.

    def _response_metadata(self, answer: Answer) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "model_name": self.model_name,
            "finish_reason": answer.finish_reason,
            "window": self._plan.window,
            "rope": asdict(self._plan),
        }
        return metadata | getattr(answer, "metadata", {})

    def _logprobs(self, answer: Answer, start: int = 0) -> dict[str, Any]:
        """The log-probabilities of an answer's tokens from ``start`` on, as metadata; empty where none were asked."""
        if answer.request.top_logprobs is None:
            return {}
        return {"logprobs": as_openai(answer.logprobs[start:], self.tokenizer)}


def usage(answer: Answer) -> UsageMetadata:
    """An answer's tokens in LangChain's words."""
    prompt_tokens = len(answer.request.ids)
    return UsageMetadata(
        input_tokens=prompt_tokens,
        output_tokens=answer.output_tokens,
        total_tokens=prompt_tokens + answer.output_tokens,
        input_token_details=InputTokenDetails(cache_read=answer.reused),
    )
