"""A reader that needs no model: it answers with sentences of the documents, word for word.

An answer is one to three lines, the likeliest first; each line is one sentence as it stands in a source,
followed by that source's number: ``年假为每年十五天。[2]``. Nothing else is written, no quotation marks are added
and a sentence never spans lines, so a line without its last ``[n]`` is exactly a stretch of source ``n``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field

from chinese_alpaca_rag.language import Language, Words
from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.sentence_ranking import RankedSentence, rank_sentences
from chinese_alpaca_rag.llms.sentence_summary import summarize_sentences
from chinese_alpaca_rag.script import is_han

MODEL_NAME = "extractive"
NOTICE = Words(
    zh="没有使用语言模型：所示内容摘自文档原文，不是生成的回答。"
    "要由模型回答，请加 --model 和模型名称或 GGUF 文件路径；名称见 alpaca-rag models list。",
    en="No language model is used: what is shown is quoted from the documents, not a generated answer. "
    "To have a model answer, add --model with its name or a GGUF file's path; alpaca-rag models list shows the names.",
)
NOTHING_FOUND = Words(zh="文档中没有找到与问题相关的内容。", en="Nothing in the documents matches the question.")
NOTHING_TO_READ = Words(zh="没有可供摘录的文档内容。", en="There is no document text to quote from.")

_QUESTION_END = re.compile(r"[?？][”’」』）)\]\"']*\s*$")
_TRAILING_MARK = re.compile(r"(?:\s*(?:\[\d{1,3}\]|［\d{1,3}］))+$")


class ExtractiveReader(BaseChatModel):
    """Quotes the sentences that answer, or that summarise; generates nothing and evaluates no token.

    ``invoke`` and ``stream`` take ``sources`` (``SourceText``s) and ``question`` beside the messages. With an
    empty question the answer is a summary in document order, of at most ``max_characters`` characters without
    its marks. Without ``question`` the last human message is the question. Without ``sources`` the last human
    message is read as the source itself: a last line that asks is its question, else it is summarised.

    ``max_sentences`` are quoted at most; after the first, those whose chance to hold the answer is ``min_chance``.
    """

    model_config = ConfigDict(extra="forbid")

    max_sentences: int = Field(default=3, ge=1)
    max_characters: int = Field(default=400, ge=1)
    min_chance: float = Field(default=0.05, ge=0.0, le=1.0)
    streaming: bool = False  # LangChain's switch: whether ``invoke`` goes by way of ``stream``

    @property
    def model_name(self) -> str:
        """What receipts and traces call this model."""
        return MODEL_NAME

    @property
    def reads_sources(self) -> bool:
        """Always true: sources are taken beside the messages."""
        return True

    @property
    def _llm_type(self) -> str:
        return MODEL_NAME

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": MODEL_NAME,
            "max_sentences": self.max_sentences,
            "max_characters": self.max_characters,
            "min_chance": self.min_chance,
        }

    def get_token_ids(self, text: str) -> list[int]:
        """One token a code point: this reader has no tokenizer, and counting needs no download."""
        return [ord(character) for character in text]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "".join(self._pieces(messages, stop, **kwargs))
        message = AIMessage(content=text, usage_metadata=_no_tokens(), response_metadata=_response_metadata())
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self._pieces(messages, stop, **kwargs):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        last = AIMessageChunk(
            content="",
            usage_metadata=_no_tokens(),
            response_metadata=_response_metadata(),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def _pieces(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        *,
        question: str | None = None,
        sources: Sequence[SourceText] | None = None,
        max_characters: int | None = None,
        **_: Any,
    ) -> Iterator[str]:
        said = _last_human_text(messages)
        if sources is None:
            asked, sources = _question_and_source(said)
            question = asked if question is None else question
        elif question is None:
            question = said
        limit = self.max_characters if max_characters is None else max_characters
        yield from _until(stop, self._answer(question, sources, limit))

    def _answer(self, question: str, sources: Sequence[SourceText], max_characters: int) -> Iterator[str]:
        if question.strip():
            places = [(found.source, found.start, found.end) for found in self._answering(question, sources)]
            nothing = NOTHING_FOUND.text(_language(question))
        else:
            places = summarize_sentences(sources, max_characters)
            nothing = NOTHING_TO_READ.text()
        for count, (index, start, end) in enumerate(places):
            quote = _TRAILING_MARK.sub("", sources[index].text[start:end]).strip()
            yield ("\n" if count else "") + f"{quote}[{sources[index].number}]"
        if not places:
            yield nothing

    def _answering(self, question: str, sources: Sequence[SourceText]) -> Iterator[RankedSentence]:
        for rank, found in enumerate(rank_sentences(question, sources)[: self.max_sentences]):
            if rank == 0 or found.chance >= self.min_chance:
                yield found


def _language(question: str) -> Language:
    return "zh" if any(is_han(character) for character in question) else "en"


def _until(stop: list[str] | None, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces, up to the first place where one of ``stop`` stands."""
    if not stop:
        yield from pieces
        return
    text = "".join(pieces)
    ends = [place for word in stop if word and (place := text.find(word)) >= 0]
    yield text[: min(ends)] if ends else text


def _last_human_text(messages: Sequence[BaseMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return str(message.text)
    return str(messages[-1].text) if messages else ""


def _question_and_source(said: str) -> tuple[str, list[SourceText]]:
    """A message without sources: its last line if that asks something, and the rest as source number 1."""
    lines = said.rstrip().split("\n")
    if len(lines) > 1 and _QUESTION_END.search(lines[-1]):
        return lines[-1].strip(), [SourceText(number=1, text="\n".join(lines[:-1]))]
    return "", [SourceText(number=1, text=said)]


def _no_tokens() -> UsageMetadata:
    return UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0, input_token_details={"cache_read": 0})


def _response_metadata() -> dict[str, str]:
    return {"model_name": MODEL_NAME, "finish_reason": "stop"}
