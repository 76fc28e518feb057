"""``chat_alpaca``: a model by name or path, with the class that its files need.

A name is looked up in the models folder, then in the Hugging Face cache as it stands on disk. Nothing
is ever fetched: where the weights are missing, the error holds the command that fetches them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel

from chinese_alpaca_rag.errors import ModelNotFoundError, UnknownModelError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard, find_model, match_name, nearest_names
from chinese_alpaca_rag.family.rope import plan_rope
from chinese_alpaca_rag.family.template import chat_template
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.headers import header

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.local_chat import LocalChat

EXTRACTIVE: Final = "extractive"
DEFAULT_MODELS_DIR: Final = Path("~/.local/share/chinese-alpaca-rag/models")


def chat_alpaca(
    model: str | Path = EXTRACTIVE,
    *,
    window: int | None = None,
    models_dir: Path | str | None = None,
    draft_model: str | Path | None = None,
    **options: Any,
) -> BaseChatModel:
    """The chat model that ``model`` means: "extractive", a path, or a name of the catalogue.

    ``window`` is in tokens (``None``: the trained one; the extractive reader has none and needs none).
    ``models_dir`` is where named weights are looked for first. ``draft_model`` is a smaller model of the same
    generation and format, by path or name, that guesses ahead for a local one (``draft_model_path``).
    ``options`` are fields of the class: ``temperature``, ``max_tokens``, ``n_threads``, ``lora_path`` and so on; an
    unknown one is refused. With ``base_url`` the model is one at an OpenAI-compatible server, and only its
    tokenizer is looked for here (``tokenizer_path`` says where it is). Weights load at the first call, but
    everything else is checked here.
    Raises ``UnknownModelError``,
    ``NotAChatModelError``, ``WindowUnreachableError``, ``ModelNotFoundError`` or ``CheckpointError``.
    """
    if draft_model is not None:
        options["draft_model_path"] = draft_model
    if str(model) == EXTRACTIVE:
        from chinese_alpaca_rag.llms.extractive import ExtractiveReader

        return ExtractiveReader(**options)
    path = Path(model).expanduser()
    folder = Path(models_dir or DEFAULT_MODELS_DIR).expanduser()
    card = None if path.exists() else _named(str(model))
    if options.get("base_url") is not None:
        expected: dict[str, Any] = {"model": card.name} if card is not None else {}
        if options.get("tokenizer_path") is None:
            expected["tokenizer_path"] = path if card is None else _find_tokenizer(card, folder)
        return _endpoint().model_validate({"window": window, **options, **expected})
    if card is not None:
        path = _find_weights(card, window, folder)
    kind = _class_for(path)
    if draft_model is not None:
        options["draft_model_path"] = _find_draft(draft_model, kind.backend_format, folder)
    return kind.model_validate({"model_path": path, "window": window, **options})


def _class_for(path: Path) -> type[LocalChat]:
    if header(path).format == "gguf":
        from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF

        return ChatAlpacaGGUF
    from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF

    return ChatAlpacaHF


def _endpoint() -> type[BaseChatModel]:
    from chinese_alpaca_rag.llms.endpoint import ChatAlpacaEndpoint

    return ChatAlpacaEndpoint


def _named(name: str) -> ModelCard:
    if match_name(name) is None and _looks_like_path(name):
        near = next(near for near in nearest_names(Path(name).stem, len(CATALOGUE)) if find_model(near).kind == "chat")
        raise UnknownModelError(
            Words(zh=f"没有这个文件或目录：{name}", en=f"There is no such file or folder: {name}"),
            hint=Words(
                zh=f"请检查路径，或使用模型名称，如 {near}；全部名称：alpaca-rag models list",
                en=f"Check the path, or use a model's name, such as {near}; all of them: alpaca-rag models list",
            ),
        )
    return find_model(name)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", "/")) or name.endswith(".gguf") or name.count("/") > 1 or "\\" in name


def _find_weights(card: ModelCard, window: int | None, models_dir: Path) -> Path:
    """Where the weights of ``card`` are; what can be refused without them is refused first."""
    chat_template(card)
    plan_rope(card, window)
    for place in (*_places_in(models_dir, card), *_places_in_hub_cache(card)):
        if place.is_file() or _holds_weights(place):
            return place
    raise _not_here(card, models_dir)


def _find_draft(draft: str | Path, wanted: str, models_dir: Path) -> Path:
    """Where the weights of ``draft`` are, of the format ``wanted`` if it is a name."""
    path = Path(draft).expanduser()
    if path.exists():
        return path
    card = _named(str(draft))
    for place in (*_places_in(models_dir, card), *_places_in_hub_cache(card)):
        if (place.is_file() or _holds_weights(place)) and header(place).format == wanted:
            return place
    raise _not_here(card, models_dir)


def _find_tokenizer(card: ModelCard, models_dir: Path) -> Path:
    """Where a tokenizer of ``card`` is, for a model whose weights are elsewhere."""
    for place in (*_places_in(models_dir, card), *_places_in_hub_cache(card)):
        if place.is_file() or _holds_tokenizer(place):
            return place
    file = "tokenizer.json" if card.generation == 3 else "tokenizer.model"
    target = shlex.quote(str(models_dir / card.name))
    source = card.hub or card.lora_hub
    raise ModelNotFoundError(
        Words(zh=f"本机没有 {card.name} 的分词器。", en=f"There is no tokenizer of {card.name} on this machine."),
        hint=Words(
            zh=f"请运行：hf download {source} {file} --local-dir {target}，或用 tokenizer_path= 指定。",
            en=f"Run: hf download {source} {file} --local-dir {target}, or name one with tokenizer_path=.",
        ),
    )


def _places_in(models_dir: Path, card: ModelCard) -> Iterator[Path]:
    """Where weights of ``card`` may lie in the models folder: a file, a folder by its name or by its hub name."""
    yield models_dir / f"{card.name}.gguf"
    for name in (card.name, f"{card.name}-gguf", card.gguf_hub, card.hub):
        if name:
            yield models_dir / name
            yield models_dir / name.rpartition("/")[2]


def _places_in_hub_cache(card: ModelCard) -> Iterator[Path]:
    """Snapshots in the Hugging Face cache, whose layout is ``models--OWNER--NAME/{refs/main,snapshots/REVISION}``."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    for hub in filter(None, (card.gguf_hub, card.hub)):
        folder = cache / f"models--{hub.replace('/', '--')}"
        main = folder / "refs" / "main"
        if main.is_file():
            yield folder / "snapshots" / main.read_text(encoding="utf-8").strip()


