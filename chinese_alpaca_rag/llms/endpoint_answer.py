"""One answer of a model server, as the rest of the kit knows answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from chinese_alpaca_rag.errors import EndpointError
from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.endpoint_client import EndpointClient
from chinese_alpaca_rag.llms.endpoint_dialects import request_body
from chinese_alpaca_rag.llms.endpoint_failures import RefusedRequestError, cut_off, damaged, other_token_count
from chinese_alpaca_rag.llms.endpoint_reading import Figures, Part, read_part
from chinese_alpaca_rag.llms.endpoint_served import Served, server_cutting
from chinese_alpaca_rag.llms.refusals import prompt_overflow
from chinese_alpaca_rag.llms.request import FinishReason, Request, TokenLogprob
from chinese_alpaca_rag.llms.stopping import StopWatch
from chinese_alpaca_rag.llms.text_prompts import text_prompt

_COMPLETIONS: Final = "/v1/completions"
# How many events a server may still send after a stop text before it is cut off.
_EVENTS_AFTER_STOP: Final = 16
# Characters: no vocabulary of the family holds a longer piece.
_LONGEST_PIECE: Final = 512
# Statuses by which a server says that it does not take a list of ids.
_NOT_SO: Final = frozenset({400, 422})


@dataclass(frozen=True)
class Server:
    """A server with what was found out about it; ``served`` finds out at its first call."""

    client: EndpointClient
    served: Callable[[], Served]
    tokenizer: Tokenizer
    card: ModelCard
    window: int


class EndpointAnswer:
    """See ``request.Answer``. ``metadata`` goes into the message's ``response_metadata``.

    Where the server gives ids they are decoded here; else its text is taken, less the space that
    SentencePiece's first piece begins with. Stop texts are sent to the server and watched for here as
    well, because servers cut differently. With a server that takes text alone ``request.ids`` are, once it
    was asked, the ids that it was made to evaluate.
    """

    def __init__(self, request: Request, server: Server, cancelled: threading.Event) -> None:
        self.request = request
        self.reused = 0
        self.output_tokens = 0
        self.finish_reason: FinishReason | None = None
        self.logprobs: list[TokenLogprob] = []
        self.metadata: dict[str, Any] = {}
        self._server = server
        self._cancelled = cancelled
        self._tokenizer = server.tokenizer
        self._decoder = server.tokenizer.stream_decoder()
        self._watch = StopWatch(request.stops)
        self._gave_ids = False
        self._text = ""
        self._end: FinishReason | None = None
        self._figures: Figures | None = None

    def pieces(self) -> Generator[str]:
        """See ``request.Answer``. Raises ``EndpointError``."""
        served = self._server.served()
        self.metadata = {"served_model": served.name, "dialect": served.dialect.name}
        after_stop = 0
        with closing(self._events(served)) as events:
            for event in events:
                text = self._take(read_part(event, **self._form(served)))
                if text:
                    yield text
                after_stop += self._watch.found
                if after_stop > _EVENTS_AFTER_STOP:
                    break
        if self._cancelled.is_set():
            return
        if not self._watch.found:
            if self._end is None:
                raise cut_off(self._server.client.address)
            rest = self._watch.push(self._decoder.finish()) + self._watch.finish()
            if rest:
                yield rest
        self._conclude(served)

    def _form(self, served: Served) -> dict[str, Any]:
        return {
            "form": served.dialect.logprobs if self.request.top_logprobs is not None else "none",
            "vocabulary": self._tokenizer.vocabulary_size,
            "top": self.request.top_logprobs or 0,
        }

    # Asking.

    def _events(self, served: Served) -> Generator[dict[str, Any]]:
        """The server's events; a kind of server that nobody named may turn out to take text alone."""
        if not served.dialect.takes_ids:
            yield from self._ask(served, self._as_text(served))
            return
        try:
            yield from self._ask(served, list(self.request.ids))
        except RefusedRequestError as refused:
            if served.dialect.engine is not None or refused.status not in _NOT_SO:
                raise
            yield from self._ask(served, self._as_text(served))

    def _ask(self, served: Served, prompt: str | list[int]) -> Iterator[dict[str, Any]]:
        body = request_body(
            served.dialect, self.request, self._tokenizer, served=served.name, version=served.version
        ) | {"prompt": prompt}
        client = self._server.client
        if body["stream"]:
            yield from client.events(_COMPLETIONS, body, self._cancelled)
            return
        whole = client.post(_COMPLETIONS, body, self._cancelled)
        if whole is not None and not self._cancelled.is_set():
            yield whole

    def _as_text(self, served: Served) -> str:
        """The prompt for a server that takes text alone, checked against how the server cuts it."""
        prompt = text_prompt(self.request.ids, self._tokenizer, adds_bos=served.adds_bos)
        room = self._server.window - len(prompt.ids)
        if room < 1:
            raise prompt_overflow(len(prompt.ids), self._server.window, self._server.card)
        sampling = self.request.sampling
        self.request = replace(
            self.request, ids=prompt.ids, sampling=replace(sampling, max_tokens=min(sampling.max_tokens, room))
        )
        self.metadata["rewritten_marks"] = prompt.rewritten
        if served.shows_its_cutting:
            cut = server_cutting(self._server.client, served.name, prompt.text, self._cancelled)
            if cut is not None and cut != list(prompt.ids):
                raise _cut_otherwise(len(prompt.ids), len(cut), served)
        return prompt.text

    # Taking what comes.

    def _take(self, part: Part) -> str:
        """What of ``part`` can be shown; its figures are kept."""
        self._figures = part.figures or self._figures
        self._end = part.finish or self._end
        if self._watch.found:
            return ""
        if part.logprobs:
            self.logprobs += [entry for entry in part.logprobs if entry.id not in self._tokenizer.end_ids]
        if part.ids is not None:
            return self._take_ids(part.ids)
        if self._gave_ids or not part.text:
            return ""
        text = part.text
        if not self._text and self._tokenizer.kind == "sentencepiece":
            text = text.removeprefix(" ")
        self._text += part.text
        self._check_length(len(self._text), _LONGEST_PIECE)
        return self._watch.push(text)

    def _take_ids(self, ids: list[int]) -> str:
        self._gave_ids = True
        text = ""
        for index in ids:
            if self._watch.found:
                break
            if index in self._tokenizer.end_ids:
                continue
            self.output_tokens += 1
            text += self._watch.push(self._decoder.push(index))
        self._check_length(self.output_tokens, 1)
        return text

    def _check_length(self, length: int, unit: int) -> None:
        limit = self.request.sampling.max_tokens
        if length > limit * unit:
            raise damaged(self._server.client.address, f"more than the {limit} tokens that were asked for")

    # The end.

    def _conclude(self, served: Served) -> None:
        figures = self._figures or Figures()
        sent = len(self.request.ids)
        if figures.prompt is not None and figures.prompt != sent:
            raise other_token_count(sent, figures.prompt, served.name)
        self.reused = min(figures.cached or 0, sent)
        self.finish_reason = "stop" if self._watch.found else self._end
        if self._gave_ids:
            return
        if figures.answer is not None:
            ended_by_id = self._end == "stop" and not self.request.stops and served.dialect.counts_the_end
            self.output_tokens = max(0, figures.answer - ended_by_id)
        else:
            counted = self._tokenizer.count(self._text.removeprefix(" "))
            # Text of odd bytes encodes longer than it was written, but no reply is longer than it may be.
            self.output_tokens = min(counted, self.request.sampling.max_tokens)
            self.metadata["usage_counted_here"] = True


def _cut_otherwise(sent: int, cut: int, served: Served) -> EndpointError:
    return EndpointError(
        Words(
            zh=f"{served.name} 把提示词切成 {cut} 个词元，与应有的 {sent} 个不同。",
            en=f"{served.name} cuts the prompt into {cut} tokens, which are not the {sent} that are meant.",
        ),
        hint=Words(
            zh="它加载的可能是别的模型；最好使用接受词元 id 的服务：llama-server 或 vLLM。",
            en="It may serve another model; best use a server that takes token ids: llama-server or vLLM.",
        ),
    )
