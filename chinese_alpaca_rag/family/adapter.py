"""What a LoRA adapter is, and what a model is with it: read from the heads of its files, never from a weight.

Two forms: a PEFT folder (``adapter_config.json`` and ``adapter_model.safetensors``) for transformers
checkpoints, and a GGUF file for GGUF ones. A pair of matrices B, A changes one matrix of the base to
``W + scale * B A``. The family's own adapters over Llama-2 also bring a larger vocabulary: whole
``embed_tokens`` and ``lm_head`` matrices, and the ``tokenizer.model`` that belongs to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from chinese_alpaca_rag.errors import CheckpointError, ModelNotFoundError
from chinese_alpaca_rag.family.catalogue import Generation, ModelCard, TemplateName, match_name, normal_name
from chinese_alpaca_rag.family.checkpoint import Checkpoint, checkpoint_tokenizer, path_name
from chinese_alpaca_rag.family.figures import refused
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words


@dataclass(frozen=True)
class LoraPair:
    """The change of one matrix of shape (outputs, inputs): ``scale * B A``, B (outputs, rank), A (rank, inputs)."""

    inputs: int
    outputs: int
    rank: int
    scale: float


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on this machine. ``path`` is the folder (hf) or the file (gguf).

    ``card``: what the catalogue calls base and adapter together, where the adapter is one of the
    family's own. ``base``: the base that it states, or "". ``pairs``: by the name of the module that
    they change, in transformers' words (``model.layers.0.self_attn.q_proj``). ``saved``: the shapes of
    the tensors that it replaces as a whole, by name. ``targets`` and ``layers``: which modules, in
    which layers, it says it changes (``None``: what there is of pairs, or every layer).
    """

    path: Path
    format: Literal["gguf", "hf"]
    name: str
    card: ModelCard | None
    base: str
    rank: int
    alpha: float
    pairs: Mapping[str, LoraPair]
    saved: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    brings_tokenizer: bool = False

    @property
    def vocabulary(self) -> int | None:
        """The rows of the embeddings that it brings, or ``None``."""
        shape = self.saved.get(EMBEDDINGS) or self.saved.get(OUTPUT)
        return None if shape is None else shape[0]


EMBEDDINGS: Final = "model.embed_tokens.weight"
OUTPUT: Final = "lm_head.weight"
PROJECTIONS: Final = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)

_PLAIN_LLAMA_ROWS: Final = 32000
_LAYER: Final = re.compile(r"model\.layers\.(\d+)\.(.+)")
_CHAT_WORDS: Final = ("alpaca", "chat", "instruct", "sft", "rlhf")
_GROWN: Final[dict[int, tuple[Generation, TemplateName]]] = {
    55296: (2, "alpaca-2"),
    49953: (1, "stanford-alpaca"),
    49954: (1, "stanford-alpaca"),
}


def read_adapter(path: Path) -> Adapter:
    """What stands at ``path``: a PEFT folder, a GGUF adapter, or a folder with one.

    Raises ``ModelNotFoundError`` where nothing is, ``CheckpointError`` for what is damaged, is a
    pickle, is no LoRA, or has settings that change the result and are not applied here.
    """
    from chinese_alpaca_rag.family import gguf_adapter, peft_folder

    path = Path(path)
    if not path.exists():
        raise ModelNotFoundError(
            Words(zh=f"没有这个 LoRA 文件或目录：{path}", en=f"There is no such LoRA file or folder: {path}"),
            hint=Words(zh="请检查路径。", en="Check the path."),
        )
    if path.is_dir() and (path / "adapter_config.json").is_file():
        return peft_folder.read(path, card=_own_card(path_name(path)))
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(files) == 1 and files[0].suffix.lower() == ".gguf":
        return gguf_adapter.read(files[0], card=_own_card(path_name(files[0])))
    raise refused(
        path,
        "它不是 LoRA 适配器（既没有 adapter_config.json，也不是单个 GGUF 文件）",
        "it is no LoRA adapter: neither a folder with adapter_config.json nor one GGUF file",
        hint=Words(zh="请指定 PEFT 目录或 GGUF 适配器文件。", en="Name a PEFT folder, or a GGUF adapter file."),
    )


def adapted(checkpoint: Checkpoint, adapter: Adapter) -> Checkpoint:
    """What ``checkpoint`` is with ``adapter`` applied; ``path`` stays the base's.

    An adapter that the catalogue knows brings its card, and so its window and RoPE. Raises
    ``CheckpointError`` where the adapter was made for another base.
    """
    if checkpoint.format != adapter.format:
        raise _other_format(checkpoint, adapter)
    _check_generation(checkpoint, adapter)
    _check_shapes(checkpoint, adapter)
    rows = adapter.vocabulary or checkpoint.card.vocabulary
    if adapter.card is not None:
        if adapter.card.vocabulary != rows:
            raise _other_base(
                checkpoint,
                adapter,
                zh=f"合并后词表应有 {adapter.card.vocabulary} 行，而不是 {rows} 行",
                en=f"with it the vocabulary must have {adapter.card.vocabulary} rows, not {rows}",
            )
        return replace(checkpoint, name=adapter.card.name, card=adapter.card)
    name = f"{checkpoint.name}+{adapter.name}"
    return replace(checkpoint, name=name, card=_made_card(checkpoint.card, adapter, name, rows))


