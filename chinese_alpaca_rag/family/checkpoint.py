"""What a folder or file of weights is: its card, found in the catalogue or made from what the file says.

Only ``config.json`` and the heads of the weight files are read, never a weight. Model files are
untrusted: no pickles, and no code that a file brings with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from chinese_alpaca_rag.errors import CheckpointError, ModelNotFoundError
from chinese_alpaca_rag.family.catalogue import (
    CATALOGUE,
    FAMILY_SAMPLING,
    ZIYA2_SAMPLING,
    Generation,
    Kind,
    ModelCard,
    TemplateName,
    match_name,
)
from chinese_alpaca_rag.family.checkpoint_tokenizer import folder_tokenizer, gguf_tokenizer
from chinese_alpaca_rag.family.figures import Figures, read_gguf_figures, read_hf_figures
from chinese_alpaca_rag.family.tokens import Tokenizer, TokenizerKind
from chinese_alpaca_rag.language import Words


@dataclass(frozen=True)
class Checkpoint:
    """Weights on this machine. ``path`` is the folder (hf) or the file (gguf); ``card`` is what they are."""

    path: Path
    format: Literal["gguf", "hf"]
    name: str
    card: ModelCard


# Vocabulary rows by generation. Ziya2's tokenizer has 39,410 pieces; some copies are not padded to 39,424 rows.
_GENERATIONS: Final[dict[int, tuple[Generation, TemplateName]]] = {
    55296: (2, "alpaca-2"),
    49953: (1, "stanford-alpaca"),
    49954: (1, "stanford-alpaca"),
    128256: (3, "llama-3"),
    39424: ("ziya2", "ziya2"),
    39410: ("ziya2", "ziya2"),
}
_ZIYA2_PIECES: Final = 39410

# What quantisers and splitters append to a model's name.
_FILE_SUFFIX: Final = re.compile(
    r"[.\-_](?:i?q\d\w*|(?:b?f|fp)(?:16|32)|im|imat|imatrix|gguf|ggml(?:-model)?|\d{5}-of-\d{5})$", re.IGNORECASE
)
_NAMELESS: Final = frozenset({"", "ggml", "ggml-model", "model", "gguf", "main"})


def read_checkpoint(path: Path) -> Checkpoint:
    """What stands at ``path``: a transformers folder, a GGUF file, or a folder with one GGUF file.

    Raises ``ModelNotFoundError`` where nothing is, ``CheckpointError`` for what is damaged, unsafe,
    of another architecture, or not what its name says.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFoundError(
            Words(zh=f"没有这个模型文件或目录：{path}", en=f"There is no such model file or folder: {path}"),
            hint=Words(
                zh="请检查路径；已知模型：alpaca-rag models list",
                en="Check the path; known models: alpaca-rag models list",
            ),
        )
    if path.is_dir() and (path / "config.json").is_file() and not _only_gguf(path):
        figures = read_hf_figures(path)
        return _identify(path, "hf", figures)
    file = path if path.is_file() else _single_gguf(path)
    return _identify(file, "gguf", read_gguf_figures(file))


def checkpoint_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer that belongs to the weights. Raises ``CheckpointError`` where it is missing or another's."""
    kind: TokenizerKind = "byte-pair" if checkpoint.card.generation == 3 else "sentencepiece"
    if checkpoint.format == "gguf":
        return gguf_tokenizer(checkpoint.path, kind)
    tokenizer = folder_tokenizer(checkpoint.path, kind)
    # The model may hold a padding piece, or rows that pad its matrix, beyond the pieces; never fewer.
    rows, pieces = checkpoint.card.vocabulary, tokenizer.vocabulary_size
    if not 0 <= rows - pieces < 128:
        raise CheckpointError(
            Words(
                zh=f"分词器有 {pieces} 个词，模型有 {rows} 个：两者不属于同一个模型。",
                en=f"The tokenizer has {pieces} pieces, the model {rows}: they belong to different models.",
            ),
            hint=Words(
                zh="各代模型的分词器不能混用，请使用模型自带的分词器文件。",
                en="The generations' tokenizers must not be mixed: use the tokenizer file that came with the model.",
            ),
        )
    return tokenizer


