"""The form that a call wants its answer in: free text, calls of tools, or JSON of a schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Language, Words
from chinese_alpaca_rag.llms.least_tokens import check_budget
from chinese_alpaca_rag.llms.request import Answer, Constraint
from chinese_alpaca_rag.llms.schemas import with_moved_references
from chinese_alpaca_rag.llms.structured import constraint_from
from chinese_alpaca_rag.llms.tool_calls import ReplyStream, as_message
from chinese_alpaca_rag.llms.tools import (
    OPENING,
    ToolChoice,
    ToolSpec,
    read_choice,
    system_text,
    tool_specs,
    tools_constraint,
)
from chinese_alpaca_rag.llms.verifying import conclude, refuse_cut


@dataclass(frozen=True)
class Form:
    """``specs`` are the tools that may be called; ``constraint`` is what holds the answer to the form.

    ``otherwise``: what an answer that calls no tool has to be, where a response format was wanted as well.
    """

    specs: tuple[ToolSpec, ...]
    choice: ToolChoice
    constraint: Constraint | None
    otherwise: Constraint | None = None

    def system_text(self, language: Language) -> str:
        """What the model has to be told of the form."""
        return system_text(self.specs, self.choice, language)

    def check_budget(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        """Raise ``WrongUsageError`` for a form whose shortest answer is longer than ``max_tokens``."""
        if self.constraint is not None and not self.constraint.or_text:
            check_budget(self.constraint.schema, tokenizer, max_tokens)

    def check(self, text: str, answer: Answer) -> None:
        """Raise ``StructuredOutputError`` for an answer that is cut off or breaks the schema.

        A call that breaks its tool's schema is no error here: LangChain has invalid tool calls for it.
        """
        if self.constraint is None or answer.finish_reason is None:
            return
        longest = answer.request.sampling.max_tokens
        if self.otherwise is not None and not text.lstrip().startswith(OPENING):
            conclude(text, self.otherwise, answer.finish_reason, longest)
            return
        judge = refuse_cut if self.specs else conclude
        judge(text, self.constraint, answer.finish_reason, longest)

    def message(self, text: str, **fields: Any) -> AIMessage:
        """The answer as a message, its calls as tool calls; ``fields`` are the message's."""
        return as_message(text, self.specs, **fields) if self.specs else AIMessage(content=text, **fields)

    def stream(self) -> ReplyStream | TextStream:
        """Sorts the pieces of a streamed answer into text and calls."""
        return ReplyStream(self.specs) if self.specs else TextStream()


class TextStream:
    """Every piece is shown as it comes. The counterpart of ``ReplyStream`` where there are no tools."""

    def push(self, piece: str) -> str:
        """What of the text is shown now."""
        return piece

    def finish(self) -> AIMessageChunk:
        """What is left at the end: nothing."""
        return AIMessageChunk(content="")


def read_form(arguments: Mapping[str, Any]) -> Form:
    """The form that a call's ``tools``, ``tool_choice``, ``parallel_tool_calls`` and ``response_format`` want.

    With tools that may be called, a response format holds the answer that calls none. Raises
    ``WrongUsageError``, also for a forced call together with a response format.
    """
    specs = tool_specs(arguments.get("tools") or ())
    parallel = arguments.get("parallel_tool_calls")
    choice = read_choice(arguments.get("tool_choice"), specs, parallel=True if parallel is None else parallel)
    tools, wanted = tools_constraint(specs, choice), constraint_from(arguments.get("response_format"))
    if tools is None or wanted is None:
        return Form(specs if tools is not None else (), choice, tools or wanted)
    if choice.mode != "auto":
        raise WrongUsageError(
            Words(
                zh="强制调用工具（tool_choice）与 response_format 不能同时约束一个回答。",
                en="A forced tool call (tool_choice) and response_format cannot both hold one answer.",
            ),
            hint=Words(
                zh="请去掉其中一个，或用 tool_choice='auto'。", en="Leave one of them out, or say tool_choice='auto'."
            ),
        )
    either = [
        with_moved_references(constraint.schema, f"#/anyOf/{number}")
        for number, constraint in enumerate((tools, wanted))
    ]
    return Form(specs, choice, Constraint({"anyOf": either}), otherwise=wanted)
