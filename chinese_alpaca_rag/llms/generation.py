"""One answer at a time: evaluate the prompt, choose ids, give the text as it comes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any

from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Backend, Logits, forgetting
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.request import FinishReason, Guidance, Request, TokenLogprob
from chinese_alpaca_rag.llms.rows import prefill_rows
from chinese_alpaca_rag.llms.sampling import guided
from chinese_alpaca_rag.llms.speculation import Speculation
from chinese_alpaca_rag.llms.turns import Turns
from chinese_alpaca_rag.llms.writing import Writing


class Generation:
    """The work on one request, a ``request.Answer``.

    Nothing is evaluated beyond what was asked for with ``next``: who stops iterating stops the work. A set
    ``cancelled`` ends the iteration, inside a long prompt too. With ``speculation`` (not under guidance) one
    evaluation may be worth several tokens; they are still chosen and given one after another.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        *,
        turns: Turns,
        prefixes: Prefixes,
        open_backend: Callable[[], Backend],
        cancelled: Cancellation,
        speculation: Speculation | None = None,
    ) -> None:
        self.request = request
        self._reused: int | None = None
        self.logprobs: list[TokenLogprob] = []
        self._tokenizer = tokenizer
        self._turns = turns
        self._prefixes = prefixes
        self._open_backend = open_backend
        self._cancelled = cancelled
        self._speculation = speculation
        self._writing: Writing | None = None

    @property
    def reused(self) -> int:
        """See ``Answer.reused``. Where others used the model meanwhile, the least of all readings."""
        return self._reused or 0

    def _count_reused(self, reused: int) -> None:
        self._reused = reused if self._reused is None else min(self._reused, reused)

    @property
    def output_tokens(self) -> int:
        """The answer's tokens so far."""
        return len(self._writing.ids) if self._writing else 0

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended."""
        return self._writing.finish_reason if self._writing else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What is told of the answer beside its text: how many ids were guessed, and how many of them chosen."""
        if self._speculation is None or not self._speculation.drafted:
            return {}
        return {"speculation": {"drafted": self._speculation.drafted, "accepted": self._speculation.accepted}}

    def pieces(self) -> Generator[str]:
        """See ``Answer.pieces``."""
        try:
            while self.finish_reason is None:
                index = self._next_id()
                if index is None or self._writing is None:
                    return
                text = self._writing.take(index)
                if text:
                    yield text
        finally:
            if self._speculation is not None:
                self._speculation.close()
            self._turns.leave(self)

    def _next_id(self) -> int | None:
        """Evaluate what is not evaluated yet and choose; ``None`` when it was called off."""
        with self._turns.step(self) as undisturbed:
            backend = self._open_backend()
            backend.watch(self._cancelled)
            if self._writing is None:
                self._writing = Writing(self.request, self._tokenizer, backend.vocabulary)
                self.logprobs = self._writing.logprobs
                if self._speculation is not None:
                    self._speculation.get_ready()
            # Not undisturbed: the start, or somebody else used the model while this answer stood still.
            with suppress(EvaluationStopped), forgetting(backend):
                if self.request.guidance is None:
                    logits = self._evaluated(backend, self._writing.ids, undisturbed)
                else:
                    logits = self._evaluated_guided(backend, self.request.guidance, self._writing.ids, undisturbed)
                return None if logits is None else self._chosen(backend, self._writing, logits)
            return None

    def _chosen(self, backend: Backend, writing: Writing, logits: Logits) -> int:
        index = writing.choose(logits)
        if self._speculation is not None:
            self._speculation.chosen(backend, index, writing.ids)
        return index

    def _evaluated(self, backend: Backend, written: Sequence[int], undisturbed: bool) -> Logits | None:
        if undisturbed:
            if self._cancelled.is_set():
                return None
            if self._speculation is not None:
                return self._speculation.logits(backend, written)
            backend.evaluate(written[-1:])
            return backend.logits()
        if self._speculation is not None:
            self._speculation.start_over()
        whole = [*self.request.ids, *written]
        reused = self._prefixes.prefill(backend, whole, self.request.segments, self._cancelled)
        if reused is None:
            return None
        self._count_reused(reused)
        return backend.logits()

    def _evaluated_guided(
        self, backend: Backend, guidance: Guidance, written: Sequence[int], undisturbed: bool
    ) -> Logits | None:
        if undisturbed:
            if self._cancelled.is_set():
                return None
            backend.extend([written[-1:], written[-1:]])
        else:
            rows = [[*self.request.ids, *written], [*guidance.ids, *written]]
            kept = prefill_rows(self._prefixes, backend, rows, self.request.segments, self._cancelled)
            if kept is None:
                return None
            self._count_reused(kept)
        return guided(backend.row_logits(0), backend.row_logits(1), guidance.scale)
