"""``alpaca-rag models``: what is known of the model family, and how to get a model."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.cli.memory import in_bytes
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import padded, text_width
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard, find_model
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from chinese_alpaca_rag.language import Words

#: Bytes of one element of the KV cache; the quantised types keep 32 elements in 34 and 18 bytes.
KV_TYPES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

_KINDS = {"chat": Words(zh="对话", en="chat"), "base": Words(zh="基座", en="base")}


def list_models(session: Session) -> int:
    """Print the catalogue."""
    if session.output.as_json:
        session.output.document({"models": [_card_json(card) for card in CATALOGUE]})
        return 0
    columns = [
        Words(zh="名称", en="name"),
        Words(zh="类型", en="kind"),
        Words(zh="训练窗口", en="window"),
        Words(zh="可达窗口", en="reach"),
        Words(zh="位置编码", en="RoPE"),
        Words(zh="KV/词元", en="KV/token"),
    ]
    rows = [
        [
            card.name,
            str(_KINDS[card.kind]),
            f"{card.window:,}",
            f"{card.reach:,}",
            _rope(card),
            in_bytes(card.kv_bytes_per_token()),
        ]
        for card in CATALOGUE
    ]
    session.output.table(list(map(str, columns)), rows, right=(2, 3, 5))
    session.output.note(
        Words(
            zh="对话模型用于 ask 和 summarize；基座模型只会续写。alpaca-rag models show 名称 显示全部资料和取得方法。",
            en="Chat models are for ask and summarize; base models only continue text. alpaca-rag models show NAME "
            "tells everything, and how to get one.",
        ).text(),
        "dim",
    )
    return 0


def show_model(session: Session, name: str) -> int:
    """Print everything about one model: the catalogue's row, or what a file or folder says of itself."""
    card, path = _find(name)
    # A window that is set for good is meant for the user's own model, not for every model looked at.
    asked = session.settings.window if session.settings.origins.get("window") == "--window" else None
    plans = [plan_rope(card, window) for window in _windows(card, asked)]
    obtain = [] if path else _commands(card, session.settings.models)
    if session.output.as_json:
        document = _card_json(card) | {
            "path": str(path) if path else "",
            "plans": [_plan_json(card, plan) for plan in plans],
            "obtain": [{"form": form, "command": command} for form, command in obtain],
        }
        session.output.document(document)
        return 0
    output = session.output
    output.line(card.name, "bold")
    _show_facts(session, card, path)
    _show_plans(session, card, plans)
    if obtain:
        output.line()
        output.line(
            Words(
                zh="取得（需要联网，在别处运行也可以）", en="Getting it (needs a network; another machine will do)"
            ).text(),
            "bold",
        )
        for form, command in obtain:
            output.line(f"  {form}", "dim")
            output.line(f"  {command}")
    return 0


def _find(name: str) -> tuple[ModelCard, Path | None]:
    path = Path(name).expanduser()
    if path.exists():
        from chinese_alpaca_rag.family.checkpoint import read_checkpoint

        return read_checkpoint(path).card, path
    return find_model(name), None


def _windows(card: ModelCard, wanted: int | None) -> list[int]:
    """The windows worth showing: the trained one, its doubles up to the reach, the reach, and the wanted one."""
    windows = {card.window, card.reach} | ({wanted} if wanted else set())
    window = card.window
    while window < card.reach:
        windows.add(window)
        window *= 2
    return sorted(windows)


