"""What was found, ranked again by a model that reads the question and each passage together."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from chinese_alpaca_rag.errors import ModelError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.retrieval.cross_encoder import load_cross_encoder, longest_pair, windows
from chinese_alpaca_rag.retrieval.inner import found_by
from chinese_alpaca_rag.retrieval.quoting import quotes_first

# Tokens of a passage that a window has at least, however long the question is.
_LEAST_ROOM = 2


@runtime_checkable
class Reranker(Protocol):
    """Says how well texts answer a question."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A finite number for each text, in their order; higher is better."""
        ...


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers, such as ``bge-reranker-base``, in a local folder.

    It is opened at the first question, from safetensors only, with no network and no code from the folder; what
    ``cross_encoder.load_cross_encoder`` raises is raised then. ``device``: "auto" is a GPU where there is one.
    ``max_length``: at most so many tokens a pair of question and passage (question, passage and special tokens), by
    default and at most what the model takes.

    Nothing is truncated: a passage that does not fit beside the question is read in windows that overlap by a quarter,
    and counts as much as its best one. A question that takes more than half of the room is read in windows too, and the
    mean over them counts. Scores are the model's logits, of which one model's can be compared. May be used from several
    threads, which take turns.
    """

    def __init__(
        self, path: Path | str, *, device: str = "auto", batch_size: int = 32, max_length: int | None = None
    ) -> None:
        for name, number in (("batch_size", batch_size), ("max_length", max_length)):
            if number is not None and number < 1:
                raise _not_positive(name, number)
        self.path = Path(path)
        self._device = device
        self._batch_size = batch_size
        self._max_length = max_length
        self._guard = threading.Lock()
        self._model: Any = None

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """The logit of each text for ``query``; ModelError where the model gives no number or fails."""
        if not texts:
            return []
        with self._guard:
            if self._model is None:
                self._model = load_cross_encoder(self.path, self._device)
            parts = self._parts(_encodable(query))
            room = self._room() - max(map(self._count, parts))
            different = list(dict.fromkeys(texts))
            pieces = [windows(_encodable(text), max(room, _LEAST_ROOM), self._count) for text in different]
            pairs = [(part, piece) for part in parts for its in pieces for piece in its]
            logits = iter(self._logits(pairs))
            by_part = [[max(next(logits) for _ in its) for its in pieces] for _ in parts]
        mean = {text: sum(best) / len(parts) for text, best in zip(different, zip(*by_part, strict=True), strict=True)}
        return [mean[text] for text in texts]

    def _room(self) -> int:
        """Tokens for question and passage, without the special ones."""
        longest = longest_pair(self._model)
        most = longest if self._max_length is None else min(longest, self._max_length)
        return most - int(self._model.tokenizer.num_special_tokens_to_add(pair=True))

    def _parts(self, query: str) -> list[str]:
        room = self._room()
        if room < 2 * _LEAST_ROOM:
            raise _no_room(self.path, room)
        return windows(query, room // 2, self._count)

    def _count(self, text: str) -> int:
        return len(self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One number a pair, evaluated in batches of pairs of like length, the longest first."""
        order = sorted(range(len(pairs)), key=lambda number: -len(pairs[number][0]) - len(pairs[number][1]))
        try:
            made = self._model.predict(
                [list(pairs[number]) for number in order], batch_size=self._batch_size, show_progress_bar=False
            )
        except RuntimeError as problem:  # PyTorch's, out of memory among them
            raise _failed(self.path, str(problem)) from problem
        if made.ndim != 1 or len(made) != len(pairs):
            raise _failed(self.path, f"{tuple(made.shape)} ≠ ({len(pairs)},)")
        found = [0.0] * len(pairs)
        for number, logit in zip(order, made, strict=True):
            found[number] = float(logit)
        if not all(map(math.isfinite, found)):
            raise _failed(self.path, "NaN")
        return found


class RerankingRetriever(BaseRetriever):
    """The best ``k`` of the ``fetch`` documents that any retriever finds, as a reranker sees them, best first.

    ``reranker`` is a ``CrossEncoderReranker`` or anything else with its method ``scores``. ``fetch`` documents are
    taken where ``retriever`` can be asked for a number, otherwise as many as it gives. Each document's ``rerank_score``
    is the reranker's, ``former_rank`` (from 1) where it stood before; among equal scores the former order stays. What
    the question quotes still comes first.
    ModelError where a score is no finite number.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retriever: BaseRetriever
    reranker: Reranker = Field(exclude=True)
    k: int = Field(default=12, ge=1)
    fetch: int = Field(default=50, ge=1)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self.k if k is None else k
        found = found_by(self.retriever, query, max(self.fetch, wanted), run_manager)
        if not found:
            return []
        scores = self.reranker.scores(query, [document.page_content for document in found])
        if len(scores) != len(found) or not all(map(math.isfinite, scores)):
            raise _failed(type(self.reranker).__name__, f"{len(scores)} / {len(found)}, NaN?")
        best = sorted(range(len(found)), key=lambda number: -scores[number])
        ranked = [_reranked(found[number], float(scores[number]), number + 1) for number in best]
        return quotes_first(ranked, query)[:wanted]


def _encodable(text: str) -> str:
    """``text`` with a question mark for each half of a character, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _reranked(document: Document, score: float, former_rank: int) -> Document:
    metadata = {**document.metadata, "rerank_score": score, "former_rank": former_rank}
    return Document(id=document.id, page_content=document.page_content, metadata=metadata)


def _failed(model: Path | str, reason: str) -> ModelError:
    return ModelError(
        Words(
            zh=f"重排模型 {model} 没有给出可用的分数：{reason}",
            en=f"The reranking model {model} gave no usable scores: {reason}",
        ),
        hint=Words(
            zh="检查模型文件是否完整；显存不足时减小 batch_size 或 max_length。",
            en="Check that the model's files are whole; where memory ran out, lower batch_size or max_length.",
        ),
    )


def _no_room(model: Path, room: int) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"{model} 只剩 {room} 个词元给问题和段落。", en=f"{model} has {room} tokens for question and passage."
        ),
        hint=Words(zh="请增大 max_length。", en="Raise max_length."),
    )


def _not_positive(name: str, number: int) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"{name} 不能是 {number}。", en=f"{name} cannot be {number}."),
        hint=Words(zh="请给出正整数。", en="Give a positive number."),
    )
