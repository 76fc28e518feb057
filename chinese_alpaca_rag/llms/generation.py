"""One answer: evaluate the prompt, choose ids, turn them into text, end where it has to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.sampling import Sampler
from chinese_alpaca_rag.llms.stopping import StopWatch
from chinese_alpaca_rag.llms.turns import Turns

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """What is asked of the model. ``sampling.max_tokens`` is already limited by what the window leaves."""

    ids: tuple[int, ...]
    sampling: Sampling
    seed: int | None
    stops: tuple[str, ...]


class Generation:
    """The work on one request. ``reused`` and ``output_tokens`` count tokens; both grow true as it goes on.

    ``reused`` are prompt tokens whose keys and values were still held when the prompt was evaluated;
    ``output_tokens`` leaves out the end-of-text id. ``finish_reason`` is ``None`` until the end.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: FamilyTokenizer,
        *,
        turns: Turns,
        open_backend: Callable[[], Backend],
        cancelled: threading.Event,
    ) -> None:
        self.request = request
        self._turns = turns
        self._open_backend = open_backend
        self._cancelled = cancelled
        self._ids = list(request.ids)
        self._sampler = Sampler(request.sampling, request.seed)
        self._decoder = tokenizer.stream_decoder()
        self._stop_watch = StopWatch(request.stops)
        self._end_ids = {tokenizer.eos_id, tokenizer.bos_id}
        self.reused = len(request.ids)
        self.output_tokens = 0
        self.finish_reason: FinishReason | None = None

    def pieces(self) -> Generator[str]:
        """The answer's text as it comes, never empty pieces and never half a character.

        Nothing is evaluated beyond what was asked for with ``next``: who stops iterating stops the
        work. A set ``cancelled`` ends the iteration at the next token, or inside a long prompt at the
        next batch.
        """
        try:
            while self.finish_reason is None:
                index = self._next_id()
                if index is None:
                    return
                text = self._take(index)
                if text:
                    yield text
        finally:
            self._turns.leave(self)

    def _take(self, index: int) -> str:
        """Count ``index`` in and give the text that it completes; sets ``finish_reason`` at the end."""
        if index in self._end_ids:
            self.finish_reason = "stop"
            return self._rest()
        self._ids.append(index)
        self.output_tokens += 1
        text = self._stop_watch.push(self._decoder.push(index))
        if not self._stop_watch.found and self.output_tokens == self.request.sampling.max_tokens:
            self.finish_reason = "length"
            text += self._rest()
        if self._stop_watch.found:
            self.finish_reason = "stop"
        return text

    def _rest(self) -> str:
        """What decoder and stop watch still hold back."""
        return self._stop_watch.push(self._decoder.finish()) + self._stop_watch.finish()

    def _next_id(self) -> int | None:
        """Evaluate what is not evaluated yet and choose; ``None`` when it was called off."""
        with self._turns.step(self) as undisturbed:
            backend = self._open_backend()
            position = len(self._ids) - 1
            if not undisturbed:
                # The start, or somebody else used the model while this answer stood still.
                position = backend.keep(self._ids)
                self.reused = min(self.reused, position)
            while position < len(self._ids):
                if self._cancelled.is_set():
                    return None
                backend.evaluate(self._ids[position : position + backend.batch])
                position += backend.batch
            return self._sampler.choose(backend.logits())
