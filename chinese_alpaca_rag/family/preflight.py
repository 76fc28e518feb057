"""What is known before weights are opened: which model it is, whether its parts agree, and whether it will fit.

``require_memory`` is what a backend calls before it loads; ``inspect`` is the whole report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

from chinese_alpaca_rag.errors import AlpacaRagError, CheckpointError, NotEnoughMemoryError
from chinese_alpaca_rag.family.catalogue import ModelCard, match_name
from chinese_alpaca_rag.family.checkpoint import Checkpoint, checkpoint_tokenizer, read_checkpoint
from chinese_alpaca_rag.family.memory import (
    RELEASED_BYTES,
    KvType,
    MemoryNeed,
    available_memory,
    largest_window,
    llama_cpp_need,
    released_weights,
    transformers_need,
)
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from chinese_alpaca_rag.family.template import chat_template
from chinese_alpaca_rag.family.weight_files import (
    Quantization,
    TorchType,
    gguf_weights,
    matrix_rows,
    safetensors_weights,
)
from chinese_alpaca_rag.language import Words

# Below this a window is of no use: a question and its answer take more.
_LEAST_WINDOW: Final = 512
# The types that are worth proposing, the most exact first.
_PROPOSED_KV: Final[tuple[KvType, ...]] = ("f16", "q8_0", "q4_0")
_PROPOSED_TORCH: Final[tuple[TorchType, ...]] = ("float32", "bfloat16")
_AGREEING_ROWS: Final = 128

Part = Literal["tokenizer", "window", "template", "memory"]
_Result = TypeVar("_Result")
NeedAt = Callable[[int], MemoryNeed]


@dataclass(frozen=True)
class Fit:
    """A way to hold keys and values (GGUF), weights and all (hf), or released weights (from the card alone).

    ``need`` is that of the wanted window; ``largest`` the longest window in tokens that fits, ``None``
    for none, and the wanted window itself where the machine does not say what it has.
    """

    name: str
    need: MemoryNeed
    largest: int | None
    fits: bool


@dataclass(frozen=True)
class Problem:
    """What is wrong with one part of a model, and what to do about it."""

    part: Part
    message: Words
    hint: Words


@dataclass(frozen=True)
class Preflight:
    """All that can be said of a checkpoint without opening its weights.

    ``vocabulary`` is the tokenizer's number of pieces, ``None`` where it is missing or another model's;
    ``plan`` is ``None`` where the window is out of reach, and ``fits`` is empty then. The first of
    ``fits`` is how the model opens when nothing else is said. ``notes`` are only worth knowing.
    """

    checkpoint: Checkpoint
    in_catalogue: bool
    plan: RopePlan | None
    vocabulary: int | None
    fits: tuple[Fit, ...]
    available: int | None
    problems: tuple[Problem, ...]
    notes: tuple[Words, ...]


def require_memory(
    checkpoint: Checkpoint,
    plan: RopePlan,
    *,
    kv_type: KvType = "f16",
    dtype: TorchType = "float32",
    available: int | None = None,
    sequences: int = 1,
    n_gpu_layers: int = 0,
    mapped: bool = True,
    locked: bool = False,
    quantization: Quantization | None = None,
    batch: int = 512,
) -> MemoryNeed:
    """The memory that loading ``checkpoint`` for ``plan`` takes; ``NotEnoughMemoryError`` where that is not there.

    ``available`` in bytes: the free memory of a GPU where everything goes there; ``None`` asks the
    system. ``kv_type``, ``n_gpu_layers`` (as llama.cpp will really move: 0 where it was built for no
    GPU; -1 is all), ``mapped`` (use_mmap) and ``locked`` (use_mlock: nothing can be taken back) are for
    GGUF; ``dtype``, ``quantization``, ``sequences`` (rows side by side, each with a full window) and
    ``batch`` (tokens) for a transformers folder.
    """
    if checkpoint.format == "gguf":
        first = _first_on_gpu(checkpoint.card, n_gpu_layers)
        wanted: str = kv_type
        ways = _gguf_ways(checkpoint, (kv_type, *_PROPOSED_KV), mapped=mapped, locked=locked, first_on_gpu=first)
    else:
        wanted = dtype
        kinds = (dtype, *_PROPOSED_TORCH)
        ways = _torch_ways(checkpoint, kinds, quantization=quantization, sequences=sequences, batch=batch)
    need = ways[wanted](plan.window)
    free = available_memory() if available is None else available
    if free is not None and need.required > free:
        fits = tuple(_fit(name, way, plan.window, free, plan.window) for name, way in ways.items())
        raise _not_enough(checkpoint, plan.window, fits, free)
    return need


def inspect(model: Path | Checkpoint, window: int | None = None, *, available: int | None = None) -> Preflight:
    """The report on a folder or file of weights at ``window`` tokens (``None``: the trained window).

    Raises what ``read_checkpoint`` raises where there is nothing that can be reported on.
    """
    checkpoint = model if isinstance(model, Checkpoint) else read_checkpoint(model)
    card = checkpoint.card
    problems: list[Problem] = []
    free = available_memory() if available is None else available
    vocabulary = _checked(problems, "tokenizer", partial(_vocabulary, checkpoint))
    plan = _checked(problems, "window", partial(plan_rope, card, window))
    if card.kind == "chat":
        _checked(problems, "template", partial(chat_template, card))
    fits: tuple[Fit, ...] = ()
    if plan is not None:
        fits = _checked(problems, "memory", partial(_fits, checkpoint, plan.window, free)) or ()
        if fits and not fits[0].fits and free is not None:
            error = _not_enough(checkpoint, plan.window, fits, free)
            problems.append(Problem("memory", error.message, error.hint))
    return Preflight(
        checkpoint=checkpoint,
        in_catalogue=match_name(checkpoint.name) is not None,
        plan=plan,
        vocabulary=vocabulary,
        fits=fits,
        available=free,
        problems=tuple(problems),
        notes=tuple(_notes(checkpoint, plan)),
    )


def predict_released(card: ModelCard, window: int | None = None, *, available: int | None = None) -> tuple[Fit, ...]:
    """What ``card`` would take under llama.cpp, from the card alone, by the form in which its weights are released."""
    wanted = plan_rope(card, window).window
    free = available_memory() if available is None else available
    return tuple(
        _fit(name, partial(llama_cpp_need, card, released_weights(card, size)), wanted, free, card.reach)
        for name, size in RELEASED_BYTES.items()
    )


def in_gib(count: int) -> str:
    """Bytes in GiB with two decimals; less than that with three digits."""
    amount = count / 2**30
    return f"{amount:.2f} GiB" if amount >= 0.1 else f"{amount:.3g} GiB"


def _gguf_ways(
    checkpoint: Checkpoint,
    kinds: Iterable[KvType],
    *,
    mapped: bool = True,
    locked: bool = False,
    first_on_gpu: int | None = None,
) -> dict[str, NeedAt]:
    weights = gguf_weights(checkpoint.path, mapped=mapped, first_on_gpu=first_on_gpu)
    if locked:
        weights = replace(weights, droppable=0)
    return {
        kind: partial(llama_cpp_need, checkpoint.card, weights, kv_type=kind, first_on_gpu=first_on_gpu)
        for kind in kinds
    }


def _torch_ways(
    checkpoint: Checkpoint,
    kinds: Iterable[TorchType],
    *,
    quantization: Quantization | None = None,
    sequences: int = 1,
    batch: int = 512,
) -> dict[str, NeedAt]:
    ways: dict[str, NeedAt] = {}
    for kind in kinds:
        weights = safetensors_weights(checkpoint.path, kind, quantization=quantization)
        ways[kind] = partial(transformers_need, checkpoint.card, weights, dtype=kind, sequences=sequences, batch=batch)
    return ways


def _first_on_gpu(card: ModelCard, n_gpu_layers: int) -> int | None:
    """llama.cpp moves the last layers, counting the output as one more than the card's."""
    if n_gpu_layers == 0:
        return None
    return 0 if n_gpu_layers < 0 else max(card.layers + 1 - n_gpu_layers, 0)


