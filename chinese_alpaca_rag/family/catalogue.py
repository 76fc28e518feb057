"""The model family as data: one frozen row a model, all generations, and looking a row up by name.

Figures are those of the models' published configuration files and of the projects' own tables
(Chinese-LLaMA-Alpaca, -2 and -3 by ymcui and others; Ziya2 by IDEA-CCNL). Lengths are in tokens.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

from chinese_alpaca_rag.errors import UnknownModelError
from chinese_alpaca_rag.language import Words

Kind = Literal["base", "chat"]
Generation = Literal[1, 2, 3, "ziya2"]
TemplateName = Literal["alpaca-2", "stanford-alpaca", "llama-3", "ziya2"]


@dataclass(frozen=True)
class Sampling:
    """How a model's makers sample from it; ``max_tokens`` is the length of a reply, in tokens."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    max_tokens: int


@dataclass(frozen=True)
class ModelCard:
    """What is known of one model before its weights are opened.

    ``window`` is the trained window; ``original_window`` the one before position interpolation or
    YaRN; ``reach`` the longest window that NTK scaling gives it without training (``window`` itself
    where its makers name none). ``hub``, ``gguf_hub``, ``modelscope``, ``lora_hub`` and
    ``lora_base`` are empty where the model was not released in that form; ``template`` is ``None``
    for base models, which continue text and follow no instruction.
    """

    name: str
    hub: str
    kind: Kind
    generation: Generation
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    window: int
    theta: float
    linear_factor: float
    yarn_factor: float
    original_window: int
    reach: int
    template: TemplateName | None
    sampling: Sampling
    gguf_hub: str = ""
    modelscope: str = ""
    lora_hub: str = ""
    lora_base: str = ""

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def kv_bytes_per_token(self, bytes_per_element: float = 2) -> int:
        """Bytes of KV cache that one token takes: keys and values of every layer.

        ``bytes_per_element`` is 2 for f16, 34/32 for q8_0 and 18/32 for q4_0 (blocks of 32).
        """
        return round(2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element)


FAMILY_SAMPLING: Final = Sampling(temperature=0.2, top_k=40, top_p=0.9, repetition_penalty=1.1, max_tokens=400)
# Ziya2's model page gives temperature, top_p and penalty; top_k is what transformers uses when none is said.
ZIYA2_SAMPLING: Final = Sampling(temperature=0.85, top_k=50, top_p=0.9, repetition_penalty=1.05, max_tokens=512)


@dataclass(frozen=True)
class _Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int


_1_3B: Final = _Shape(4, 4096, 32, 32, 11008)
_7B: Final = _Shape(32, 4096, 32, 32, 11008)
_8B: Final = _Shape(32, 4096, 32, 8, 14336)
_13B: Final = _Shape(40, 5120, 40, 40, 13824)
_33B: Final = _Shape(60, 6656, 52, 52, 17920)


def _plain(
    name: str, shape: _Shape, kind: Kind, generation: Generation, *, template: TemplateName, vocabulary: int
) -> ModelCard:
    """A row of the second generation's plain 4K kind, from which other rows are made by ``replace``."""
    return ModelCard(
        name=name,
        hub=f"hfl/{name}",
        kind=kind,
        generation=generation,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        feed_forward=shape.feed_forward,
        vocabulary=vocabulary,
        window=4096,
        theta=10000.0,
        linear_factor=1.0,
        yarn_factor=1.0,
        original_window=4096,
        reach=18432,
        template=template if kind == "chat" else None,
        sampling=FAMILY_SAMPLING,
    )