def adapted_tokenizer(checkpoint: Checkpoint, adapter: Adapter) -> Tokenizer:
    """The tokenizer of ``adapted(checkpoint, adapter)``, taking either that or the base as ``checkpoint``.

    The adapter's own where it replaces the embeddings and brings one, otherwise the base's.
    """
    rows = adapter.vocabulary
    if rows is None:
        return checkpoint_tokenizer(checkpoint)
    place = adapter.path if adapter.brings_tokenizer else checkpoint.path
    return checkpoint_tokenizer(replace(checkpoint, path=place, card=replace(checkpoint.card, vocabulary=rows)))


def _own_card(name: str) -> ModelCard | None:
    """The catalogue's row whose released LoRA is called ``name``."""
    card = match_name(name)
    if card is None or not card.lora_hub:
        return None
    released = normal_name(card.lora_hub).rpartition("/")[2]
    return card if normal_name(name).rpartition("/")[2] == released else None


def _made_card(base: ModelCard, adapter: Adapter, name: str, rows: int) -> ModelCard:
    generation, template = _GROWN.get(rows, (base.generation, _template_of(base)))
    tuned = any(word in adapter.name.lower() for word in _CHAT_WORDS)
    kind = "chat" if tuned else base.kind
    return replace(
        base,
        name=name,
        hub="",
        gguf_hub="",
        modelscope="",
        lora_hub="",
        lora_base=adapter.base,
        vocabulary=rows,
        generation=generation,
        kind=kind,
        template=template if kind == "chat" else None,
    )


def _template_of(card: ModelCard) -> TemplateName:
    by_generation: dict[Generation, TemplateName] = {
        1: "stanford-alpaca",
        2: "alpaca-2",
        3: "llama-3",
        "ziya2": "ziya2",
    }
    return card.template or by_generation[card.generation]


def _check_generation(checkpoint: Checkpoint, adapter: Adapter) -> None:
    """Llama-1 and Llama-2 have the same shapes: only names tell an adapter for the one from one for the other."""
    card = adapter.card
    wanted: Generation | None = card.generation if card is not None else _generation_of(adapter.base)
    rows = checkpoint.card.vocabulary
    found = _generation_of(checkpoint.name) if rows == _PLAIN_LLAMA_ROWS else checkpoint.card.generation
    known = rows == _PLAIN_LLAMA_ROWS or rows in (49953, 49954, 55296, 128256, 39424)
    stated = adapter.base or (card.lora_base if card is not None else "")
    if known and wanted is not None and found is not None and wanted != found:
        raise _other_base(
            checkpoint,
            adapter,
            zh=f"它是为 {stated}（第 {wanted} 代）训练的，而基座是第 {found} 代",
            en=f"it was trained over {stated} (generation {wanted}), and the base is of generation {found}",
        )
    if card is None or card.generation == 3:
        return
    needed = 49953 if "+" in card.lora_base else _PLAIN_LLAMA_ROWS
    if rows != needed:
        raise _other_base(
            checkpoint,
            adapter,
            zh=f"它的基座是 {card.lora_base}（词表 {needed} 行），而这里的词表有 {rows} 行",
            en=f"its base is {card.lora_base} with a vocabulary of {needed} rows; this one has {rows}",
        )


def _generation_of(name: str) -> Generation | None:
    """The generation that a name tells, of a model of the family or of a plain Llama."""
    card = match_name(name) or match_name(name.replace("\\", "/").rstrip("/").rpartition("/")[2])
    if card is not None:
        return card.generation
    words = normal_name(name)
    found = re.search(r"llama-?([23])(?![\db.])", words)
    if found:
        return 2 if found[1] == "2" else 3
    return 1 if re.search(r"llama-?(?:1-)?(?:7|13|30|33|65)b", words) else None


def _check_shapes(checkpoint: Checkpoint, adapter: Adapter) -> None:
    card = checkpoint.card
    shapes = module_shapes(card)
    for module, pair in adapter.pairs.items():
        shape = shapes.get(module)
        if shape != (pair.outputs, pair.inputs):
            have = "没有" if shape is None else f"是 {shape[0]}×{shape[1]}"
            has = "not there" if shape is None else f"{shape[0]} x {shape[1]}"
            raise _other_base(
                checkpoint,
                adapter,
                zh=f"{module} 应为 {pair.outputs}×{pair.inputs}，基座中{have}",
                en=f"{module} should be {pair.outputs} x {pair.inputs}; in the base it is {has}",
            )
    expected = _expected_modules(adapter, shapes)
    missing = sorted(expected - adapter.pairs.keys()) or sorted(adapter.pairs.keys() - expected)
    if missing:
        raise refused(
            adapter.path,
            f"有 {len(missing)} 个模块的张量与其设置不符，如 {missing[0]}",
            f"the tensors of {len(missing)} modules do not agree with its settings, such as {missing[0]}",
            hint=Words(zh="请重新下载该适配器，或换用对应的基座。", en="Fetch the adapter again, or use its own base."),
        )
    _check_saved(checkpoint, adapter)


