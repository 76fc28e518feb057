"""The one core of the family's chat models: messages to ids, limits, streaming, usage, cancelling.

A backend's class adds its own fields and says how an answer is made; everything that a LangChain user sees
is here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.template import Prompt, Turn, chat_template, default_system, render_prompt
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped, in_a_thread, one_by_one
from chinese_alpaca_rag.llms.family_model import FamilyModel, usage
from chinese_alpaca_rag.llms.forms import Form, read_form
from chinese_alpaca_rag.llms.messages import add_system_text, as_turns, conversation_language, count_fragments
from chinese_alpaca_rag.llms.refusals import nothing_to_answer
from chinese_alpaca_rag.llms.request import Answer, Request
from chinese_alpaca_rag.llms.structured import Method, with_structured_output
from chinese_alpaca_rag.llms.tools import read_choice, tool_specs


class ChatAlpaca(FamilyModel, BaseChatModel):
    """A chat model of the family; the base of ``ChatAlpacaGGUF``, ``ChatAlpacaHF`` and ``ChatAlpacaEndpoint``."""

    streaming: bool = False
    """Whether ``invoke`` also reports each token to callbacks."""

    form_fields: ClassVar[tuple[str, ...]] = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
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
            tool_calling=True,
            tool_choice=True,
            structured_output=True,
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

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """As ``count_prompt_tokens``, the description of ``tools`` included.

        What is no whole conversation yet (LangChain's ``trim_messages`` counts such) is counted turn by turn
        and never comes out too low by a template's words.
        """
        turns = self._turns_of(messages, read_form({"tools": tools}))
        try:
            return len(self._rendered(turns).ids)
        except WrongUsageError:
            return count_fragments(chat_template(self.card), turns, self.tokenizer)

    def _turns_of(self, messages: Sequence[BaseMessage], form: Form) -> list[Turn]:
        """The conversation with what ``form`` has to tell the model in its system text."""
        told = form.system_text(conversation_language(messages)) if form.specs else ""
        return add_system_text(as_turns(messages), told, default_system(chat_template(self.card)))

    # Tools and structured output.

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with ``tools`` it may call, described in its system text.

        ``tool_choice``: "auto" (the default), "none", "any" (also "required" and true), or a tool's name.
        A forced call is held to the tool's schema while it is written. Raises ``WrongUsageError``.
        """
        specs = tool_specs(tools)
        read_choice(tool_choice, specs, parallel=parallel_tool_calls)
        if kwargs.get("strict") is None:
            kwargs.pop("strict", None)
        described = [spec.as_openai() for spec in specs]
        return self.bind(tools=described, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model answering in JSON of ``schema``: a pydantic class, a ``TypedDict``, or a JSON Schema.

        The schema is held while the answer is written, and checked again afterwards in all that a grammar
        cannot hold; what breaks it, or does not finish within ``max_tokens``, is a ``StructuredOutputError``.
        """
        return with_structured_output(self, schema, include_raw=include_raw, method=method, strict=strict, **kwargs)

    # Answering.

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._answer(messages, stop, kwargs, Cancellation())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        cancelled = Cancellation()
        return await in_a_thread(partial(self._answer, messages, stop, kwargs, cancelled), cancelled)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return self._chunks(messages, stop, kwargs, Cancellation())

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        cancelled = Cancellation()
        async with aclosing(one_by_one(self._chunks(messages, stop, kwargs, cancelled), cancelled)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any], cancelled: Cancellation
    ) -> ChatResult:
        form, request = self._prepare(messages, stop, arguments)
        answer = self._whole_answer_to(request, cancelled)
        text = "".join(answer.pieces())
        if answer.finish_reason is None:
            raise EvaluationStopped  # half an answer is none: a cache would keep it
        form.check(text, answer)
        metadata = self._response_metadata(answer) | self._logprobs(answer)
        message = form.message(text, usage_metadata=usage(answer), response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _whole_answer_to(self, request: Request, cancelled: Cancellation) -> Answer:
        """As ``_answer_to``, for an answer that is not streamed."""
        return self._answer_to(request, cancelled)

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: dict[str, Any], cancelled: Cancellation
    ) -> Generator[ChatGenerationChunk]:
        form, request = self._prepare(messages, stop, arguments)
        answer = self._answer_to(request, cancelled)
        reply, whole, told = form.stream(), [], 0
        with closing(answer.pieces()) as pieces:
            for piece in pieces:
                whole.append(piece)
                shown = reply.push(piece)
                if shown:
                    metadata = self._logprobs(answer, told)
                    told = len(answer.logprobs)
                    yield ChatGenerationChunk(message=AIMessageChunk(content=shown, response_metadata=metadata))
        form.check("".join(whole), answer)
        last = reply.finish()
        last.usage_metadata = usage(answer)
        last.response_metadata = self._response_metadata(answer) | self._logprobs(answer, told)
        last.chunk_position = "last"
        yield ChatGenerationChunk(message=last)

    def _prepare(
        self, messages: list[BaseMessage], stop: list[str] | None, arguments: Mapping[str, Any]
    ) -> tuple[Form, Request]:
        """Check everything that can be checked before anything is evaluated."""
        form = read_form({name: arguments.get(name) for name in self.form_fields})
        others = {name: value for name, value in arguments.items() if name not in self.form_fields}
        overrides = self._overrides(others)
        turns = self._turns_of(messages, form)
        if not turns or turns[-1].role != "user":
            raise nothing_to_answer()

        def under(system: str) -> tuple[int, ...]:
            dialogue = [turn for turn in turns if turn.role != "system"]
            return self._rendered([Turn("system", system), *dialogue]).ids

        prompt = self._rendered(turns)
        request = self._request(prompt.ids, stop, overrides, form.constraint, under)
        request = replace(request, segments=prompt.segments)
        form.check_budget(self.tokenizer, request.sampling.max_tokens)
        return form, request
