"""Opening a cross-encoder from a local folder, and cutting what is too long for it into windows.

Nothing is left to the folder but its weights and tokenizer: code and classes that it names, pickled weights and
activation functions have no say.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.errors import AlpacaRagError, CheckpointError, MissingExtraError, ModelNotFoundError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.offline import stay_offline
from chinese_alpaca_rag.retrieval.encoders import without_progress_bars

# What part of a window stands in the next one as well, so that no sentence is seen only in halves.
OVERLAP = 0.25

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_HEAD = ("classifier", "score", "head")  # in the names of the tensors that make a score of a pair


def load_cross_encoder(folder: Path, device: str = "auto") -> Any:
    """The ``sentence_transformers.CrossEncoder`` in ``folder``, which gives one logit a pair, ready to be evaluated.

    ``device`` in PyTorch's words; "auto" is a GPU where there is one. Raises ``ModelNotFoundError`` where there is no
    folder, ``CheckpointError`` for pickled, damaged or foreign files, and ``MissingExtraError``.
    """
    check_cross_encoder(folder)
    stay_offline(keep_tracing=True)
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as missing:
        raise MissingExtraError.for_package("sentence_transformers", "dense") from missing
    from torch import nn

    place = None if device == "auto" else device
    try:
        _require_head(folder)
        with without_progress_bars():
            model = CrossEncoder(
                str(folder), device=place, trust_remote_code=False, local_files_only=True,
                activation_fn=nn.Identity(), model_kwargs={"use_safetensors": True},
            )  # fmt: skip
    except AlpacaRagError:
        raise
    except Exception as problem:  # what the libraries raise for damaged files has no common type
        raise _unusable(folder, str(problem) or type(problem).__name__) from problem
    model.default_prompt_name = None  # which the folder may name, and which would take room
    return model.eval()


def check_cross_encoder(folder: Path) -> None:
    """Raise what ``load_cross_encoder`` does for what can be seen without PyTorch."""
    if not folder.is_dir():
        raise ModelNotFoundError(
            Words(zh=f"没有重排模型文件夹 {folder}。", en=f"There is no folder of a reranking model at {folder}."),
            hint=Words(
                zh="请先把模型（如 BAAI/bge-reranker-base）下载到本机，再给出它的文件夹；这里从不联网下载。",
                en="Fetch a model such as BAAI/bge-reranker-base first and give its folder: nothing is downloaded.",
            ),
        )
    if not any(folder.glob("*.safetensors")):
        pickled = next((path.name for pattern in _PICKLED for path in sorted(folder.glob(pattern))), None)
        if pickled is not None:
            reason = Words(
                zh=f"只有 pickle 格式的权重（{pickled}），加载它可能执行任意代码",
                en=f"its weights are pickled ({pickled}), and loading those can run any code",
            )
            raise _unusable(folder, reason)
        raise _unusable(folder, Words(zh="没有 *.safetensors 权重", en="it holds no weights (*.safetensors)"))
    stated = _read_json(folder / "config.json")
    kinds = stated.get("architectures") if isinstance(stated, dict) else None
    kinds = kinds if isinstance(kinds, list) else []
    if not kinds or not all(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        kind = Words(zh=f"{kinds} 不是给一对文本打分的模型", en=f"{kinds} is no model that scores a pair of texts")
        raise _unusable(folder, kind)
    if (folder / "modules.json").exists():
        modules = _read_json(folder / "modules.json")
        names = [module.get("type") for module in modules if isinstance(module, dict)] if modules else []
        if len(names) != 1 or not str(names[0]).startswith("sentence_transformers."):
            raise _unusable(folder, f"modules.json: {names}")


def longest_pair(model: Any) -> int:
    """How many tokens a pair may have with its special tokens: what the tokenizer says and the positions allow."""
    config = model.model.config
    limits = [getattr(model.tokenizer, "model_max_length", None), getattr(model, "max_seq_length", None)]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from behind the padding id.
        behind = "roberta" in str(config.model_type) or config.model_type == "camembert"
        limits.append(positions - (config.pad_token_id or 0) - 1 if behind else positions)
    return min(int(limit) for limit in limits if limit is not None)


def windows(text: str, room: int, count: Callable[[str], int]) -> list[str]:
    """``text`` in stretches of at most ``room`` tokens as ``count`` counts them, the whole of it where it fits.

    Each begins a quarter of a stretch before the former one ends. A single character with more tokens than there is
    room stays whole.
    """
    tokens = count(text)
    if tokens <= room:
        return [text]
    size = max(1, len(text) * room // tokens)
    found = []
    start = 0
    while True:
        end = min(start + size, len(text))
        while end - start > 1 and count(text[start:end]) > room:
            end -= max(1, (end - start) // 8)
        found.append(text[start:end])
        if end == len(text):
            return found
        start = max(start + 1, end - int((end - start) * OVERLAP))


def _require_head(folder: Path) -> None:
    """CheckpointError where no tensor makes a score: transformers would fill it with random numbers and go on."""
    from safetensors import safe_open

    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            if any(part in name for name in tensors.keys() for part in _HEAD):  # noqa: SIM118 - it is no dict
                return
    raise _unusable(folder, Words(zh="权重里没有打分的一层", en="no tensor of its weights makes a score"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise _unusable(path.parent, f"{path.name}: {problem}") from problem


def _unusable(folder: Path, reason: Words | str) -> CheckpointError:
    why = Words(zh=reason, en=reason) if isinstance(reason, str) else reason
    return CheckpointError(
        Words(
            zh=f"无法加载重排模型 {folder}：{why.zh}。", en=f"The reranking model {folder} cannot be loaded: {why.en}."
        ),
        hint=Words(
            zh="请换一个带 model.safetensors 的交叉编码器，如 BAAI/bge-reranker-base。",
            en="Use a cross-encoder with model.safetensors, such as BAAI/bge-reranker-base.",
        ),
    )