def module_shapes(card: ModelCard) -> dict[str, tuple[int, int]]:
    """Every linear module of the model under transformers' names, with its matrix's (outputs, inputs)."""
    keys = card.kv_heads * card.head_dim
    widths = {
        "self_attn.q_proj": (card.hidden, card.hidden),
        "self_attn.k_proj": (keys, card.hidden),
        "self_attn.v_proj": (keys, card.hidden),
        "self_attn.o_proj": (card.hidden, card.hidden),
        "mlp.gate_proj": (card.feed_forward, card.hidden),
        "mlp.up_proj": (card.feed_forward, card.hidden),
        "mlp.down_proj": (card.hidden, card.feed_forward),
    }
    shapes = {f"model.layers.{layer}.{name}": shape for layer in range(card.layers) for name, shape in widths.items()}
    return {**shapes, "lm_head": (card.vocabulary, card.hidden)}


def _expected_modules(adapter: Adapter, shapes: Mapping[str, object]) -> set[str]:
    """The modules that the adapter says it changes; PEFT's rule: a target is a name or the end of one."""
    if adapter.targets is None:
        return set(adapter.pairs)
    ends = tuple(f".{target}" for target in adapter.targets)
    expected = {module for module in shapes if module in adapter.targets or module.endswith(ends)}
    if adapter.layers is None:
        return expected
    return {module for module in expected if (layer := _LAYER.match(module)) and int(layer[1]) in adapter.layers}


def _check_saved(checkpoint: Checkpoint, adapter: Adapter) -> None:
    card, rows = checkpoint.card, adapter.vocabulary or checkpoint.card.vocabulary
    for name, shape in adapter.saved.items():
        layer = _LAYER.match(name)
        wanted = (rows, card.hidden) if name in (EMBEDDINGS, OUTPUT) else (card.hidden,)
        if shape != wanted or (layer and int(layer[1]) >= card.layers):
            raise _other_base(
                checkpoint, adapter, zh=f"{name} 是 {shape}，应为 {wanted}", en=f"{name} is {shape} instead of {wanted}"
            )
    if rows == card.vocabulary:
        return
    absent = [name for name in (EMBEDDINGS, OUTPUT) if name not in adapter.saved]
    if rows < card.vocabulary or absent or "lm_head" in adapter.pairs:
        raise _other_base(
            checkpoint,
            adapter,
            zh=f"它的词表有 {rows} 行，基座有 {card.vocabulary} 行" + (f"，且缺少 {absent[0]}" if absent else ""),
            en=f"its vocabulary has {rows} rows, the base's {card.vocabulary}"
            + (f", and it lacks {absent[0]}" if absent else ""),
        )
    if not adapter.brings_tokenizer:
        raise refused(
            adapter.path,
            f"它把词表扩充到 {rows} 行，却没有 tokenizer.model",
            f"it enlarges the vocabulary to {rows} rows and brings no tokenizer.model",
            hint=Words(
                zh="请把随该适配器发布的 tokenizer.model 放进它的目录。",
                en="Put the tokenizer.model that was released with the adapter into its folder.",
            ),
        )


def _other_base(checkpoint: Checkpoint, adapter: Adapter, *, zh: str, en: str) -> CheckpointError:
    base = adapter.base or (adapter.card.lora_base if adapter.card is not None else "")
    return CheckpointError(
        Words(
            zh=f"LoRA {adapter.name} 不是为 {checkpoint.name} 训练的：{zh}。",
            en=f"The LoRA {adapter.name} was not made for {checkpoint.name}: {en}.",
        ),
        hint=Words(
            zh=f"请把它用在它的基座上：{base}" if base else "请换用训练它时的基座模型。",
            en=f"Apply it to its own base: {base}" if base else "Apply it to the model that it was trained over.",
        ),
    )


def _other_format(checkpoint: Checkpoint, adapter: Adapter) -> CheckpointError:
    message = Words(
        zh=f"LoRA {adapter.path.name} 是 {adapter.format} 格式，而模型是 {checkpoint.format} 格式。",
        en=f"The LoRA {adapter.path.name} is of the form {adapter.format}, the model of the form {checkpoint.format}.",
    )
    if adapter.format == "gguf":
        hint = Words(
            zh="请使用该适配器的 PEFT 目录，或 GGUF 格式的基座。",
            en="Use the adapter's PEFT folder, or a base in GGUF.",
        )
    elif adapter.vocabulary not in (None, checkpoint.card.vocabulary):
        hint = Words(
            zh="它扩充词表，无法转换为 GGUF 适配器：请先把它合并进权重，再用 llama.cpp 转换为 GGUF。",
            en="It enlarges the vocabulary, which a GGUF adapter cannot: merge it into the weights and convert those.",
        )
    else:
        hint = Words(
            zh="请用 llama.cpp 的 convert_lora_to_gguf.py 转换它。",
            en="Convert it with llama.cpp's convert_lora_to_gguf.py.",
        )
    return CheckpointError(message, hint=hint)
