"""Messages to token ids, by each model's own template, with every stretch of ids labelled.

Text from documents and people can hold the template's own marks (``[INST]`` is ordinary text to the
family's tokenizer). Such a mark is spelt out in single characters: the text stays as it is, the ids
are not the template's. Llama-3's marks are special pieces, which no text becomes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from chinese_alpaca_rag.errors import CheckpointError, NotAChatModelError, WrongUsageError
from chinese_alpaca_rag.family.byte_pair import END_HEADER, END_OF_TURN, START_HEADER
from chinese_alpaca_rag.family.catalogue import ModelCard, TemplateName, chat_sibling
from chinese_alpaca_rag.family.marks import MarkBreaker
from chinese_alpaca_rag.family.tokens import Tokenizer, TokenizerKind
from chinese_alpaca_rag.language import Words

Role = Literal["system", "user", "assistant"]
SpanRole = Literal["control", "template", "system", "user", "assistant"]

DEFAULT_SYSTEM: Final = "You are a helpful assistant. 你是一个乐于助人的助手。"
LONG_ANSWER_SYSTEM: Final = DEFAULT_SYSTEM + "请你提供专业、有逻辑、内容真实、有价值的详细回复。"

# What the first generation was shown before every instruction (Stanford Alpaca, without its Input field).
_STANFORD_SYSTEM: Final = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


@dataclass(frozen=True)
class Segment:
    """Where a text or a prompt may go on differently the next time: what stands before is worth keeping.

    ``end`` counts characters in a ``Turn``, ids in a ``Prompt``. ``label`` names what the stretch up to there
    (from the segment before) was made of, a document say; empty where it is nobody's.
    """

    end: int
    label: str = ""


@dataclass(frozen=True)
class Turn:
    """One message. ``segments`` lie in ``text``, in order."""

    role: Role
    text: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Span:
    """The ids ``start`` to ``end`` (exclusive) and where they come from.

    "system", "user" and "assistant" are text that was handed in; a piece that holds characters of
    such text and of the template counts as text.
    """

    start: int
    end: int
    role: SpanRole


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is evaluated. The spans follow one another and cover ``ids`` without a gap.

    ``segments`` end inside ``ids``, in order: those of the turns, and one before each text of a user or an
    assistant. Several at one place are one stretch with several labels.
    """

    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    segments: tuple[Segment, ...] = ()


class _Part(NamedTuple):
    """One stretch of text before it is encoded, and whose it is."""

    role: SpanRole
    text: str
    segments: tuple[Segment, ...] = ()


def render_prompt(
    template: str, turns: Sequence[Turn], tokenizer: Tokenizer, *, continue_answer: bool = False
) -> Prompt:
    """The prompt of ``turns`` (system texts first, then user and assistant in turn) in ``template``.

    Texts of one role that follow one another are joined by a newline. An empty system text is as
    none: the model's own stands there. Answers are closed as the model was trained to close them;
    with ``continue_answer`` the last one is left open, to be continued. Raises ``WrongUsageError``
    for turns in another order, ``CheckpointError`` for a template that is none of the family's or
    does not go with ``tokenizer``.
    """
    known = _TEMPLATES.get(template)
    if known is None or known.tokenizer != tokenizer.kind:
        raise _not_rendered(template, known, tokenizer)
    system, dialogue = _in_order(turns)
    if continue_answer and dialogue[-1].role != "assistant":
        raise _out_of_order(
            "要续写回答，最后一条消息必须是回答。", "To continue an answer, the last message must be one."
        )
    writer = _Writer(tokenizer, MarkBreaker(tokenizer, known.marks, known.fixed_texts))
    known.write(writer, system, dialogue, continue_answer)
    return writer.prompt()


def default_system(template: str) -> str:
    """The system text that ``template`` stands with when none is given; empty where it stands without one."""
    return {"alpaca-2": DEFAULT_SYSTEM, "llama-3": DEFAULT_SYSTEM, "stanford-alpaca": _STANFORD_SYSTEM}.get(
        template, ""
    )