def _holds_weights(folder: Path) -> bool:
    return folder.is_dir() and any(any(folder.glob(pattern)) for pattern in ("*.gguf", "*.safetensors", "*.bin"))


def _holds_tokenizer(folder: Path) -> bool:
    return folder.is_dir() and any(any(folder.glob(name)) for name in ("tokenizer.model", "tokenizer.json", "*.gguf"))


def _not_here(card: ModelCard, models_dir: Path) -> ModelNotFoundError:
    zh, en = "", ""
    target = shlex.quote(str(models_dir / card.name))
    if card.gguf_hub:
        command = f"hf download {card.gguf_hub} --include '*q4_k.gguf' --local-dir {target}"
        zh, en = f"请运行：{command}", f"Run: {command}"
    elif card.hub:
        command = f"hf download {card.hub} --local-dir {target}"
        zh, en = f"请运行：{command}", f"Run: {command}"
    else:
        zh = f"该模型只发布了 LoRA（{card.lora_hub}）：请先与 {card.lora_base} 合并，再用 --model 指定合并后的目录；"
        zh += "在 Python 里也可以用 lora_path= 在加载时合并。"
        en = f"It was released as a LoRA only ({card.lora_hub}): merge it with {card.lora_base}, "
        en += "then name the merged folder with --model; in Python, lora_path= merges it while loading."
    return ModelNotFoundError(
        Words(zh=f"本机没有 {card.name} 的权重。", en=f"The weights of {card.name} are not on this machine."),
        hint=Words(zh=zh, en=en),
    )