def _fits(checkpoint: Checkpoint, window: int, free: int | None) -> tuple[Fit, ...]:
    gguf = checkpoint.format == "gguf"
    ways = _gguf_ways(checkpoint, _PROPOSED_KV) if gguf else _torch_ways(checkpoint, _PROPOSED_TORCH)
    limit = max(window, checkpoint.card.reach)
    return tuple(_fit(name, way, window, free, limit) for name, way in ways.items())


def _fit(name: str, need_at: NeedAt, window: int, free: int | None, limit: int) -> Fit:
    need = need_at(window)
    if free is None:
        return Fit(name, need, window, True)
    return Fit(name, need, largest_window(need_at, free, max(limit, window)), need.required <= free)


def _not_enough(checkpoint: Checkpoint, window: int, fits: tuple[Fit, ...], free: int) -> NotEnoughMemoryError:
    """The error for the way wanted, which is the first of ``fits``."""
    field = "kv_type" if checkpoint.format == "gguf" else "dtype"
    wanted, need = fits[0].name, fits[0].need
    useful = [fit for fit in fits if (fit.largest or 0) >= min(_LEAST_WINDOW, window)]
    what, there = in_gib(need.required), in_gib(free)
    message = Words(
        zh=f"{checkpoint.name} 在 {window} 个词元的窗口（{field}='{wanted}'）下需要 {what} 内存，只有 {there} 可用。",
        en=f"{checkpoint.name} with a window of {window} tokens ({field}='{wanted}') needs {what} of memory; "
        f"{there} are available.",
    )
    if not useful:
        return NotEnoughMemoryError(message, hint=_nothing_fits(checkpoint, need))
    ways = [f"window={fit.largest}, {field}='{fit.name}'" for fit in useful]
    hint = Words(zh=f"放得下的：{'；'.join(ways)}。", en=f"What fits: {'; '.join(ways)}.")
    if checkpoint.format == "hf":
        hint = Words(zh=f"{hint.zh}量化的 GGUF 版本占用更少。", en=f"{hint.en} A quantised GGUF form takes less.")
    return NotEnoughMemoryError(message, hint=hint)