def _second(branch: Literal["llama", "alpaca"], size: str, variant: str = "") -> ModelCard:
    """Chinese-LLaMA-2 (base) or Chinese-Alpaca-2 (chat); ``variant`` is "", "-16k", "-64k" or "-rlhf"."""
    shape = {"1.3b": _1_3B, "7b": _7B, "13b": _13B}[size]
    name = f"chinese-{branch}-2-{size}{variant}"
    card = _plain(name, shape, "chat" if branch == "alpaca" else "base", 2, template="alpaca-2", vocabulary=55296)
    card = replace(card, gguf_hub=f"hfl/{name}-gguf", modelscope=f"ChineseAlpacaGroup/{name}")
    if size != "1.3b" and variant != "-rlhf":  # those two were trained in full and have no LoRA
        card = replace(
            card, lora_hub=f"hfl/chinese-{branch}-2-lora-{size}{variant}", lora_base=f"meta-llama/Llama-2-{size}-hf"
        )
    if variant == "-16k":
        return replace(card, window=16384, linear_factor=4.0, reach=32768)
    if variant == "-64k":
        return replace(card, window=65536, yarn_factor=16.0, reach=65536)
    return card


def _first(branch: Literal["llama", "alpaca"], size: str, variant: str = "") -> ModelCard:
    """Chinese-LLaMA or Chinese-Alpaca, released as LoRA only; ``variant`` is "", "plus" or "pro"."""
    shape = {"7b": _7B, "13b": _13B, "33b": _33B}[size]
    infix = f"{variant}-" if variant else ""
    kind: Kind = "chat" if branch == "alpaca" else "base"
    # The Alpaca models have one piece more than the LLaMA models, the padding piece.
    card = _plain(
        f"chinese-{branch}-{infix}{size}",
        shape,
        kind,
        1,
        template="stanford-alpaca",
        vocabulary=49954 if kind == "chat" else 49953,
    )
    base = f"huggyllama/llama-{'30b' if size == '33b' else size}"
    if branch == "alpaca" and variant:  # Alpaca-Plus and -Pro are merged on top of LLaMA-Plus
        base = f"{base} + hfl/chinese-llama-plus-lora-{size}"
    return replace(
        card,
        hub="",
        window=2048,
        original_window=2048,
        reach=8192,
        lora_hub=f"hfl/chinese-{branch}-{infix}lora-{size}",
        lora_base=base,
    )


def _third(suffix: str, lora_base: str) -> ModelCard:
    """Llama-3-Chinese-8B; ``suffix`` is "" (base), "-instruct", "-instruct-v2" or "-instruct-v3"."""
    name = f"llama-3-chinese-8b{suffix}"
    return replace(
        _plain(name, _8B, "chat" if suffix else "base", 3, template="llama-3", vocabulary=128256),
        window=8192,
        original_window=8192,
        reach=8192,
        theta=500000.0,
        gguf_hub=f"hfl/{name}-gguf",
        modelscope=f"ChineseAlpacaGroup/{name}",
        lora_hub=f"hfl/{name}-lora" if lora_base else "",
        lora_base=lora_base,
    )


def _ziya2(suffix: Literal["Base", "Chat"]) -> ModelCard:
    name = f"ziya2-13b-{suffix.lower()}"
    kind: Kind = "chat" if suffix == "Chat" else "base"
    return replace(
        _plain(name, _13B, kind, "ziya2", template="ziya2", vocabulary=39424),
        hub=f"IDEA-CCNL/Ziya2-13B-{suffix}",
        modelscope=f"Fengshenbang/Ziya2-13B-{suffix}",
        reach=4096,
        sampling=ZIYA2_SAMPLING,
    )


