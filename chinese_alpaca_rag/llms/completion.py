"""Completion: text that goes on. For base models, which follow no instruction, and for raw prompts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LangSmithParams
from langchain_core.outputs import Generation as TextGeneration
from langchain_core.outputs import GenerationChunk, LLMResult

from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped, in_a_thread, one_by_one
from chinese_alpaca_rag.llms.family_model import usage
from chinese_alpaca_rag.llms.local import LocalModel
from chinese_alpaca_rag.llms.request import Answer, Request


class Alpaca(LocalModel, BaseLLM):
    """A checkpoint of the family that continues text; the base of ``AlpacaGGUF`` and ``AlpacaHF``.

    The prompt is BOS and the text's own ids: no template, and no text becomes a control id.
    ``generation_info`` holds the reason of the ending and the usage; several prompts are answered side by side.
    """

    streaming: bool = False
    """Whether ``invoke`` also reports each token to callbacks."""

    _langchain_fields: ClassVar[frozenset[str]] = frozenset(BaseLLM.model_fields)

    @property
    def _llm_type(self) -> str:
        return f"chinese-alpaca-rag-completion-{self.backend_format}"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self._identity()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "chinese-alpaca-rag"
        params["ls_model_name"] = self.model_name
        return params

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """The ids that are evaluated for ``prompt``: BOS and the text's own."""
        return (self.tokenizer.bos_id, *self.tokenizer.encode(prompt))

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return self._complete(prompts, stop, kwargs, Cancellation())

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        cancelled = Cancellation()
        return await in_a_thread(partial(self._complete, prompts, stop, kwargs, cancelled), cancelled)

    def _complete(
        self, prompts: Sequence[str], stop: list[str] | None, arguments: Mapping[str, Any], cancelled: Cancellation
    ) -> LLMResult:
        requests = [self._prepare(prompt, stop, arguments) for prompt in prompts]
        answers = self._answers_to(requests, cancelled)
        texts = ["".join(answer.pieces()) for answer in answers]
        if any(answer.finish_reason is None for answer in answers):
            raise EvaluationStopped  # half an answer is none: a cache would keep it
        generations: list[list[TextGeneration]] = [
            [TextGeneration(text=text, generation_info=self._info(answer))]
            for text, answer in zip(texts, answers, strict=True)
        ]
        counts = [usage(answer) for answer in answers]
        total = {name: sum(int(count[name]) for count in counts) for name in ("input_tokens", "output_tokens")}
        return LLMResult(generations=generations, llm_output={"model_name": self.model_name, "token_usage": total})

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for chunk in self._chunks(prompt, stop, kwargs, Cancellation()):
            if run_manager and chunk.text:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        cancelled = Cancellation()
        async with aclosing(one_by_one(self._chunks(prompt, stop, kwargs, cancelled), cancelled)) as chunks:
            async for chunk in chunks:
                if run_manager and chunk.text:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _chunks(
        self, prompt: str, stop: list[str] | None, arguments: Mapping[str, Any], cancelled: Cancellation
    ) -> Generator[GenerationChunk]:
        answer = self._answer_to(self._prepare(prompt, stop, arguments), cancelled)
        with closing(answer.pieces()) as pieces:
            for piece in pieces:
                yield GenerationChunk(text=piece)
        yield GenerationChunk(text="", generation_info=self._info(answer))

    def _prepare(self, prompt: str, stop: list[str] | None, arguments: Mapping[str, Any]) -> Request:
        """Check everything that can be checked before anything is evaluated."""
        return self._request(self.prompt_ids(prompt), stop, self._overrides(arguments), under=self.prompt_ids)

    def _info(self, answer: Answer) -> dict[str, Any]:
        return self._response_metadata(answer) | self._logprobs(answer) | {"usage": dict(usage(answer))}
