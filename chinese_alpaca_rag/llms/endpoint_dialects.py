"""What the kinds of model server call things: one frozen row each, and a request in a row's words.

Field names are those of vLLM's ``CompletionRequest``, llama.cpp's ``tools/server/README.md`` and
``server-schema.cpp``, and llama-cpp-python's ``server/types.py``. Every sampler that the family does not
use is switched off by name: servers have defaults of their own (min-p 0.05 in llama.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from chinese_alpaca_rag.family.serving import Engine
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.endpoint_failures import not_offered
from chinese_alpaca_rag.llms.endpoint_grammar import grammar_text
from chinese_alpaca_rag.llms.request import Constraint, Request
from chinese_alpaca_rag.llms.schemas import check_schema

DialectName = Literal["vllm", "llama-server", "llama-cpp-python", "unknown"]
#: How log-probabilities are told: vLLM's lists of "token_id:N", llama-server's entries with ids, or not at all.
LogprobForm = Literal["token-id-lists", "entries", "none"]

# The family's penalty looks back over this many tokens.
_PENALISED: Final = 64
# The first version that calls it structured_outputs; 0.12 no longer knows guided_json.
_STRUCTURED_SINCE: Final = (0, 11)

Fields = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    ``owner`` is what ``/v1/models`` says under ``owned_by``. ``takes_ids``: prompts may be lists of
    ids. ``counts_the_end``: its count of answer tokens includes the id that ended the answer.
    ``streams_logprobs``: they come whole with a stream (llama-server leaves out the bytes of a character).
    """

    name: DialectName
    owner: str
    engine: Engine | None
    takes_ids: bool
    counts_the_end: bool
    logprobs: LogprobForm
    streams_logprobs: bool
    min_tokens: bool
    sampling: Callable[[Request, Tokenizer], Fields]
    constraint: Callable[[Constraint, tuple[int, ...]], Fields] | None


def request_body(
    dialect: Dialect, request: Request, tokenizer: Tokenizer, *, served: str, version: tuple[int, ...]
) -> Fields:
    """Everything of a ``/v1/completions`` request but its prompt. Raises ``WrongUsageError`` for what it cannot say."""
    _check(dialect, request)
    stream = request.top_logprobs is None or dialect.streams_logprobs
    body: Fields = {"model": served, "stream": stream, "max_tokens": request.sampling.max_tokens}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if request.stops:
        body["stop"] = list(request.stops)
    if request.constraint is not None and dialect.constraint is not None:
        check_schema(request.constraint.schema)
        body |= dialect.constraint(request.constraint, version)
    return body | dialect.sampling(request, tokenizer)


def _check(dialect: Dialect, request: Request) -> None:
    for refused, what in (
        (request.guidance is not None, Words(zh="引导（negative_prompt）", en="guidance (negative_prompt)")),
        (request.beams > 1, Words(zh="集束搜索（num_beams）", en="beam search (num_beams)")),
    ):
        if refused:
            raise not_offered(what, dialect.name, ["ChatAlpacaHF"])
    for refused, what, other in (
        (
            request.min_tokens > 0 and not dialect.min_tokens,
            Words(zh="最少词元数（min_tokens）", en="min_tokens"),
            "vllm",
        ),
        (
            request.top_logprobs is not None and dialect.logprobs == "none",
            Words(zh="对数概率（logprobs）", en="logprobs with ids"),
            "llama-server, vllm",
        ),
        (
            request.constraint is not None and dialect.constraint is None,
            Words(zh="受约束的输出", en="constrained output"),
            "llama-server, vllm",
        ),
    ):
        if refused:
            raise not_offered(what, dialect.name, [other])


def _vllm_sampling(request: Request, tokenizer: Tokenizer) -> Fields:
    """The fields of vLLM, whose repetition penalty covers the prompt as well. Ids come back, to be decoded here."""
    sampling = request.sampling
    fields: Fields = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or -1,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": request.min_tokens,
        "stop_token_ids": sorted(tokenizer.end_ids),
        "return_token_ids": True,
    }
    if request.seed is not None:
        fields["seed"] = request.seed % 2**63
    if request.top_logprobs is not None:
        fields |= {"logprobs": request.top_logprobs, "return_tokens_as_token_ids": True}
    return fields


def _vllm_constraint(constraint: Constraint, version: tuple[int, ...]) -> Fields:
    kind, value = ("grammar", grammar_text(constraint)) if constraint.or_text else ("json", constraint.schema)
    if version and version < _STRUCTURED_SINCE:
        return {f"guided_{kind}": value}
    return {"structured_outputs": {kind: value}}


def _llama_server_sampling(request: Request, _: Tokenizer) -> Fields:
    """The fields of llama-server, its samplers in the family's order; its penalty sees the prompt's last tokens."""
    sampling = request.sampling
    fields: Fields = {
        "samplers": ["penalties", "temperature", "top_k", "top_p"],
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "typical_p": 1.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": _PENALISED,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": False,
        "cache_prompt": True,
    }
    if request.seed is not None:
        fields["seed"] = _seed(request.seed)
    if request.top_logprobs is not None:
        # The chosen token comes with the likeliest ones only.
        fields |= {"n_probs": max(1, request.top_logprobs), "post_sampling_probs": False}
    return fields


def _llama_server_constraint(constraint: Constraint, _: tuple[int, ...]) -> Fields:
    return {"grammar": grammar_text(constraint)} if constraint.or_text else {"json_schema": constraint.schema}


def _llama_cpp_python_sampling(request: Request, _: Tokenizer) -> Fields:
    sampling = request.sampling
    fields: Fields = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "mirostat_mode": 0,
        "min_tokens": request.min_tokens,
    }
    if request.seed is not None:
        fields["seed"] = _seed(request.seed)
    return fields


def _plain_sampling(request: Request, _: Tokenizer) -> Fields:
    """OpenAI's own fields, and the two that most servers know beside them."""
    sampling = request.sampling
    fields: Fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if request.seed is not None:
        fields["seed"] = _seed(request.seed)
    return fields


def _seed(seed: int) -> int:
    """llama.cpp's seeds have 32 bits, and the last one means "random"."""
    return seed % (2**32 - 1)


DIALECTS: Final[Mapping[DialectName, Dialect]] = MappingProxyType(
    {
        row.name: row
        for row in (
            Dialect(
                name="vllm",
                owner="vllm",
                engine="vllm",
                takes_ids=True,
                counts_the_end=True,
                logprobs="token-id-lists",
                streams_logprobs=True,
                min_tokens=True,
                sampling=_vllm_sampling,
                constraint=_vllm_constraint,
            ),
            Dialect(
                name="llama-server",
                owner="llamacpp",
                engine="llama-server",
                takes_ids=True,
                counts_the_end=True,
                logprobs="entries",
                streams_logprobs=False,
                min_tokens=False,
                sampling=_llama_server_sampling,
                constraint=_llama_server_constraint,
            ),
            Dialect(
                name="llama-cpp-python",
                owner="me",
                engine="llama-cpp-python",
                takes_ids=False,
                counts_the_end=False,
                logprobs="none",
                streams_logprobs=False,
                min_tokens=True,
                sampling=_llama_cpp_python_sampling,
                constraint=lambda constraint, _: {"grammar": grammar_text(constraint)},
            ),
            Dialect(
                name="unknown",
                owner="",
                engine=None,
                takes_ids=True,
                counts_the_end=False,
                logprobs="none",
                streams_logprobs=False,
                min_tokens=False,
                sampling=_plain_sampling,
                constraint=None,
            ),
        )
    }
)