CATALOGUE: Final[tuple[ModelCard, ...]] = (
    _second("alpaca", "1.3b"),
    _second("alpaca", "7b"),
    _second("alpaca", "13b"),
    _second("alpaca", "7b", "-16k"),
    _second("alpaca", "13b", "-16k"),
    _second("alpaca", "7b", "-64k"),
    _second("alpaca", "1.3b", "-rlhf"),
    _second("alpaca", "7b", "-rlhf"),
    _second("llama", "1.3b"),
    _second("llama", "7b"),
    _second("llama", "13b"),
    _second("llama", "7b", "-16k"),
    _second("llama", "13b", "-16k"),
    _second("llama", "7b", "-64k"),
    _first("alpaca", "7b"),
    _first("alpaca", "13b"),
    _first("alpaca", "33b"),
    _first("alpaca", "7b", "plus"),
    _first("alpaca", "13b", "plus"),
    _first("alpaca", "33b", "plus"),
    _first("alpaca", "7b", "pro"),
    _first("alpaca", "13b", "pro"),
    _first("alpaca", "33b", "pro"),
    _first("llama", "7b"),
    _first("llama", "13b"),
    _first("llama", "33b"),
    _first("llama", "7b", "plus"),
    _first("llama", "13b", "plus"),
    _first("llama", "33b", "plus"),
    _third("", "meta-llama/Meta-Llama-3-8B"),
    _third("-instruct", "meta-llama/Meta-Llama-3-8B"),
    _third("-instruct-v2", "meta-llama/Meta-Llama-3-8B-Instruct"),
    _third("-instruct-v3", ""),  # merged from the two before it: there is no LoRA
    _ziya2("Chat"),
    _ziya2("Base"),
)

# ziqingyang is where the second generation stood before it moved to hfl; the last three are ModelScope's owners.
_OWNERS: Final = frozenset({"hfl", "ziqingyang", "idea-ccnl", "chinesealpacagroup", "ai-modelscope", "fengshenbang"})


def find_model(name: str) -> ModelCard:
    """The row that ``name`` means: its own name, a hub or ModelScope name, the GGUF or LoRA form, in any case.

    Raises ``UnknownModelError`` naming the nearest models.
    """
    card = match_name(name)
    if card is not None:
        return card
    near = ", ".join(nearest_names(name))
    raise UnknownModelError(
        Words(zh=f"没有名为“{name}”的模型。", en=f"There is no model called “{name}”."),
        hint=Words(
            zh=f"最接近的是：{near}。全部模型：alpaca-rag models list",
            en=f"The nearest: {near}. All models: alpaca-rag models list",
        ),
    )


def match_name(name: str) -> ModelCard | None:
    """As ``find_model``, but ``None`` where nothing matches."""
    owner, _, base = normal_name(name).rpartition("/")
    if owner and owner not in _OWNERS:
        return None
    return _names().get(base)


def nearest_names(name: str, count: int = 3) -> list[str]:
    """The ``count`` names of the catalogue that are spelt most like ``name``, nearest first."""
    base = normal_name(name).rpartition("/")[2]
    return difflib.get_close_matches(base, [card.name for card in CATALOGUE], n=count, cutoff=0.0)


def chat_sibling(card: ModelCard) -> ModelCard | None:
    """The chat model that belongs to a base model: same generation and shape, and if possible same window."""
    siblings = [
        other
        for other in CATALOGUE
        if other.kind == "chat"
        and other.generation == card.generation
        and (other.layers, other.hidden) == (card.layers, card.hidden)
    ]
    wanted = card.name.replace("llama", "alpaca", 1)
    return min(
        siblings,
        key=lambda other: (other.window != card.window, -difflib.SequenceMatcher(None, other.name, wanted).ratio()),
        default=None,
    )


def normal_name(name: str) -> str:
    """``name`` in lower case with hyphens for spaces and underscores, as names are compared."""
    return "-".join(name.strip().lower().replace("_", " ").split())


@cache
def _names() -> dict[str, ModelCard]:
    """Every spelling, without its owner, that stands for a row."""
    names: dict[str, ModelCard] = {}
    for card in CATALOGUE:
        for written in (card.name, card.hub, card.gguf_hub, card.modelscope, card.lora_hub, f"{card.name}-gguf"):
            base = normal_name(written).rpartition("/")[2]
            if base and names.setdefault(base, card) is not card:
                raise AssertionError(f"two models are called {base}")
    return names
