"""Embedding models from a local folder, as LangChain ``Embeddings``."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langchain_core.embeddings import Embeddings

from chinese_alpaca_rag.errors import ModelError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.retrieval.encoders import Encoder, TorchEncoder, check_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["float32", "int8"]
#: Told how many texts are embedded, and of how many.
OnProgress = Callable[[int, int], None]

#: What the models' cards have put before a query; passages take none. By the folder's name.
INSTRUCTIONS = (
    (re.compile(r"bge-(small|base|large)-zh", re.IGNORECASE), "为这个句子生成表示以用于检索相关文章："),
    (
        re.compile(r"bge-(small|base|large)-en", re.IGNORECASE),
        "Represent this sentence for searching relevant passages: ",
    ),
)

# Of weights, so many blocks of so many bytes are hashed: every training changes all of them.
_BLOCKS, _BLOCK_BYTES = 64, 1 << 16


class LocalEmbeddings(Embeddings):
    """A sentence-transformers model in ``folder``, such as bge-small-zh-v1.5.

    Loaded when first used. ``precision`` ``int8`` runs on the CPU through ONNX Runtime, about twice as fast, after a
    conversion that ``cache_folder`` keeps. ``device`` is ``auto``, ``cpu``, ``cuda`` … of torch. Before a query stands
    ``query_instruction``, by default the one that the model's files or, for the bge family, its card names; before a
    passage ``passage_instruction``. A text that is longer than the model reads is read in several parts, the vector
    is their mean by length: nothing is cut off. May be used from several threads; ``on_progress`` is told of long
    lists.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        precision: Precision = "float32",
        device: str = "auto",
        query_instruction: str | None = None,
        passage_instruction: str = "",
        cache_folder: Path | str | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        if precision not in ("float32", "int8"):
            raise _unknown_precision(precision)
        self.folder = Path(folder).expanduser()
        self.precision: Precision = precision
        self.device = device
        self.passage_instruction = passage_instruction
        self.on_progress = on_progress
        self._given_instruction = query_instruction
        self._cache = Path(cache_folder) if cache_folder is not None else None
        self._guard = threading.RLock()
        self._loaded: Encoder | None = None
        self._fingerprint = ""

    @property
    def query_instruction(self) -> str:
        """What stands before a query."""
        return instruction_of(self.folder) if self._given_instruction is None else self._given_instruction

    @property
    def fingerprint(self) -> str:
        """Names the model by its files' content; another model, or another instruction for passages, has another."""
        with self._guard:
            if not self._fingerprint:
                self._fingerprint = _fingerprint(self.folder, self.passage_instruction)
            return self._fingerprint

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each passage."""
        return [list(map(float, row)) for row in self.vectors(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return list(map(float, self._vectors([self.query_instruction + text], None)[0]))

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32, shape (texts, dimension)."""
        return self._vectors([self.passage_instruction + text for text in texts], self.on_progress)

    def _vectors(self, texts: Sequence[str], on_progress: OnProgress | None) -> NDArray[np.float32]:
        import numpy as np

        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        with self._guard:
            encoder = self._encoder()
            rows_of = encoder.tokens.rows(texts)
            rows = [(number, row) for number, parts in enumerate(rows_of) for row in parts]
            sums: NDArray[np.float32] | None = None
            done = 0
            for batch in batches(rows, encoder.batch_tokens):
                made = encoder.encode([row for _, row in batch])
                if not np.isfinite(made).all():
                    raise _no_vectors(self.folder)
                if sums is None:
                    sums = np.zeros((len(texts), made.shape[1]), dtype=np.float32)
                for (number, row), vector in zip(batch, made, strict=True):
                    sums[number] += vector if len(rows_of[number]) == 1 else vector * len(row)
                done += len(batch)
                if on_progress is not None:
                    on_progress(min(done, len(texts)), len(texts))
        assert sums is not None  # noqa: S101 - there is at least one row
        for number, parts in enumerate(rows_of):
            if len(parts) > 1:
                sums[number] /= max(float(np.linalg.norm(sums[number])), 1e-12)
        return sums

    def _encoder(self) -> Encoder:
        if self._loaded is None:
            if self.precision == "int8":
                from chinese_alpaca_rag.retrieval.onnx_encoder import open_int8

                self._loaded = open_int8(self.folder, self._cache, self.fingerprint)
            else:
                self._loaded = TorchEncoder(self.folder, self.device)
        return self._loaded


def batches(rows: Sequence[tuple[int, list[int]]], most_tokens: int) -> list[list[tuple[int, list[int]]]]:
    """``rows`` by length, the longest first, so many together as fill ``most_tokens`` with their padding."""
    found: list[list[tuple[int, list[int]]]] = []
    for row in sorted(rows, key=lambda one: -len(one[1])):
        if found and (len(found[-1]) + 1) * len(found[-1][0][1]) <= most_tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def instruction_of(folder: Path) -> str:
    """What the model in ``folder`` wants before a query: by its own files, else by its name, else nothing."""
    import json

    try:
        prompts = json.loads((folder / "config_sentence_transformers.json").read_bytes()).get("prompts", {})
        written = prompts.get("query", "")
    except (OSError, ValueError, AttributeError):
        written = ""
    if isinstance(written, str) and written:
        return written
    name = folder.resolve().name
    return next((text for pattern, text in INSTRUCTIONS if pattern.search(name)), "")


def _fingerprint(folder: Path, passage_instruction: str) -> str:
    check_folder(folder)
    digest = blake2b(passage_instruction.encode(), digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".txt", ".safetensors", ".model") and path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size} ".encode("utf-8", "surrogateescape"))
            with path.open("rb") as file:
                if size <= _BLOCKS * _BLOCK_BYTES:
                    digest.update(file.read())
                    continue
                for number in range(_BLOCKS):
                    file.seek(number * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _unknown_precision(given: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"没有“{given}”这种精度。", en=f"There is no precision {given!r}."),
        hint=Words(zh="请写 float32 或 int8。", en="Give float32 or int8."),
    )


def _no_vectors(folder: Path) -> ModelError:
    return ModelError(
        Words(zh=f"嵌入模型 {folder} 没有给出可用的向量。", en=f"The model {folder} did not give usable vectors."),
        hint=Words(zh="检查模型文件是否完整。", en="Check whether the model's files are whole."),
    )
