"""One answer as it is written: which id comes next, what text it completes, where the answer ends.

Nothing here evaluates: logits come in, ids and text go out, the same for one answer, several side by side
and beams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.request import FinishReason, Request, TokenLogprob
from chinese_alpaca_rag.llms.sampling import Sampler, log_softmax
from chinese_alpaca_rag.llms.stopping import StopWatch

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.constraints import Matcher


class Writing:
    """The state of one answer. ``ids`` are the answer's so far, without the end-of-text id."""

    def __init__(self, request: Request, tokenizer: Tokenizer, vocabulary: int) -> None:
        self.request = request
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: FinishReason | None = None
        self._sampler = Sampler(request.sampling, request.seed)
        self._matcher = _matcher(request, tokenizer, vocabulary)
        self._decoder = tokenizer.stream_decoder()
        self._stop_watch = StopWatch(request.stops)
        self._end_ids = tokenizer.end_ids

    def choose(self, logits: Logits) -> int:
        """The next id; ``take`` has to follow. Raises ``ModelError`` for logits that are no numbers."""
        index = self._sampler.choose(self.permitted(logits))
        if self.request.top_logprobs is not None and index not in self._end_ids:
            self.logprobs.append(_logprob(logits, index, self.request.top_logprobs))
        return index

    def take(self, index: int) -> str:
        """Count ``index`` in and give the text that it completes; sets ``finish_reason`` at the end."""
        if index in self._end_ids:
            self.finish_reason = "stop"
            return self._rest()
        self.ids.append(index)
        if self._matcher is not None:
            self._matcher.accept(index)
        text = self._stop_watch.push(self._decoder.push(index))
        if self._stop_watch.found:
            self.finish_reason = "stop"
        elif self._matcher is not None and self._matcher.finished:
            # Only the end could follow: it need not be evaluated.
            self.finish_reason = "stop"
            text += self._rest()
        elif len(self.ids) == self.request.sampling.max_tokens:
            self.finish_reason = "length"
            text += self._rest()
            if self._stop_watch.found:
                self.finish_reason = "stop"
        return text

    def permitted(self, logits: Logits) -> Logits:
        """``logits`` with minus infinity for what may not come next; the same array where all may."""
        early = len(self.ids) < self.request.min_tokens
        if self._matcher is None and not early:
            return logits
        scores = logits.copy()
        if early:
            scores[[index for index in self._end_ids if index < len(scores)]] = -np.inf
        if self._matcher is None:
            return scores
        allowed = self._matcher.allowed()
        constrained = np.where(allowed, scores, np.float32(-np.inf))
        # A form that is complete leaves nothing but the end, however few tokens it has.
        return constrained if np.isfinite(constrained.max()) else np.where(allowed, logits, np.float32(-np.inf))

    def _rest(self) -> str:
        """What decoder and stop watch still hold back."""
        return self._stop_watch.push(self._decoder.finish()) + self._stop_watch.finish()


def _matcher(request: Request, tokenizer: Tokenizer, vocabulary: int) -> Matcher | None:
    if request.constraint is None:
        return None
    from chinese_alpaca_rag.llms.constraints import Matcher

    return Matcher(request.constraint, tokenizer, vocabulary)


def _logprob(logits: Logits, index: int, alternatives: int) -> TokenLogprob:
    logprobs = log_softmax(logits)
    best = np.argsort(-logprobs, kind="stable")[:alternatives]
    top = tuple((int(other), float(logprobs[other])) for other in best)
    return TokenLogprob(index, float(logprobs[index]), top)