def chat_template(card: ModelCard) -> TemplateName:
    """The template that ``card`` was trained with. Raises ``NotAChatModelError`` for a base model."""
    if card.template is not None:
        return card.template
    sibling = chat_sibling(card)
    zh, en = (
        (f"请换用对应的指令模型：--model {sibling.name}", f"Use its chat model: --model {sibling.name}")
        if sibling
        else ("请换用指令模型：alpaca-rag models list", "Use a chat model: alpaca-rag models list")
    )
    raise NotAChatModelError(
        Words(
            zh=f"{card.name} 是基座模型，只会续写文本，不能按指令回答。",
            en=f"{card.name} is a base model: it continues text and follows no instruction.",
        ),
        hint=Words(zh=zh, en=en),
    )


class _Writer:
    """Collects ids and spans. Each call of ``text`` is one encoding."""

    def __init__(self, tokenizer: Tokenizer, breaker: MarkBreaker) -> None:
        self._tokenizer = tokenizer
        self._breaker = breaker
        self._ids: list[int] = []
        self._spans: list[Span] = []
        self._segments: list[Segment] = []

    def begin(self) -> None:
        self._append([self._tokenizer.bos_id], "control")

    def end(self) -> None:
        self._append([self._tokenizer.eos_id], "control")

    def special(self, name: str) -> None:
        """A special piece by its name."""
        self._append([self._tokenizer.special_ids[name]], "control")

    def text(self, *given: _Part | tuple[SpanRole, str]) -> None:
        """Encode the joined text of the parts at once, break foreign marks, and label what belongs to whom."""
        parts = [_Part(*part) for part in given]
        whole = "".join(part.text for part in parts)
        ids, ends = self._tokenizer.encode_with_ends(whole)
        foreign = _foreign_marks(whole, parts, self._breaker.marks)
        if foreign:
            ids, ends = self._breaker.respell(ids, ends, whole, foreign)
        before = len(self._ids)
        self._segments += [Segment(before + bisect_right(ends, end), label) for end, label in _segment_ends(parts)]
        cuts = _cuts(ends, parts)
        for part, (first, last) in zip(parts, pairwise(cuts), strict=True):
            self._append(ids[first:last], part.role)

    def prompt(self) -> Prompt:
        length = len(self._ids)
        inside = dict.fromkeys(segment for segment in self._segments if 0 < segment.end < length)
        labelled = {segment.end for segment in inside if segment.label}
        segments = [segment for segment in inside if segment.label or segment.end not in labelled]
        segments.sort(key=lambda segment: segment.end)
        return Prompt(tuple(self._ids), tuple(self._spans), tuple(segments))

    def _append(self, ids: Sequence[int], role: SpanRole) -> None:
        if ids:
            self._spans.append(Span(len(self._ids), len(self._ids) + len(ids), role))
            self._ids.extend(ids)


def _foreign_marks(whole: str, parts: Sequence[_Part], marks: re.Pattern[str]) -> list[tuple[int, int]]:
    """The marks in ``whole`` of which at least one character was handed in, by start and end."""
    handed_in = []
    position = 0
    for part in parts:
        if part.role != "template" and part.text:
            handed_in.append((position, position + len(part.text)))
        position += len(part.text)
    return [
        match.span()
        for match in marks.finditer(whole)
        if any(match.start() < last and first < match.end() for first, last in handed_in)
    ]


def _segment_ends(parts: Sequence[_Part]) -> Iterator[tuple[int, str]]:
    """Where segments end in the joined text: in front of each text of a dialogue, and where it says so itself."""
    whole = "".join(part.text for part in parts)
    position = 0
    for part in parts:
        if part.role in ("user", "assistant"):
            # Behind a line break, which no piece crosses: a space before the text may become part of its first piece.
            yield whole.rfind("\n", 0, position) + 1, ""
        for segment in part.segments:
            yield position + segment.end, segment.label
        position += len(part.text)


