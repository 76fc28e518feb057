"""Answers drawn from random logits by the real sampler under the real matcher: what a model without sense writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.constraints import Matcher
from chinese_alpaca_rag.llms.messages import add_system_text, as_turns, conversation_language
from chinese_alpaca_rag.llms.request import Constraint, FinishReason
from chinese_alpaca_rag.llms.sampling import Sampler
from chinese_alpaca_rag.llms.structured import constraint_from, with_structured_output
from chinese_alpaca_rag.llms.tool_calls import ReplyStream, as_message
from chinese_alpaca_rag.llms.tools import read_choice, system_text, tool_specs, tools_constraint
from chinese_alpaca_rag.llms.verifying import conclude
from tests.family.vocabularies import any_named

Schema = dict[str, Any]

PADDED_ROWS = 24

PERSON: Schema = {
    "type": "object",
    "properties": {
        "姓名": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["工程", "design", None, True]}, "maxItems": 3},
    },
    "required": ["姓名", "age"],
    "additionalProperties": False,
}
TREE: Schema = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@dataclass(frozen=True)
class Written:
    ids: list[int]
    text: str
    finish_reason: FinishReason


def write(
    constraint: Constraint,
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    seed: int,
    ending: float = 5.0,
    begin: str = "",
) -> Written:
    """An answer whose pieces are drawn evenly, but pieces that close something ``ending`` more often (in logits).

    With ``begin`` the first ids are those of this text, which has to be allowed.
    """
    rows = tokenizer.vocabulary_size + PADDED_ROWS
    matcher = Matcher(constraint, tokenizer, rows)
    sampler = Sampler(Sampling(1.0, 0, 1.0, 1.0, max_tokens), seed)
    random = np.random.default_rng(seed)
    closing = np.zeros(rows, dtype=np.float32)
    for index, value in enumerate(tokenizer.piece_bytes):
        if value.startswith((b'"', b"]", b"}")):
            closing[index] = ending
    forced = tokenizer.encode(begin) if begin else []
    ids: list[int] = []
    while len(ids) < max_tokens and not matcher.finished:
        allowed = matcher.allowed()
        assert not allowed[tokenizer.vocabulary_size :].any()
        assert allowed[sorted(tokenizer.end_ids)].all() == matcher.complete
        logits = random.standard_normal(rows).astype(np.float32) + closing
        logits[~allowed] = -np.inf
        index = forced[len(ids)] if len(ids) < len(forced) else sampler.choose(logits)
        assert allowed[index], (begin, ids)
        matcher.accept(index)
        if index in tokenizer.end_ids:
            return Written(ids, tokenizer.decode(ids), "stop")
        ids.append(index)
    return Written(ids, tokenizer.decode(ids), "stop" if matcher.finished else "length")


def accepts(schema: Schema, text: str, tokenizer: Tokenizer, **constraint: Any) -> bool:
    """Whether the matcher lets ``text`` be written whole, one piece after another."""
    matcher = Matcher(Constraint(schema, **constraint), tokenizer, tokenizer.vocabulary_size)
    for index in tokenizer.encode(text):
        if not matcher.allowed()[index]:
            return False
        matcher.accept(index)
    return matcher.complete


class RandomChat(BaseChatModel):
    """A chat model without weights, put together from the same parts as the real ones."""

    max_tokens: int = 400
    seed: int = 0
    begin: str = ""
    systems: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "random"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, Any]:
        specs = tool_specs(tools)
        read_choice(tool_choice, specs)
        return self.bind(tools=[spec.as_openai() for spec in specs], tool_choice=tool_choice, **kwargs)

    def with_structured_output(self, schema: Any = None, **kwargs: Any) -> Runnable[Any, Any]:
        return with_structured_output(self, schema, **kwargs)

    def _written(self, messages: list[BaseMessage], arguments: dict[str, Any]) -> tuple[str, Any]:
        specs = tool_specs(arguments.get("tools") or ())
        choice = read_choice(arguments.get("tool_choice"), specs, parallel=arguments.get("parallel_tool_calls", True))
        addition = system_text(specs, choice, conversation_language(messages))
        self.systems.append(add_system_text(as_turns(messages), addition, "default")[0].text)
        constraint = tools_constraint(specs, choice) or constraint_from(arguments.get("response_format"))
        assert constraint is not None
        tokenizer = any_named("toy")
        begin = self.begin if constraint.or_text else ""
        written = write(constraint, tokenizer, max_tokens=self.max_tokens, seed=self.seed, begin=begin)
        conclude(written.text, constraint, written.finish_reason, self.max_tokens)
        return written.text, specs

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text, specs = self._written(messages, kwargs)
        return ChatResult(generations=[ChatGeneration(message=as_message(text, specs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text, specs = self._written(messages, kwargs)
        reply = ReplyStream(specs)
        for character in text:
            if piece := reply.push(character) if specs else character:
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        yield ChatGenerationChunk(message=reply.finish())
