"""From token ids to vectors: what every way of running an embedding model has in common, and the one with torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelNotFoundError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.offline import stay_offline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Protocol):
    """An embedding model that is loaded. ``batch_tokens``: so many tokens, padding included, are read together."""

    tokens: TextTokens
    batch_tokens: int

    def encode(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors, shape (rows, dimension), of rows of token ids with their special tokens."""
        ...


@dataclass(frozen=True)
class TextTokens:
    """Cuts text into the rows of ids that a model reads. ``most``: tokens a row, with those around it."""

    tokenizer: Any
    before: tuple[int, ...]
    behind: tuple[int, ...]
    most: int
    pad: int

    @classmethod
    def of(cls, tokenizer: Any, *, most: int, pad: int) -> TextTokens:
        """``tokenizer``: one of the package tokenizers, which is left without truncation and padding."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        whole = tokenizer.encode("a").ids
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), len(whole))
        return cls(tokenizer, tuple(whole[:start]), tuple(whole[start + len(bare) :]), most, pad)

    def rows(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """The rows of each text, one at least: a text that is longer than the model reads has several."""
        room = self.most - len(self.before) - len(self.behind)
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        found = []
        for encoding in self.tokenizer.encode_batch(clean, add_special_tokens=False):
            ids = encoding.ids
            stretches = [ids[start : start + room] for start in range(0, len(ids), room)] or [[]]
            found.append([[*self.before, *stretch, *self.behind] for stretch in stretches])
        return found

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and mask of ``rows``, shape (rows, the longest)."""
        import numpy as np

        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self.pad, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask


class TorchEncoder:
    """A sentence-transformers model on the CPU or a GPU, in single precision (half on a GPU)."""

    def __init__(self, folder: Path, device: str) -> None:
        self.model = load_sentence_transformer(folder, device)
        self.device = str(self.model.device)
        on_gpu = not self.device.startswith("cpu")
        if on_gpu:
            self.model = self.model.half()
        # A few rows of a passage's length fill a CPU's caches; a GPU wants many.
        self.batch_tokens = 32_768 if on_gpu else 2048
        self.tokens = tokens_of(self.model)

    def encode(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """As in ``Encoder``."""
        import numpy as np
        import torch

        ids, mask = self.tokens.padded(rows)
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if takes_token_types(self.model):
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        with torch.inference_mode():
            placed = {name: value.to(self.model.device) for name, value in features.items()}
            vectors = self.model.forward(placed)["sentence_embedding"]
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)


def load_sentence_transformer(folder: Path, device: str, *, attention: str = "sdpa") -> Any:
    """The model in ``folder``, from safetensors only and without code of its own; ``auto`` takes a GPU if there is one.

    ``attention`` is transformers' implementation of it, where the model has a choice.
    ModelNotFoundError where there is no folder, CheckpointError for files that cannot be used, MissingExtraError.
    """
    check_folder(folder)
    stay_offline(keep_tracing=True)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError.for_package("sentence-transformers", "dense") from error
    import torch
    from safetensors import SafetensorError

    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        with without_progress_bars():
            model = SentenceTransformer(
                str(folder), device=place, local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "attn_implementation": attention},
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError) as error:
        raise CheckpointError(
            Words(
                zh=f"嵌入模型 {folder} 无法加载：{error}", en=f"The embedding model {folder} cannot be loaded: {error}"
            ),
            hint=Words(
                zh="检查下载是否完整：需要 config.json、tokenizer.json、modules.json 和 .safetensors 权重。",
                en="Check that the download is whole: config.json, tokenizer.json, modules.json and .safetensors.",
            ),
        ) from error
    return model.eval()


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing its own on the terminal."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_folder(folder: Path) -> None:
    """ModelNotFoundError unless ``folder`` is one, CheckpointError unless its weights are in safetensors."""
    if not folder.is_dir():
        raise ModelNotFoundError(
            Words(zh=f"没有这个模型文件夹：{folder}", en=f"There is no such model folder: {folder}"),
            hint=Words(
                zh="先下载一个，例如 BAAI/bge-small-zh-v1.5，再写它的文件夹。",
                en="Download one first, such as BAAI/bge-small-zh-v1.5, and name its folder.",
            ),
        )
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            Words(zh=f"{folder} 里没有 .safetensors 权重。", en=f"{folder} holds no weights in .safetensors."),
            hint=Words(
                zh="不读 pickle 格式的权重（.bin、.pt），因为它能执行任意代码；请下载 safetensors 版本。",
                en="Pickled weights (.bin, .pt) are not read, as they can run any code; get the safetensors.",
            ),
        )


def tokens_of(model: Any) -> TextTokens:
    """How text becomes ids for a sentence-transformers model."""
    tokenizer = model.tokenizer
    positions = getattr(model[0].auto_model.config, "max_position_embeddings", None)
    limits = [limit for limit in (model.max_seq_length, positions) if isinstance(limit, int) and 0 < limit < 1 << 20]
    # RoBERTa's positions begin behind its padding id; sentence-transformers' own limit knows that.
    most = model.max_seq_length if isinstance(model.max_seq_length, int) else min(limits, default=512)
    return TextTokens.of(_copied(tokenizer.backend_tokenizer), most=most, pad=tokenizer.pad_token_id or 0)


def takes_token_types(model: Any) -> bool:
    """Whether a sentence-transformers model wants to know of which of two texts a token is."""
    return "token_type_ids" in model.tokenizer.model_input_names


def _copied(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str())))
