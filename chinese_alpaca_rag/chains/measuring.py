"""How long a prompt a model takes, and how long a prompt is: both in the model's own tokens.

Four kinds of model:

- one that counts what it sends (``llms.interface.CountsPrompts``): its own window and reply, exact;
- one that reads sources itself (``ReadsSources``): no window, nothing to count;
- any other chat model that counts tokens its own way: its count, and a little for the template;
- any other chat model: an estimate from the characters that errs on the long side.

LangChain's default count is never used: it is GPT-2's, fetches that tokenizer from the network, and is
wrong for Chinese.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables.base import RunnableBindingBase

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.interface import CountsPrompts, ReadsSources

logger = logging.getLogger(__name__)

# Tokens kept for the reply of a model that does not say, at most a quarter of its window.
DEFAULT_REPLY = 512
# What a template adds to each message at most: role marks, beginning and end.
_TEMPLATE_TOKENS = 8


class Measure(ABC):
    """A model's window and reply, and the count of its prompts, in tokens. ``window`` None is no limit."""

    window: int | None

    @property
    @abstractmethod
    def reply(self) -> int:
        """The tokens kept for the reply."""

    @property
    def limit(self) -> int | None:
        """The tokens that a prompt may have: the window less the reply."""
        return None if self.window is None else self.window - self.reply

    @abstractmethod
    def count(self, messages: Sequence[BaseMessage]) -> int:
        """The tokens of the prompt that ``messages`` become."""

    def fits(self, messages: Sequence[BaseMessage]) -> bool:
        """Whether the prompt leaves room for the reply."""
        return self.limit is None or self.count(messages) <= self.limit

    def count_text(self, text: str) -> int:
        """The tokens that ``text`` adds to a message: what a reply took, where the model does not say."""
        return max(0, self.count([HumanMessage(text)]) - self.count([HumanMessage("")]))


class ExactMeasure(Measure):
    """A model that counts what it sends. ``reply`` is given where a binding says otherwise than the model."""

    def __init__(self, model: CountsPrompts, window: int | None, reply: int | None) -> None:
        if window is not None and window > model.window:
            raise _beyond(window, model.window)
        self.window = model.window if window is None else window
        self._reply = reply
        self._model = model

    @property
    def reply(self) -> int:
        """The binding's or the model's own, as it is now."""
        return self._model.max_tokens if self._reply is None else self._reply

    def count(self, messages: Sequence[BaseMessage]) -> int:
        """What the model itself counts."""
        return self._model.count_prompt_tokens(messages)


class NoMeasure(Measure):
    """A model that reads the sources themselves and evaluates no tokens."""

    window = None

    @property
    def reply(self) -> int:
        """Nothing is kept where nothing is limited."""
        return 0

    def count(self, messages: Sequence[BaseMessage]) -> int:
        """Nothing: no tokens are evaluated."""
        return 0


class ForeignMeasure(Measure):
    """Any other chat model, by its own token counting where it has one, else by ``estimate_tokens``."""

    def __init__(self, model: BaseLanguageModel[Any], window: int, reply: int) -> None:
        self.window = window
        self._reply = reply
        self._model = model
        self._count_own: Callable[[list[BaseMessage]], int] | None = (
            model.get_num_tokens_from_messages if _counts_tokens(model) else None
        )

    @property
    def reply(self) -> int:
        """What was decided when the chain was made."""
        return self._reply

    def count(self, messages: Sequence[BaseMessage]) -> int:
        """The model's own count or, from its first failure on, the estimate."""
        template = _TEMPLATE_TOKENS * (len(messages) + 1)
        if self._count_own is not None:
            try:
                return self._count_own(list(messages)) + template
            except Exception as error:  # a foreign tokenizer can fail in any way, offline above all
                logger.warning("%s cannot count tokens (%r): estimating.", type(self._model).__name__, error)
                self._count_own = None
        return sum(estimate_tokens(message.text) for message in messages) + template