def _identify(path: Path, form: Literal["gguf", "hf"], figures: Figures) -> Checkpoint:
    """The catalogue's row for these weights, or a card made from what they say."""
    card = match_name(path_name(path))
    if card is not None:
        return Checkpoint(path, form, card.name, _refined(path, card, figures))
    declared = match_name(_declared_name(figures))
    # A GGUF's own name is what it is; ``_name_or_path`` is only what the weights were trained from.
    if declared is not None and (form == "gguf" or _same_shape(declared, figures)):
        return Checkpoint(path, form, declared.name, _refined(path, declared, figures))
    if figures.own_code:
        _refuse_own_code(path, figures)
    card = _made_card(path, figures)
    return Checkpoint(path, form, card.name, card)


def _refined(path: Path, card: ModelCard, figures: Figures) -> ModelCard:
    """``card`` with the RoPE that the weights state. Raises ``CheckpointError`` where they are another model."""
    for zh, en, known, found in (
        ("词表", "vocabulary", card.vocabulary, figures.vocabulary),
        ("层数", "layers", card.layers, figures.layers),
        ("隐层维度", "hidden size", card.hidden, figures.hidden),
        ("前馈维度", "feed-forward size", card.feed_forward, figures.feed_forward),
        ("注意力头数", "heads", card.heads, figures.heads),
        ("KV 头数", "KV heads", card.kv_heads, figures.kv_heads),
    ):
        if known != found and not (card.generation == "ziya2" and found == _ZIYA2_PIECES):
            raise _mismatch(path, card, Words(zh, en), known=known, found=found)
    scaled = card.linear_factor * card.yarn_factor
    stated = figures.linear_factor * figures.yarn_factor
    if stated == 1.0 and scaled != 1.0:
        if figures.scaling_stated:
            raise _mismatch(path, card, Words("RoPE 缩放倍数", "RoPE factor"), known=scaled, found=stated)
        # Early GGUF files of the long models say nothing of their scaling; then the name decides.
        return replace(card, theta=figures.theta or card.theta, vocabulary=figures.vocabulary)
    return _with_rope(card, figures)


def _with_rope(card: ModelCard, figures: Figures) -> ModelCard:
    refined = replace(
        card,
        vocabulary=figures.vocabulary,
        window=figures.window,
        theta=figures.theta or card.theta,
        linear_factor=figures.linear_factor,
        yarn_factor=figures.yarn_factor,
        original_window=figures.original_window,
    )
    if refined.window == card.window and refined.yarn_factor == card.yarn_factor:
        return refined
    return replace(refined, reach=_reach(refined))


def _made_card(path: Path, figures: Figures) -> ModelCard:
    """A card for weights that the catalogue does not know by name."""
    default: tuple[Generation, TemplateName] = (3, "llama-3") if figures.byte_pair else (2, "alpaca-2")
    generation, template = _GENERATIONS.get(figures.vocabulary, default)
    name = path_name(path).rpartition("/")[2]
    kind = _kind_by_name(f"{name} {figures.declared_name}")
    card = ModelCard(
        name=name,
        hub="",
        kind=kind,
        generation=generation,
        layers=figures.layers,
        hidden=figures.hidden,
        heads=figures.heads,
        kv_heads=figures.kv_heads,
        feed_forward=figures.feed_forward,
        vocabulary=figures.vocabulary,
        window=figures.window,
        theta=figures.theta or 10000.0,
        linear_factor=figures.linear_factor,
        yarn_factor=figures.yarn_factor,
        original_window=figures.original_window,
        reach=figures.window,
        template=template if kind == "chat" else None,
        sampling=ZIYA2_SAMPLING if generation == "ziya2" else FAMILY_SAMPLING,
    )
    return replace(card, reach=_reach(card))


def _reach(card: ModelCard) -> int:
    """How far NTK carries ``card``, in the proportions that the family's makers give for their own models."""
    if card.yarn_factor != 1.0 or card.generation in (3, "ziya2"):
        return card.window
    if card.generation == 1:
        return card.window * 4
    return card.window * 2 if card.linear_factor != 1.0 else card.window * 9 // 2


def _kind_by_name(name: str) -> Kind:
    words = name.lower()
    if any(word in words for word in ("alpaca", "chat", "instruct", "rlhf", "sft")):
        return "chat"
    return "base" if "llama" in words or "base" in words else "chat"


def _same_shape(card: ModelCard, figures: Figures) -> bool:
    return (card.vocabulary, card.layers, card.hidden, card.feed_forward) == (
        figures.vocabulary,
        figures.layers,
        figures.hidden,
        figures.feed_forward,
    )