def _cuts(ends: Sequence[int], parts: Sequence[_Part]) -> list[int]:
    """The index of ids at which each part begins, and the end; a shared piece goes to the text handed in."""
    cuts = [0]
    position = 0
    for part, following in pairwise(parts):
        position += len(part.text)
        cut = bisect_right(ends, position)
        shared = cut < len(ends) and (ends[cut - 1] if cut else 0) < position
        if shared and part.role != "template" and following.role == "template":
            cut += 1
        cuts.append(max(cut, cuts[-1]))
    return [*cuts, len(ends)]


def _write_alpaca_2(writer: _Writer, system: str, dialogue: Sequence[Turn], continue_answer: bool) -> None:
    """Each question is BOS and one encoding; each answer is encoded on its own and closed by EOS."""
    for number, turn in enumerate(dialogue):
        if turn.role == "assistant":
            writer.text(_said(turn))
            if not (continue_answer and number == len(dialogue) - 1):
                writer.end()
            continue
        writer.begin()
        if number == 0:
            opening: list[_Part | tuple[SpanRole, str]] = [
                ("template", "[INST] <<SYS>>\n"),
                ("system", system or DEFAULT_SYSTEM),
                ("template", "\n<</SYS>>\n\n"),
            ]
        else:
            opening = [("template", "[INST] ")]
        writer.text(*opening, _said(turn), ("template", " [/INST]"))


def _write_stanford_alpaca(writer: _Writer, system: str, dialogue: Sequence[Turn], continue_answer: bool) -> None:
    """BOS and one encoding of everything, as the first generation's programs build it from text."""
    parts: list[_Part | tuple[SpanRole, str]] = [("system", system or _STANFORD_SYSTEM)]
    for turn in dialogue:
        if turn.role == "assistant":
            parts.append(_said(turn))
        else:
            parts += [
                ("template", "\n\n### Instruction:\n\n"),
                _said(turn),
                ("template", "\n\n### Response:\n\n"),
            ]
    writer.begin()
    writer.text(*parts)
    if dialogue[-1].role == "assistant" and not continue_answer:
        writer.end()


def _write_ziya2(writer: _Writer, system: str, dialogue: Sequence[Turn], continue_answer: bool) -> None:
    """BOS and one encoding: turns joined by newlines, each behind its speaker's mark."""
    parts: list[_Part | tuple[SpanRole, str]] = [("system", system), ("template", "\n")] if system else []
    for number, turn in enumerate(dialogue):
        newline = "\n" if number else ""
        if turn.role == "user":
            parts += [("template", f"{newline}<human>:"), _said(turn), ("template", "\n<bot>:")]
        else:
            parts.append(_said(turn))
    writer.begin()
    writer.text(*parts)
    if dialogue[-1].role == "assistant" and not continue_answer:
        writer.end()


def _write_llama_3(writer: _Writer, system: str, dialogue: Sequence[Turn], continue_answer: bool) -> None:
    """Each message is a header of special pieces, its text without white space around it, and end of turn.

    So in Llama-3's own program and its published chat template; that a system message always stands
    first is how Chinese-LLaMA-Alpaca-3 trained.
    """

    def header(role: Role) -> None:
        writer.special(START_HEADER)
        writer.text(("template", role))
        writer.special(END_HEADER)

    writer.begin()
    for number, turn in enumerate([Turn("system", system.strip() or DEFAULT_SYSTEM), *dialogue]):
        header(turn.role)
        # Behind the line breaks no white space follows, so that they stay a piece of their own.
        writer.text(("template", "\n\n"), _said(_stripped(turn)))
        if not (continue_answer and number == len(dialogue)):
            writer.special(END_OF_TURN)
    if dialogue[-1].role == "user":
        header("assistant")
        writer.text(("template", "\n\n"))


def _said(turn: Turn) -> _Part:
    return _Part(turn.role, turn.text, turn.segments)