def estimate_tokens(text: str) -> int:
    """An upper estimate of the tokens in ``text`` for a model whose tokenizer is not known.

    Letters of ASCII count 1/3 (English takes 4 to 5 letters a token), other ASCII 1, everything else 2
    up to U+FFFF and 4 above. Chinese takes 0.6 to 1.3 tokens a character with vocabularies made for it,
    near 2 with those that spell most characters in bytes (Llama-1 and -2).
    """
    letters = sum(character.isascii() and character.isalpha() for character in text)
    spaces = text.count(" ")
    ascii_rest = sum(character.isascii() for character in text) - letters - spaces
    astral = sum(character > "\uffff" for character in text)
    wide = len(text) - letters - spaces - ascii_rest - astral
    # A single space mostly joins the word behind it: it is counted with the letters.
    return -(-(letters + spaces) // 3) + ascii_rest + 2 * wide + 4 * astral


def measure_model(model: Any, *, window: int | None = None, reply: int | None = None) -> Measure:
    """The measure of a chat model, also one bound to arguments (``model.bind(...)``).

    ``window`` narrows the window of a model that knows its own, and is needed for one that does not;
    ``reply`` is the tokens kept for the reply of a model that does not say. Raises WrongUsageError where
    no window is known or none is left for a prompt, WindowUnreachableError beyond the model's window.
    """
    bound: dict[str, Any] = {}
    while isinstance(model, RunnableBindingBase):
        bound = {**model.kwargs, **bound}
        model = model.bound
    if window is not None and window < 1:
        raise _no_window(window)
    if isinstance(model, ReadsSources):
        return NoMeasure()
    measure: Measure
    if isinstance(model, CountsPrompts):
        said = bound.get("max_tokens")
        measure = ExactMeasure(model, window, said if isinstance(said, int) and said > 0 else None)
    else:
        measure = _foreign_measure(model, bound, window, reply)
    if measure.limit is not None and measure.limit < 1:
        raise _no_room(measure)
    return measure


def _foreign_measure(model: Any, bound: dict[str, Any], window: int | None, reply: int | None) -> ForeignMeasure:
    profile = getattr(model, "profile", None) or {}
    known = window or profile.get("max_input_tokens")
    if not isinstance(known, int) or known < 1:
        raise _unknown_window(model)
    own = bound.get("max_tokens", getattr(model, "max_tokens", None))
    if reply is None:
        reply = own if isinstance(own, int) and 0 < own < known else min(DEFAULT_REPLY, known // 4)
    return ForeignMeasure(model, known, reply)


def _counts_tokens(model: BaseLanguageModel[Any]) -> bool:
    """Whether the model counts in its own way, not by LangChain's default."""
    kind = type(model)
    return getattr(model, "custom_get_token_ids", None) is not None or any(
        getattr(kind, name, None) is not getattr(BaseLanguageModel, name)
        for name in ("get_token_ids", "get_num_tokens", "get_num_tokens_from_messages")
    )


def _unknown_window(model: Any) -> WrongUsageError:
    name = type(model).__name__
    return WrongUsageError(
        Words(zh=f"不知道 {name} 的上下文窗口有多长。", en=f"The context window of {name} is not known."),
        hint=Words(
            zh="请写明窗口的词元数，例如：create_qa_chain(model, retriever, window=8192)",
            en="Pass it in tokens, for example: create_qa_chain(model, retriever, window=8192)",
        ),
    )


def _beyond(window: int, known: int) -> WindowUnreachableError:
    return WindowUnreachableError(
        Words(
            zh=f"要求的窗口是 {window} 个词元，模型打开时的窗口只有 {known} 个。",
            en=f"A window of {window} tokens was asked for; the model was opened with {known}.",
        ),
        hint=Words(
            zh=f"请用更长的窗口打开模型（--window {window}），或去掉 window 参数。",
            en=f"Open the model with a longer window (--window {window}), or leave window out.",
        ),
    )


def _no_window(window: int) -> WindowUnreachableError:
    return WindowUnreachableError(
        Words(zh=f"{window} 不能作为窗口。", en=f"{window} is no window."),
        hint=Words(zh="请给出正整数的词元数，例如 4096。", en="Give a positive number of tokens, for example 4096."),
    )


def _no_room(measure: Measure) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"窗口是 {measure.window} 个词元，其中 {measure.reply} 个留给回答，没有给提示留下位置。",
            en=f"Of the window's {measure.window} tokens {measure.reply} are kept for the reply: no prompt fits.",
        ),
        hint=Words(zh="请加大 window，或减小 max_tokens。", en="Make window larger, or max_tokens smaller."),
    )