def _refuse_own_code(path: Path, figures: Figures) -> None:
    """Code that comes with weights is never run; it is passed over only where the stock model is the same.

    The family's own 64K folders bring a copy of Llama with YaRN, which transformers has had since.
    """
    for card in CATALOGUE:
        same_rope = (card.window, card.linear_factor, card.yarn_factor, card.original_window) == (
            figures.window,
            figures.linear_factor,
            figures.yarn_factor,
            figures.original_window,
        )
        if same_rope and _same_shape(card, figures):
            return
    raise CheckpointError(
        Words(
            zh=f"{path.name} 自带代码（config.json 中的 auto_map），不会执行。",
            en=f"{path.name} brings its own code (auto_map in config.json), which is not run.",
        ),
        hint=Words(
            zh="请使用 GGUF 版本，或标准的 Llama 检查点。", en="Use its GGUF form, or a checkpoint of the stock Llama."
        ),
    )


def path_name(path: Path) -> str:
    """The name that a path gives its weights; the folder's where the file's says nothing (ggml-model-q4_0.gguf)."""
    place = path.resolve() if path.name in ("", "..") else path.absolute()
    name = place.stem if place.is_file() else place.name
    if place.is_file() and _stem(name).lower() in _NAMELESS:
        place = place.parent
        name = place.name
    # The hub's cache: models--OWNER--NAME/snapshots/REVISION. ModelScope's writes a dot as three underscores.
    if place.parent.name == "snapshots":
        name = place.parent.parent.name.removeprefix("models--").replace("--", "/")
    return _stem(name).replace("___", ".")


def _declared_name(figures: Figures) -> str:
    """The name in the weights' own words; of a path on the machine that made them, the last part."""
    name = _stem(figures.declared_name.replace("\\", "/").rstrip("/"))
    return name.rpartition("/")[2] if name.count("/") != 1 else name.removeprefix("/")


def _stem(name: str) -> str:
    """``name`` without what quantisers and splitters append to it."""
    shorter = _FILE_SUFFIX.sub("", name)
    while shorter != name:
        name, shorter = shorter, _FILE_SUFFIX.sub("", shorter)
    return name


def _only_gguf(folder: Path) -> bool:
    return any(folder.glob("*.gguf")) and not any(folder.glob("*.safetensors"))


def _single_gguf(folder: Path) -> Path:
    files = sorted(file for file in folder.glob("*.gguf") if file.is_file())
    first_parts = [file for file in files if not re.search(r"-\d{5}-of-\d{5}$", file.stem) or "-00001-of-" in file.stem]
    if len(first_parts) == 1:
        return first_parts[0]
    if first_parts:
        names = ", ".join(file.name for file in first_parts[:5])
        raise CheckpointError(
            Words(zh=f"{folder} 里有 {len(first_parts)} 个模型。", en=f"{folder} holds {len(first_parts)} models."),
            hint=Words(zh=f"请指定其中一个文件：{names}", en=f"Name one of the files: {names}"),
        )
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            Words(
                zh=f"{folder.name} 是 LoRA 适配器，不能单独使用。",
                en=f"{folder.name} is a LoRA adapter, which cannot be used alone.",
            ),
            hint=Words(
                zh="请指定基座模型，并用 lora_path= 加上适配器；或下载完整模型：alpaca-rag models list",
                en="Name its base model and lay the adapter over it with lora_path=, or fetch the full model: "
                "alpaca-rag models list",
            ),
        )
    raise CheckpointError(
        Words(
            zh=f"{folder} 里没有模型（既没有 config.json，也没有 .gguf 文件）。",
            en=f"{folder} holds no model: neither config.json nor a .gguf file.",
        ),
        hint=Words(zh="请指定 transformers 模型目录或 GGUF 文件。", en="Name a transformers folder or a GGUF file."),
    )


def _mismatch(path: Path, card: ModelCard, what: Words, *, known: float, found: float) -> CheckpointError:
    return CheckpointError(
        Words(
            zh=f"{path.name} 名为 {card.name}，但{what.zh}是 {found:g}，应为 {known:g}。",
            en=f"{path.name} is named {card.name}, but its {what.en} is {found:g} instead of {known:g}.",
        ),
        hint=Words(
            zh="请改正文件名或目录名，或重新下载该模型。",
            en="Correct the name of the file or folder, or fetch the model again.",
        ),
    )