def _nothing_fits(checkpoint: Checkpoint, need: MemoryNeed) -> Words:
    weights = in_gib(need.weights - need.droppable)
    if checkpoint.format == "hf":
        return Words(
            zh=f"仅权重就需要 {weights}：请换用量化的 GGUF 版本或更小的模型，或释放内存。",
            en=f"The weights alone need {weights}: take a quantised GGUF form or a smaller model, or free memory.",
        )
    return Words(
        zh=f"仅权重就需要 {weights}：请换用量化程度更高的文件（如 q4_k）或更小的模型，或释放内存。",
        en=f"The weights alone need {weights}: take a more quantised file (such as q4_k) or a smaller model, "
        "or free memory.",
    )


def _checked(problems: list[Problem], part: Part, look: Callable[[], _Result]) -> _Result | None:
    try:
        return look()
    except AlpacaRagError as error:
        problems.append(Problem(part, error.message, error.hint))
        return None


def _vocabulary(checkpoint: Checkpoint) -> int:
    """The size of the tokenizer's vocabulary, which agrees with card and matrix; raises ``CheckpointError``."""
    pieces = checkpoint_tokenizer(checkpoint).vocabulary_size
    rows = matrix_rows(checkpoint.path)
    if rows is not None and not 0 <= rows - pieces < _AGREEING_ROWS:
        raise CheckpointError(
            Words(
                zh=f"分词器有 {pieces} 个词，词向量矩阵有 {rows} 行：两者不属于同一个模型。",
                en=f"The tokenizer has {pieces} pieces, the embedding {rows} rows: they belong to different models.",
            ),
            hint=Words(zh="请重新下载该模型。", en="Fetch the model again."),
        )
    return pieces


def _notes(checkpoint: Checkpoint, plan: RopePlan | None) -> list[Words]:
    notes = []
    card = checkpoint.card
    if match_name(checkpoint.name) is None:
        notes.append(
            Words(
                zh=f"目录中没有 {checkpoint.name}：用途（{card.kind}）由名称推断，其余来自文件。",
                en=f"{checkpoint.name} is not in the catalogue: its kind ({card.kind}) is taken from its name, "
                "the rest from its files.",
            )
        )
    if card.kind == "base":
        notes.append(
            Words(
                zh="这是基座模型：只会续写，不会按指令回答。",
                en="It is a base model: it continues text and follows no instruction.",
            )
        )
    if plan is not None and plan.alpha != 1.0:
        notes.append(
            Words(
                zh=f"窗口超过训练窗口 {card.window}：使用 NTK，alpha {plan.alpha:g}。",
                en=f"The window is beyond the trained {card.window}: NTK with alpha {plan.alpha:g}.",
            )
        )
    return notes
