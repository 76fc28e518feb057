"""Chat models whose weights are on this machine: what ``batch`` does for them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, get_config_list

from chinese_alpaca_rag.llms.batching import Gathering, Participant, current_participant
from chinese_alpaca_rag.llms.cancellation import Cancellation, in_a_thread
from chinese_alpaca_rag.llms.chat import ChatAlpaca
from chinese_alpaca_rag.llms.local import LocalModel


class LocalChat(LocalModel, ChatAlpaca):
    """``batch`` and ``abatch`` evaluate up to ``batch_size`` prompts side by side, what they share only once.

    The replies are those of single calls wherever the backend's arithmetic does not depend on the number of
    rows, as in single precision with transformers on a CPU. Half precision and quantised weights round otherwise
    for several rows: probabilities are the same, sampled texts need not be.
    ``max_concurrency`` in the config lowers ``batch_size``.
    """

    @property
    def _llm_type(self) -> str:
        return f"chinese-alpaca-rag-{self.backend_format}"

    def batch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """The replies to ``inputs``, in their order."""
        return self._batch(inputs, config, Cancellation(), return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """As ``batch``; cancelling it stops the evaluation."""
        cancelled = Cancellation()
        work = partial(self._batch, inputs, config, cancelled, return_exceptions=return_exceptions, **kwargs)
        return await in_a_thread(work, cancelled)

    def _batch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        cancelled: Cancellation,
        *,
        return_exceptions: bool,
        **kwargs: Any,
    ) -> list[Any]:
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        together = max(1, min(self.batch_size, configs[0].get("max_concurrency") or self.batch_size))
        answers: list[Any] = []
        for start in range(0, len(inputs), together):
            part = slice(start, start + together)
            answers += self._together(inputs[part], configs[part], cancelled, return_exceptions, kwargs)
        return answers

    def _together(
        self,
        inputs: Sequence[LanguageModelInput],
        configs: Sequence[RunnableConfig],
        cancelled: Cancellation,
        return_exceptions: bool,
        kwargs: dict[str, Any],
    ) -> list[Any]:
        """One thread for each input: each hands its request in and waits for all answers."""
        gathering = Gathering(len(inputs), self._answers_to, cancelled)

        def take_part(number: int) -> AIMessage:
            current_participant.set(Participant(self, gathering, number))
            try:
                return self.invoke(inputs[number], configs[number], **kwargs)
            finally:
                gathering.leave(number)

        with ContextThreadPoolExecutor(max_workers=len(inputs)) as executor:
            try:
                futures = [executor.submit(partial(take_part, number)) for number in range(len(inputs))]
                return [_outcome(future, return_exceptions) for future in futures]
            except BaseException:
                # Whoever waits for this batch has gone: the threads stop at their next token.
                cancelled.set()
                raise


def _outcome(future: Future[AIMessage], return_exceptions: bool) -> AIMessage | Exception:
    try:
        return future.result()
    except Exception as problem:
        if return_exceptions:
            return problem
        raise
