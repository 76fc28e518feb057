"""LangChain messages to the family's turns. What cannot be shown to the model is refused, never left out.

The family knows no tools. A call is shown as the JSON that the model itself writes for one (``tool_calls``), a
tool's result as words of the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.template import Role, Segment, Turn, render_prompt
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Language, Words
from chinese_alpaca_rag.llms.interface import SEGMENTS
from chinese_alpaca_rag.llms.tool_calls import write_calls
from chinese_alpaca_rag.script import is_han

_ROLES_BY_NAME: Final[dict[str, Role]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}

# Blocks of several providers. In an answer, calls repeat ``tool_calls``, or are all there is of them.
_CALLS: Final = frozenset({"tool_use", "tool_call", "function_call"})
_PARTS_OF_CALLS: Final = frozenset({"tool_call_chunk", "input_json_delta", "invalid_tool_call"})
# A model's notes to itself, which it is not shown again.
_NOTES: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
_TEXTS: Final = {"text": "text", "text-plain": "text", "refusal": "refusal"}


def as_turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """One turn a message, in the same order.

    Each block of a human message is a segment, labelled by the block's ``id``; one that is a string may say
    where its segments end: see ``interface.SEGMENTS``.

    Raises ``WrongUsageError`` for a message of another kind than system, human, AI and tool, and for
    content that is not text.
    """
    language = conversation_language(messages)
    names: dict[str, str] = {}
    turns = []
    for message in messages:
        if isinstance(message, AIMessage):
            names |= {identity: name for identity, name, _ in _calls(message) if identity}
        text = _text(message, names, language)
        said = _segments(message, names, language) if isinstance(message, HumanMessage) else ()
        # Where a text ends its turn ends anyway.
        segments = tuple(segment for segment in said if 0 < segment.end < len(text) or segment.label)
        turns.append(Turn(_role(message), text, segments))
    return turns


def conversation_language(messages: Sequence[BaseMessage]) -> Language:
    """The language that words of the kit's own take among ``messages``: Chinese where they hold a Chinese character.

    Nothing after the first question decides, so that a prompt never changes at its beginning.
    """
    first = next(
        (number for number, message in enumerate(messages) if isinstance(message, HumanMessage)), len(messages)
    )
    return "zh" if any(map(is_han, "".join(message.text for message in messages[: first + 1]))) else "en"


def add_system_text(turns: Sequence[Turn], addition: str, default: str) -> list[Turn]:
    """``turns`` with ``addition`` at the end of the system text; ``default`` stands where there is none."""
    if not addition:
        return list(turns)
    leading = next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))
    system = "\n".join(turn.text for turn in turns[:leading] if turn.text) or default
    text = f"{system}\n\n{addition}" if system else addition
    return [Turn("system", text), *turns[leading:]]


def _segments(message: HumanMessage, names: Mapping[str, str], language: Language) -> Iterator[Segment]:
    if not isinstance(message.content, str):
        end = 0
        for block in message.content:
            end += len(_block_text(block, names, language, frozenset()))
            yield Segment(end, "" if isinstance(block, str) else str(block.get("id") or ""))
        return
    said = message.additional_kwargs.get(SEGMENTS, ())
    try:
        segments = [Segment(int(end), str(label)) for end, label in said]
    except (TypeError, ValueError) as problem:
        raise _no_segments(said) from problem
    ends = [0, *(segment.end for segment in segments), len(message.content)]
    if ends != sorted(ends):
        raise _no_segments(said)
    yield from segments


def _no_segments(said: object) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"消息的 {SEGMENTS} 不能是 {said!r:.80}。", en=f"A message's {SEGMENTS} cannot be {said!r:.80}."),
        hint=Words(
            zh="请按先后给出 [结束位置, 标签] 的列表，位置是文本中的字符数。",
            en="Give a list of [end, label] in order, where an end is a number of characters of the text.",
        ),
    )


def _role(message: BaseMessage) -> Role:
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage | ToolMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ChatMessage) and message.role.lower() in _ROLES_BY_NAME:
        return _ROLES_BY_NAME[message.role.lower()]
    kind = message.role if isinstance(message, ChatMessage) else message.type
    raise _refused(f"“{kind}”消息", f"a message of the kind “{kind}”")


def _text(message: BaseMessage, names: Mapping[str, str], language: Language) -> str:
    if isinstance(message, AIMessage):
        content = _content(message.content, names, language, skipped=_CALLS | _PARTS_OF_CALLS | _NOTES)
        calls = write_calls((name, arguments) for _, name, arguments in _calls(message))
        return content if not _has_calls(message) else f"{content}\n{calls}" if content else calls
    if isinstance(message, ToolMessage):
        name = message.name or names.get(message.tool_call_id, "")
        content = _content(message.content, names, language)
        return _result(name, content, failed=message.status == "error", language=language)
    return _content(message.content, names, language)


def _content(
    content: str | Sequence[str | Mapping[str, Any]],
    names: Mapping[str, str],
    language: Language,
    skipped: frozenset[str] = frozenset(),
) -> str:
    if isinstance(content, str):
        return content
    return "".join(_block_text(block, names, language, skipped) for block in content)


def _block_text(
    block: str | Mapping[str, Any], names: Mapping[str, str], language: Language, skipped: frozenset[str]
) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind in skipped:
        return ""
    if kind == "tool_result":
        result = _content(block.get("content") or "", names, language)
        name = names.get(str(block.get("tool_use_id")), "")
        return _result(name, result, failed=bool(block.get("is_error")), language=language) + "\n"
    text = block.get(_TEXTS[kind]) if kind in _TEXTS else None
    if isinstance(text, str):
        return text
    raise _refused(f"“{kind}”类型的内容", f"content of the kind “{kind}”")


def _result(name: str, content: str, *, failed: bool, language: Language) -> str:
    """A tool's result, or its failure, as the user would hand it on."""
    if failed:
        head = Words(zh=f"工具 {name} 出错：" if name else "工具出错：", en=f"Error of {name or 'the tool'}:")
    else:
        head = Words(zh=f"工具 {name} 的结果：" if name else "工具的结果：", en=f"Result of {name or 'the tool'}:")
    return f"{head.text(language)}\n{content}"


def _has_calls(message: AIMessage) -> bool:
    return next(_calls(message), None) is not None


def _calls(message: AIMessage) -> Iterator[tuple[str, str, Any]]:
    """Id, name and arguments of every call in an answer, those that failed to be read included."""
    if message.tool_calls or message.invalid_tool_calls:
        for call in message.tool_calls:
            yield call["id"] or "", call["name"], call["args"]
        for invalid in message.invalid_tool_calls:
            yield invalid["id"] or "", invalid["name"] or "", _read(invalid["args"])
        return
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") in _CALLS:
            arguments: Any = next((block[key] for key in ("input", "args", "arguments") if key in block), {})
            yield str(block.get("id") or block.get("call_id") or ""), str(block.get("name", "")), _read(arguments)


def _read(arguments: Any) -> Any:
    """``arguments`` as a value, where they are a text of JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _refused(zh: str, en: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"本模型只读文本，不能处理{zh}。", en=f"This model reads text only and cannot take {en}."),
        hint=Words(
            zh="请只发送系统、用户、回答和工具消息，内容为字符串或文本块。",
            en="Send system, human, AI and tool messages whose content is a string or text blocks.",
        ),
    )


def count_fragments(template: str, turns: Sequence[Turn], tokenizer: Tokenizer) -> int:
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
