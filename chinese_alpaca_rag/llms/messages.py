"""LangChain messages to the family's turns. What cannot be shown to the model is refused, never left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.template import Role, Turn, render_prompt
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.language import Words

_ROLES_BY_NAME: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}


def as_turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """One turn a message, in the same order.

    Raises ``WrongUsageError`` for a message of another kind than system, human and AI (a tool's result,
    say), for an AI message that calls tools, and for content that is not text.
    """
    return [Turn(_role(message), _text(message)) for message in messages]


def _role(message: BaseMessage) -> Role:
    if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
        raise _refused("调用工具的回答", "an answer that calls tools")
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ChatMessage) and message.role.lower() in _ROLES_BY_NAME:
        return _ROLES_BY_NAME[message.role.lower()]
    kind = message.role if isinstance(message, ChatMessage) else message.type
    raise _refused(f"“{kind}”消息", f"a message of the kind “{kind}”")


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(map(_block_text, message.content))


def _block_text(block: str | dict[str, Any]) -> str:
    if isinstance(block, str):
        return block
    kind, text = block.get("type"), block.get("text")
    if kind == "text" and isinstance(text, str):
        return text
    raise _refused(f"“{kind}”类型的内容", f"content of the kind “{kind}”")


def _refused(zh: str, en: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"本模型只读文本，不能处理{zh}。", en=f"This model reads text only and cannot take {en}."),
        hint=Words(
            zh="请只发送系统、用户和回答消息，内容为字符串或文本块；工具结果请作为用户消息的文本发送。",
            en="Send system, human and AI messages whose content is a string or text blocks; "
            "put what a tool returned into a human message.",
        ),
    )


def count_fragments(template: str, turns: Sequence[Turn], tokenizer: FamilyTokenizer) -> int:
    """The tokens of turns in any order, each counted as it would be later in a conversation, plus the opening.

    For lists that are no conversation, such as the halves that LangChain's ``trim_messages`` tries.
    """

    def length(*parts: Turn) -> int:
        return len(render_prompt(template, parts, tokenizer).ids)

    question, answer = Turn("user", ""), Turn("assistant", "")
    before_question, before_answer = length(question, answer), length(question)
    total = length(*(turn for turn in turns if turn.role == "system"), question)
    for turn in turns:
        if turn.role == "user":
            total += length(question, answer, turn) - before_question
        elif turn.role == "assistant":
            total += length(question, turn) - before_answer
    return total