def _stripped(turn: Turn) -> Turn:
    """``turn`` without white space around its text."""
    text = turn.text.strip()
    before = len(turn.text) - len(turn.text.lstrip())
    ends = [(min(max(segment.end - before, 0), len(text)), segment.label) for segment in turn.segments]
    return Turn(turn.role, text, tuple(Segment(end, label) for end, label in ends))


@dataclass(frozen=True)
class _Template:
    """``marks`` finds the letters by which the marks in ``fixed_texts``, the template's own words, are known."""

    marks: re.Pattern[str]
    fixed_texts: tuple[str, ...]
    write: Callable[[_Writer, str, Sequence[Turn], bool], None]
    tokenizer: TokenizerKind = "sentencepiece"


_TEMPLATES: Final[dict[str, _Template]] = {
    "alpaca-2": _Template(
        # All four marks end in one of these; "INST" followed by "]" is what the model knows them by.
        re.compile(r"INST\]|SYS>>"),
        ("[INST] <<SYS>>\n", "\n<</SYS>>\n\n", "[INST] ", " [/INST]"),
        _write_alpaca_2,
    ),
    "stanford-alpaca": _Template(
        re.compile(r"(?<=### )(?:Instruction|Response):"),
        ("\n\n### Instruction:\n\n", "\n\n### Response:\n\n"),
        _write_stanford_alpaca,
    ),
    "ziya2": _Template(
        re.compile(r"(?<=<)(?:human|bot)>:"),
        ("<human>:", "\n<human>:", "\n<bot>:"),
        _write_ziya2,
    ),
    # No mark can be written in letters: this pattern is found nowhere.
    "llama-3": _Template(re.compile(r"(?!)"), (), _write_llama_3, tokenizer="byte-pair"),
}


def _in_order(turns: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """The system text, and the dialogue with neighbours of one role joined; it begins with a user's turn."""
    leading = 0
    while leading < len(turns) and turns[leading].role == "system":
        leading += 1
    system = "\n".join(turn.text for turn in turns[:leading] if turn.text)
    dialogue: list[Turn] = []
    for turn in turns[leading:]:
        if turn.role == "system":
            raise _out_of_order(
                "系统消息只能放在对话开头。", "A system message may only stand at the head of a conversation."
            )
        if dialogue and dialogue[-1].role == turn.role:
            dialogue[-1] = _joined(dialogue[-1], turn)
        else:
            dialogue.append(turn)
    if not dialogue or dialogue[0].role != "user":
        raise _out_of_order("对话必须以用户消息开始。", "A conversation begins with a user's message.")
    return system, dialogue


def _joined(first: Turn, second: Turn) -> Turn:
    before = len(first.text) + 1
    later = [Segment(before + segment.end, segment.label) for segment in second.segments]
    return Turn(first.role, f"{first.text}\n{second.text}", (*first.segments, *later))


def _out_of_order(zh: str, en: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=zh, en=en),
        hint=Words(
            zh="消息顺序：系统（可省略）、用户、回答、用户、回答……",
            en="The order of messages: system (may be left out), user, answer, user, answer, and so on.",
        ),
    )


def _not_rendered(template: str, known: _Template | None, tokenizer: Tokenizer) -> CheckpointError:
    """A template without its tokenizer would be a silently wrong prompt."""
    names = ", ".join(name for name, other in _TEMPLATES.items() if other.tokenizer == tokenizer.kind)
    if known is None:
        message = Words(zh=f"没有名为“{template}”的模板。", en=f"There is no template called “{template}”.")
    else:
        message = Words(
            zh=f"{template} 模板需要 {known.tokenizer} 分词器，而不是 {tokenizer.kind}。",
            en=f"The template {template} goes with a {known.tokenizer} tokenizer, not with {tokenizer.kind}.",
        )
    return CheckpointError(
        message,
        hint=Words(
            zh=f"请使用模型自带的分词器；这个分词器可用的模板：{names}",
            en=f"Use the tokenizer that came with the model; templates of this tokenizer: {names}",
        ),
    )
