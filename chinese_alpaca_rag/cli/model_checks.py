"""What ``alpaca-rag doctor`` says of the chosen model; nothing of it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chinese_alpaca_rag.cli.check import NO_HINT, Check, State, same, to_run
from chinese_alpaca_rag.cli.memory import in_bytes
from chinese_alpaca_rag.cli.packages import EXTRAS, install, installed
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.errors import AlpacaRagError, ModelNotFoundError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.settings import EXTRACTIVE, Settings

if TYPE_CHECKING:
    from chinese_alpaca_rag.family.preflight import Fit, Part, Preflight

_MODEL = Words(zh="模型", en="model")
_KIND = Words(zh="用途", en="kind")
_TOKENIZER = Words(zh="分词器", en="tokenizer")
_WINDOW = Words(zh="窗口", en="window")
_NEED = Words(zh="所需内存", en="memory needed")


def model_checks(settings: Settings) -> Iterator[Check]:
    """Which model it is, whether its parts agree, and what memory it takes."""
    if settings.model == EXTRACTIVE:
        detail = Words(
            zh="extractive：只摘录原文，不需要模型文件", en="extractive: quotes the documents and needs no files"
        )
        yield Check("model", _MODEL, "ok", detail)
        return
    from chinese_alpaca_rag.family.preflight import inspect

    try:
        report = inspect(_find(settings), settings.window)
    except AlpacaRagError as error:
        yield Check("model", _MODEL, "problem", error.message, error.hint)
        if isinstance(error, ModelNotFoundError):
            yield from _released(settings)
        return
    yield _which(report)
    yield _kind(report)
    yield _tokenizer(report)
    yield _window(report)
    if report.fits:
        yield _memory(report)


def _find(settings: Settings) -> Path:
    """Where the weights are. Raises what ``chat_alpaca`` raises where a name stands for none on this machine."""
    path = Path(settings.model).expanduser()
    if path.exists():
        return path
    from chinese_alpaca_rag.llms.factory import chat_alpaca

    model: Any = chat_alpaca(settings.model, window=settings.window, models_dir=settings.models)
    return Path(model.model_path)


def _which(report: Preflight) -> Check:
    checkpoint = report.checkpoint
    place = shown_path(checkpoint.path)
    if missing := installed(EXTRAS[checkpoint.format])[1]:
        detail = Words(zh=f"{place} 需要 {', '.join(missing)}", en=f"{place} needs {', '.join(missing)}")
        return Check("model", _MODEL, "problem", detail, to_run(install(checkpoint.format)))
    if report.in_catalogue:
        return Check("model", _MODEL, "ok", same(f"{place} · {checkpoint.name}"))
    detail = Words(zh=f"{place} · 不在模型目录中", en=f"{place} · not in the catalogue")
    hint = Words(
        zh="用途和模板由名称和词表推断，其余取自文件；已知模型：alpaca-rag models list",
        en="Its kind and template are taken from its name and vocabulary, the rest from its files; "
        "known models: alpaca-rag models list",
    )
    return Check("model", _MODEL, "hint", detail, hint)


def _kind(report: Preflight) -> Check:
    card = report.checkpoint.card
    if card.kind == "base":
        detail = Words(zh="基座模型 · 没有模板", en="base model · no template")
        hint = Words(
            zh="它只会续写；ask 和 summarize 需要对话模型：alpaca-rag models list",
            en="It only continues text; ask and summarize need a chat model: alpaca-rag models list",
        )
        return Check("model-kind", _KIND, "hint", detail, hint)
    detail = Words(zh=f"对话模型 · 模板 {card.template}", en=f"chat model · template {card.template}")
    return _or_problem(report, "template", Check("model-kind", _KIND, "ok", detail))


def _tokenizer(report: Preflight) -> Check:
    detail = Words(
        zh=f"{report.vocabulary or 0:,} 个词，与权重一致", en=f"{report.vocabulary or 0:,} pieces, as the weights have"
    )
    return _or_problem(report, "tokenizer", Check("model-tokenizer", _TOKENIZER, "ok", detail))


def _window(report: Preflight) -> Check:
    plan = report.plan
    if plan is None:
        return _or_problem(report, "window", Check("model-window", _WINDOW, "ok", same("")))
    scaling = {
        "default": Words(zh="原样", en="plain"),
        "linear": Words(zh=f"线性插值 ×{plan.linear_factor:g}", en=f"linear ×{plan.linear_factor:g}"),
        "yarn": same(f"YaRN ×{plan.yarn_factor:g}"),
    }[plan.kind]
    ntk = f" · NTK alpha {plan.alpha:g}" if plan.alpha != 1.0 else ""
    reach = report.checkpoint.card.reach
    detail = Words(
        zh=f"{plan.window:,} 词元（最多 {reach:,}） · RoPE {scaling.zh} · theta {plan.theta:,.0f}{ntk}",
        en=f"{plan.window:,} tokens (at most {reach:,}) · RoPE {scaling.en} · theta {plan.theta:,.0f}{ntk}",
    )
    return Check("model-window", _WINDOW, "ok", detail)


def _memory(report: Preflight) -> Check:
    first, plan = report.fits[0], report.plan
    tokens = plan.window if plan is not None else 0
    need = first.need
    weights, kv = in_bytes(need.weights - need.droppable), in_bytes(need.kv)
    work, total = in_bytes(need.work), in_bytes(need.required)
    detail = Words(
        zh=f"{tokens:,} 词元，{first.name}：权重 {weights} + KV {kv} + 计算 {work} = {total}",
        en=f"{tokens:,} tokens, {first.name}: weights {weights} + KV {kv} + work {work} = {total}",
    )
    others, largest = _others(report.fits[1:]), _largest(report.fits)
    detail = Words(zh=f"{detail.zh}{others}。{largest.zh}", en=f"{detail.en}{others}. {largest.en}")
    check = _or_problem(report, "memory", Check("model-memory", _NEED, "ok", detail))
    if check.state == "problem" and _has_gpu():
        hint = Words(
            zh=f"{check.hint.zh} 放在 GPU 上的部分不占内存。", en=f"{check.hint.en} What goes to the GPU takes none."
        )
        return Check(check.name, check.label, "hint", check.detail, hint)
    return check


def _released(settings: Settings) -> Iterator[Check]:
    """The prediction for a model that is known, but not on this machine."""
    from chinese_alpaca_rag.family.catalogue import match_name
    from chinese_alpaca_rag.family.preflight import predict_released

    card = match_name(settings.model)
    if card is None:
        return
    try:
        fits = predict_released(card, settings.window)
    except AlpacaRagError as error:
        yield Check("model-memory", _NEED, "problem", error.message, error.hint)
        return
    tokens = settings.window or card.window
    amounts = " · ".join(f"{fit.name} {in_bytes(fit.need.required)}" for fit in fits)
    detail = Words(
        zh=f"GGUF 版本，{tokens:,} 词元，KV 为 f16：{amounts}", en=f"as GGUF, {tokens:,} tokens, KV in f16: {amounts}"
    )
    state: State = "ok" if any(fit.fits for fit in fits) else "hint"
    largest = _largest(fits)
    yield Check(
        "model-memory",
        _NEED,
        state,
        Words(zh=f"{detail.zh}。{largest.zh}", en=f"{detail.en}. {largest.en}"),
        Words(
            zh="可用内存不足：请用更小的 --window 或更小的模型。",
            en="Not enough is free: take a smaller --window or model.",
        )
        if state == "hint"
        else NO_HINT,
    )


def _others(fits: tuple[Fit, ...]) -> str:
    return "".join(f" · {fit.name} {in_bytes(fit.need.required)}" for fit in fits)


def _largest(fits: tuple[Fit, ...]) -> Words:
    """The longest window that fits, for each way."""
    zh = "，".join(f"{fit.name} {fit.largest:,}" if fit.largest else f"{fit.name} 放不下" for fit in fits)
    en = ", ".join(f"{fit.name} {fit.largest:,}" if fit.largest else f"{fit.name} none" for fit in fits)
    return Words(zh=f"放得下的最大窗口（词元）：{zh}", en=f"The longest windows that fit, in tokens: {en}")


def _or_problem(report: Preflight, part: Part, check: Check) -> Check:
    """``check``, or what is wrong with that part."""
    for problem in report.problems:
        if problem.part == part:
            return Check(check.name, check.label, "problem", problem.message, problem.hint)
    return check


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()