def _show_facts(session: Session, card: ModelCard, path: Path | None) -> None:
    sampling = card.sampling
    facts = [
        (Words(zh="文件", en="file"), str(path or "")),
        (Words(zh="类型", en="kind"), str(_KINDS[card.kind])),
        (Words(zh="代", en="generation"), str(card.generation)),
        (Words(zh="训练窗口", en="window"), _tokens(card.window)),
        (Words(zh="可达窗口", en="reach"), _tokens(card.reach)),
        (Words(zh="位置编码", en="RoPE"), f"{_rope(card)} · theta {card.theta:,.0f}"),
        (Words(zh="形状", en="shape"), _shape(card)),
        (Words(zh="词表", en="vocabulary"), f"{card.vocabulary:,}"),
        (Words(zh="KV/词元", en="KV/token"), f"{in_bytes(card.kv_bytes_per_token())} (f16)"),
        (Words(zh="模板", en="template"), card.template or str(Words(zh="无（只会续写）", en="none (continues text)"))),
        (
            Words(zh="采样", en="sampling"),
            f"temperature {sampling.temperature} · top_k {sampling.top_k} · top_p {sampling.top_p} · "
            f"repetition_penalty {sampling.repetition_penalty} · max_tokens {sampling.max_tokens}",
        ),
        (Words(zh="Hugging Face", en="Hugging Face"), card.hub),
        (Words(zh="GGUF", en="GGUF"), card.gguf_hub),
        (Words(zh="ModelScope", en="ModelScope"), card.modelscope),
        (Words(zh="LoRA", en="LoRA"), f"{card.lora_hub} + {card.lora_base}" if card.lora_hub else ""),
    ]
    shown = [(str(name), value) for name, value in facts if value]
    column = max(text_width(name) for name, _ in shown)
    for name, value in shown:
        session.output.line(f"  {padded(name, column)}  {value}")


def _show_plans(session: Session, card: ModelCard, plans: list[RopePlan]) -> None:
    session.output.line()
    columns = [
        Words(zh="窗口", en="window"),
        "theta",
        "linear",
        "YaRN",
        "NTK alpha",
        *(f"KV {kind}" for kind in KV_TYPES),
    ]
    rows = [
        [
            f"{plan.window:,}",
            f"{plan.theta:,.1f}",
            f"×{plan.linear_factor:g}",
            f"×{plan.yarn_factor:g}",
            f"{plan.alpha:g}",
            *(in_bytes(card.kv_bytes_per_token(size) * plan.window) for size in KV_TYPES.values()),
        ]
        for plan in plans
    ]
    session.output.table(list(map(str, columns)), rows, right=range(len(columns)))


def _commands(card: ModelCard, folder: Path) -> list[tuple[str, str]]:
    """How to get the model in each form in which it was released; downloads go where ``--model NAME`` looks."""
    place = shlex.quote(str(folder / card.name))
    commands = []
    if card.gguf_hub:
        command = f"hf download {card.gguf_hub} --include '*q4_k.gguf' --local-dir {place}"
        commands.append((str(Words(zh="GGUF（llama.cpp）", en="GGUF (llama.cpp)")), command))
    if card.hub:
        commands.append(("Transformers", f"hf download {card.hub} --local-dir {place}"))
    if card.modelscope:
        commands.append(("ModelScope", f"modelscope download --model {card.modelscope} --local_dir {place}"))
    if card.lora_hub and not card.hub:
        form = Words(zh=f"LoRA：须先与 {card.lora_base} 合并", en=f"LoRA: has to be merged with {card.lora_base} first")
        commands.append((str(form), f"hf download {card.lora_hub}"))
    return commands


def _card_json(card: ModelCard) -> dict[str, Any]:
    return asdict(card) | {"head_dim": card.head_dim, "kv_bytes_per_token": card.kv_bytes_per_token()}


def _plan_json(card: ModelCard, plan: RopePlan) -> dict[str, Any]:
    return asdict(plan) | {
        "transformers": plan.for_transformers(),
        "llama_cpp": plan.for_llama_cpp(),
        "vllm": plan.for_vllm(),
        "kv_bytes": {kind: card.kv_bytes_per_token(size) * plan.window for kind, size in KV_TYPES.items()},
    }


def _rope(card: ModelCard) -> str:
    if card.yarn_factor != 1.0:
        return f"YaRN ×{card.yarn_factor:g}"
    if card.linear_factor != 1.0:
        return Words(zh=f"线性插值 ×{card.linear_factor:g}", en=f"linear ×{card.linear_factor:g}").text()
    return Words(zh="原样", en="plain").text()


def _shape(card: ModelCard) -> str:
    return Words(
        zh=f"{card.layers} 层 · 隐层 {card.hidden} · {card.heads} 头（KV {card.kv_heads}）· 前馈 {card.feed_forward}",
        en=f"{card.layers} layers · hidden {card.hidden} · {card.heads} heads (KV {card.kv_heads}) · feed-forward "
        f"{card.feed_forward}",
    ).text()


def _tokens(count: int) -> str:
    return Words(zh=f"{count:,} 词元", en=f"{count:,} tokens").text()
