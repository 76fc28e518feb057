"""The command that starts a model server with the right window: without its RoPE scaling it answers garbage.

Option names are those of vLLM 0.12 and later (``rope_parameters``; older versions take ``rope_scaling``
and ``rope_theta`` in ``--hf-overrides`` instead), of llama.cpp since August 2025 (``--flash-attn`` with a
value), and of llama-cpp-python 0.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.memory import GGML_TYPES, KvType, context_length
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from chinese_alpaca_rag.language import Words

Engine = Literal["vllm", "llama-server", "llama-cpp-python"]

#: A server is reached from its own machine only, unless another address is asked for.
LOCAL_HOST: Final = "127.0.0.1"

_SCALINGS: Final = {"default": "none", "linear": "linear", "yarn": "yarn"}


@dataclass(frozen=True)
class _Place:
    """Where a server listens, what it loads and how it holds keys and values."""

    model: str
    name: str
    host: str
    port: int
    kv_type: KvType


def serving_command(
    card: ModelCard,
    window: int | None = None,
    *,
    engine: str,
    path: Path | str | None = None,
    host: str = LOCAL_HOST,
    port: int | None = None,
    kv_type: str | None = None,
    alpha: float | Literal["auto"] | None = "auto",
) -> list[str]:
    """The arguments, program first, that start ``engine`` with ``card`` opened for ``window`` tokens.

    ``path`` is the weights: a GGUF file for the llama.cpp engines, a transformers folder for vLLM; without
    it the hub's name stands there (vLLM), or the name of a file to be put in its place. Raises
    ``WindowUnreachableError`` as ``plan_rope`` does, ``WrongUsageError`` for an engine, port or KV type that is none.
    """
    row = _ENGINES.get(cast("Engine", engine))
    if row is None:
        raise _unknown("engine", engine, tuple(_ENGINES))
    if path is not None:
        _check_format(Path(path), engine, row)
    plan = plan_rope(card, window, alpha=alpha)
    kv = kv_type or "f16"
    if kv not in row.kv_types:
        raise _unknown("kv_type", kv, row.kv_types)
    listening = row.port if port is None else port
    if isinstance(listening, bool) or not 0 < listening < 65536:
        raise _unknown("port", str(listening), ("1 … 65535",))
    place = _Place(
        model=str(path) if path is not None else row.default_model(card),
        name=card.name,
        host=host,
        port=listening,
        kv_type=cast("KvType", kv),
    )
    return row.arguments(plan, place)


def _vllm(plan: RopePlan, place: _Place) -> list[str]:
    """``vllm serve``: prompts come as ids, so that its tokenizer only turns answers into text.

    ``--generation-config vllm`` keeps the sampling of a file beside the weights out. A path that stands on
    this machine is opened offline; usage figures are never sent.
    """
    environment = ["VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"]
    if Path(place.model).exists():
        environment.append("HF_HUB_OFFLINE=1")
    return [
        "env",
        *environment,
        *("vllm", "serve", place.model),
        *("--served-model-name", place.name),
        *("--host", place.host, "--port", str(place.port)),
        *("--max-model-len", str(plan.window)),
        *("--hf-overrides", json.dumps(plan.for_vllm())),
        *("--generation-config", "vllm"),
        "--enable-prompt-tokens-details",
    ]


def _llama_server(plan: RopePlan, place: _Place) -> list[str]:
    """``llama-server``, one sequence as long as the window.

    It cuts a context down to the length that the file says the model was trained with
    (llama.cpp issue 17459), so that this figure is overridden with the window.
    """
    context = context_length(plan.window)
    words = plan.for_llama_cpp()
    return [
        *("llama-server", "--model", place.model),
        *("--alias", place.name),
        *("--host", place.host, "--port", str(place.port)),
        *("--ctx-size", str(context), "--parallel", "1", "--no-context-shift"),
        *("--override-kv", f"llama.context_length=int:{context}"),
        *("--rope-scaling", _SCALINGS[plan.kind]),
        *("--rope-freq-base", _number(words["rope_freq_base"])),
        *("--rope-freq-scale", _number(words["rope_freq_scale"])),
        *("--yarn-orig-ctx", str(words["yarn_orig_ctx"])),
        *("--yarn-ext-factor", _number(words["yarn_ext_factor"])),
        *("--yarn-attn-factor", _number(words["yarn_attn_factor"])),
        *("--yarn-beta-fast", _number(words["yarn_beta_fast"])),
        *("--yarn-beta-slow", _number(words["yarn_beta_slow"])),
        *("--cache-type-k", place.kv_type, "--cache-type-v", place.kv_type),
        # Quantised values need it; otherwise it is used wherever the device can.
        *("--flash-attn", "auto" if place.kv_type == "f16" else "on"),
        *("--offline", "--no-webui", "--no-slots"),
    ]


def _llama_cpp_python(plan: RopePlan, place: _Place) -> list[str]:
    """llama-cpp-python's server.

    ``--logits_all false``: it would hold every position's logits (3.6 GB at 16K). ``--interrupt_requests
    false``: a new request would end the one before half-way.
    """
    quantised = place.kv_type != "f16"
    return [
        *("python", "-m", "llama_cpp.server", "--model", place.model),
        *("--model_alias", place.name),
        *("--host", place.host, "--port", str(place.port)),
        *("--n_ctx", str(context_length(plan.window))),
        *(text for name, value in plan.for_llama_cpp().items() for text in (f"--{name}", _number(value))),
        *("--type_k", str(GGML_TYPES[place.kv_type]), "--type_v", str(GGML_TYPES[place.kv_type])),
        *("--flash_attn", "true" if quantised else "false"),
        *("--logits_all", "false"),
        *("--interrupt_requests", "false"),
    ]


@dataclass(frozen=True)
class _EngineRow:
    """How one kind of server is started."""

    port: int
    opens: Literal["gguf", "hf"]
    kv_types: tuple[str, ...]
    default_model: Callable[[ModelCard], str]
    arguments: Callable[[RopePlan, _Place], list[str]]


_ENGINES: Final[Mapping[Engine, _EngineRow]] = MappingProxyType(
    {
        # vLLM's quantised caches are of other kinds, which the memory figures here do not know.
        "vllm": _EngineRow(8000, "hf", ("f16",), lambda card: card.hub or card.name, _vllm),
        "llama-server": _EngineRow(8080, "gguf", tuple(GGML_TYPES), lambda card: f"{card.name}.gguf", _llama_server),
        "llama-cpp-python": _EngineRow(
            8000, "gguf", tuple(GGML_TYPES), lambda card: f"{card.name}.gguf", _llama_cpp_python
        ),
    }
)

#: The engines that ``serving_command`` knows.
ENGINES: Final[tuple[Engine, ...]] = tuple(_ENGINES)


def _check_format(path: Path, engine: str, row: _EngineRow) -> None:
    """A GGUF file is for llama.cpp, a folder for vLLM."""
    form = "gguf" if path.suffix.lower() == ".gguf" or path.is_file() else "hf"
    if form == row.opens:
        return
    fitting = ", ".join(name for name, other in _ENGINES.items() if other.opens == form)
    raise WrongUsageError(
        Words(
            zh=f"{engine} 不能打开{'GGUF 文件' if form == 'gguf' else 'transformers 模型目录'} {path}。",
            en=f"{engine} does not open {'the GGUF file' if form == 'gguf' else 'the transformers folder'} {path}.",
        ),
        hint=Words(zh=f"可以打开它的：--engine {fitting}", en=f"What does: --engine {fitting}"),
    )


def _number(value: float) -> str:
    """``value`` with all its digits: theta is exact to the last place or the angles drift over a long window."""
    return repr(int(value)) if float(value).is_integer() else repr(value)


def _unknown(name: str, value: str, known: tuple[str, ...]) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"{name} 不能是 {value}。", en=f"{name} cannot be {value}."),
        hint=Words(zh=f"可以是：{', '.join(known)}", en=f"It can be: {', '.join(known)}"),
    )
