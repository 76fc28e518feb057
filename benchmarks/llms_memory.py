"""Is the memory that is predicted before weights are opened what the process then grows by?

    python -m benchmarks.llms_memory

Each configuration is a model with random weights, opened in a process of its own that has imported its
libraries and warmed them up on a tiny model; the prompt fills the window. What is measured is the peak of
the resident memory over what was resident before loading, the median of three such processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from benchmarks.figures import figure
from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.preflight import require_memory
from chinese_alpaca_rag.family.rope import plan_rope
from tests.toy_family import ToyCheckpoint, WeightType, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

CHILDREN = 3
THREADS = 2
FAMILY_VOCABULARY = 55296


@dataclass(frozen=True)
class Shape:
    """A model in the family's proportions."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int | None = None


# Its heads are 32 wide: as narrow as quantised keys can be.
TINY = Shape(2, 128, 4, 352)
STAND_IN = Shape(8, 512, 8, 1376, FAMILY_VOCABULARY)
NARROW = Shape(8, 1024, 8, 2816)
WIDE = Shape(5, 2048, 16, 5504)


@dataclass(frozen=True)
class Case:
    """``weights`` are the types in the file; ``kind`` is the KV type (gguf) or the type they are opened in (hf)."""

    backend: str
    shape: Shape
    weights: str
    window: int
    kind: str

    @property
    def name(self) -> str:
        shape = self.shape
        return f"{self.backend} {shape.layers}x{shape.hidden} {self.weights} window {self.window} {self.kind}"


CASES = (
    Case("gguf", STAND_IN, "float16", 6144, "f16"),
    Case("gguf", NARROW, "float32", 2048, "f16"),
    Case("gguf", NARROW, "float16", 4096, "f16"),
    Case("gguf", NARROW, "q8_0", 6144, "f16"),
    Case("gguf", NARROW, "q4_0", 8192, "f16"),
    Case("gguf", WIDE, "float16", 2048, "q8_0"),
    Case("gguf", WIDE, "q8_0", 2048, "q4_0"),
    Case("gguf", WIDE, "q4_0", 2048, "f16"),
    Case("hf", STAND_IN, "float32", 4096, "float32"),
    Case("hf", NARROW, "float32", 2048, "float32"),
    Case("hf", WIDE, "float32", 2048, "float32"),
    Case("hf", WIDE, "float16", 2048, "float32"),
    Case("hf", WIDE, "float16", 2048, "bfloat16"),
)


def measure() -> None:
    """Print every configuration's two amounts, and the worst relative difference between them."""
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        for case in CASES:
            path = models.path(case)
            predicted = predict(case, path)
            grown = statistics.median(growth(case, path, models.tiny(case)) for _ in range(CHILDREN))
            error = abs(predicted - grown) / grown
            errors.append(error)
            print(f"{case.name}: predicted {predicted / 1e6:.1f} MB, measured {grown / 1e6:.1f} MB, error {error:.2%}")
            sys.stdout.flush()
    figure("memory_prediction_worst_error", max(errors), "<=", 0.05)


def predict(case: Case, path: Path) -> int:
    checkpoint = read_checkpoint(path)
    kind: dict[str, Any] = {"kv_type" if case.backend == "gguf" else "dtype": case.kind}
    return require_memory(checkpoint, plan_rope(checkpoint.card, case.window), **kind).total


def growth(case: Case, path: Path, tiny: Path, threads: int = THREADS) -> int:
    """Bytes that a fresh process grew by."""
    order = json.dumps([case.backend, str(tiny), str(path), case.window, case.kind, threads])
    command = [sys.executable, "-m", "benchmarks.llms_memory", order]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    return int(done.stdout.split()[-1])


class Models:
    """Checkpoints, each built when it is first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[tuple[Shape, str], ToyCheckpoint] = {}

    def tiny(self, case: Case) -> Path:
        return self._formatted(self._build(TINY, "float32"), case)

    def path(self, case: Case) -> Path:
        if case.weights in ("float32", "float16"):
            return self._formatted(self._build(case.shape, case.weights), case)
        source = self._build(case.shape, "float32").gguf
        target = source.with_name(f"{source.stem}-{case.weights}.gguf")
        if not target.exists():
            quantise(source, target, case.weights)
        return target

    def _formatted(self, checkpoint: ToyCheckpoint, case: Case) -> Path:
        return checkpoint.gguf if case.backend == "gguf" else checkpoint.hf

    def _build(self, shape: Shape, dtype: str) -> ToyCheckpoint:
        key = shape, dtype
        if key not in self._built:
            kind: WeightType = "float16" if dtype == "float16" else "float32"
            self._built[key] = build_toy_family(
                self._folder / f"{len(self._built)}",
                tokenizer_model=vocabulary(shape.vocabulary),
                layers=shape.layers,
                hidden=shape.hidden,
                heads=shape.heads,
                feed_forward=shape.feed_forward,
                window=16384,
                rope="linear-4",
                dtype=kind,
            )
        return self._built[key]


@cache
def vocabulary(size: int | None) -> bytes:
    """The toy tokenizer, filled up to ``size`` pieces of the usual length."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(toy_tokenizer_model())
    for number in range(len(proto.pieces), size or 0):
        proto.pieces.add(piece=f"▁{number:05d}", score=-float(number), type=1)
    return bytes(proto.SerializeToString())


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write ``source`` again with its matrices in another type."""
    import gguf

    wanted = gguf.GGMLQuantizationType[kind.upper()]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = np.asarray(tensor.data, dtype=np.float32)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def child(backend: str, tiny: str, path: str, window: int, kind: str, threads: int = THREADS) -> None:
    """Print the growth of this process while it opens ``path`` and evaluates a prompt that fills the window."""
    evaluate(backend, tiny, 1024, kind, threads)
    # Lets the peak begin anew (proc(5)).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    evaluate(backend, path, window, kind, threads)
    print(resident("VmHWM") - before)


def evaluate(backend: str, path: str, window: int, kind: str, threads: int) -> None:
    model = opened(backend, path, window, kind, threads)
    # From the whole vocabulary: of an embedding that is mapped only the rows that are used come into memory.
    ids = [1, *np.random.default_rng(7).integers(259, model.card.vocabulary, window - 1).tolist()]
    model.next_token_logits(ids)
    model.close()


def opened(backend: str, path: str, window: int, kind: str, threads: int) -> Any:
    fields: dict[str, Any] = {"model_path": path, "window": window}
    if backend == "gguf":
        from chinese_alpaca_rag.llms import ChatAlpacaGGUF

        return ChatAlpacaGGUF.model_validate({**fields, "kv_type": kind, "n_threads": threads})
    import torch

    from chinese_alpaca_rag.llms import ChatAlpacaHF

    torch.set_num_threads(threads)
    return ChatAlpacaHF.model_validate({**fields, "device": "cpu", "dtype": kind})


def resident(line: str) -> int:
    """A figure of ``/proc/self/status``, in bytes."""
    return next(_amounts(line)) * 1024


def _amounts(line: str) -> Iterator[int]:
    for each in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if each.startswith(f"{line}:"):
            yield int(each.split()[1])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(*json.loads(sys.argv[1]))
    else:
        measure()
