"""An embedding model in 8-bit integers on the CPU, through ONNX Runtime.

The model's matrix products are made with dynamically quantised activations and weights quantised by channel
(onnxruntime.quantization.quantize_dynamic); about twice as fast as single precision. What is converted once is kept
in a folder, from which it runs without torch::

    manifest.json     format, pooling, normalising, limits of tokens, SHA-256 of the other two files
    model.onnx
    tokenizer.json
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.offline import stay_offline
from chinese_alpaca_rag.retrieval.encoders import (
    TextTokens,
    check_folder,
    load_sentence_transformer,
    takes_token_types,
    tokens_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
_MANIFEST, _MODEL, _TOKENIZER = "manifest.json", "model.onnx", "tokenizer.json"
_OPERATIONS = ["MatMul", "Gemm"]
_FLOAT = 1  # onnx.TensorProto.FLOAT
_LEAST_ALIKE = 0.98
_PROBES = ("年假有几天？", "How many days of annual leave are there?", "张三于2024年3月1日签订了合同。")


class OnnxEncoder:
    """A model that ``convert`` wrote."""

    batch_tokens = 512

    def __init__(self, folder: Path) -> None:
        """CheckpointError where anything in ``folder`` is not as it was written."""
        onnxruntime = _onnxruntime()
        from tokenizers import Tokenizer

        manifest = _read_manifest(folder)
        self._pooling: str = manifest["pooling"]
        self._normalize: bool = manifest["normalize"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(folder / _MODEL), options, providers=["CPUExecutionProvider"])
        self._inputs = {one.name for one in self._session.get_inputs()}
        self.tokens = TextTokens.of(
            Tokenizer.from_file(str(folder / _TOKENIZER)), most=manifest["most"], pad=manifest["pad"]
        )

    def encode(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """As in ``encoders.Encoder``."""
        import numpy as np

        ids, mask = self.tokens.padded(rows)
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: fed[name] for name in self._inputs})[0]
        if self._pooling == "cls":
            vectors = hidden[:, 0]
        else:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        if self._normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors, dtype=np.float32)


def open_int8(model_folder: Path, cache: Path | None, fingerprint: str) -> OnnxEncoder:
    """The model of ``model_folder`` in 8-bit integers, converted if ``cache`` does not hold it already.

    Without ``cache`` it is converted each time. ModelError where the conversion would change the vectors or where
    the model is not one of those that can be converted; MissingExtraError.
    """
    _onnxruntime()
    check_folder(model_folder)
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="alpaca-rag-") as temporary:
            convert(model_folder, Path(temporary) / "int8")
            return OnnxEncoder(Path(temporary) / "int8")
    place = cache / f"{fingerprint}-int8"
    try:
        return OnnxEncoder(place)
    except CheckpointError:
        shutil.rmtree(place, ignore_errors=True)
    convert(model_folder, place)
    return OnnxEncoder(place)


def convert(model_folder: Path, target: Path) -> None:
    """Write the model of ``model_folder`` in 8-bit integers to the new folder ``target``, whole or not at all."""
    # Written out, attention's products are quantised and fused better than those of one operation for it all.
    model = load_sentence_transformer(model_folder, "cpu", attention="eager")
    pooling, normalize = _modules(model, model_folder)
    tokens = tokens_of(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    writing = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        _export(model, writing / "single.onnx")
        _quantize(writing / "single.onnx", writing / _MODEL)
        (writing / "single.onnx").unlink()
        tokens.tokenizer.save(str(writing / _TOKENIZER))
        manifest = {
            "format": FORMAT, "pooling": pooling, "normalize": normalize, "most": tokens.most, "pad": tokens.pad,
            "sha256": {name: _sha256(writing / name) for name in (_MODEL, _TOKENIZER)},
        }  # fmt: skip
        (writing / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        _check_alike(model, OnnxEncoder(writing), model_folder)
        for path in writing.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        wait_for_disk(writing)
        try:
            writing.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _modules(model: Any, folder: Path) -> tuple[str, bool]:
    """How the tokens' vectors become one: ``cls`` or ``mean``, and whether it is of length 1."""
    names = [type(module).__name__ for module in model]
    pooling = str(model[1].get_config_dict().get("pooling_mode", "")) if names[1:2] == ["Pooling"] else ""
    if not pooling and names[1:2] == ["Pooling"]:
        pooling = str(model[1].get_pooling_mode_str())
    if names[2:] not in ([], ["Normalize"]) or pooling not in ("cls", "mean"):
        raise ModelError(
            Words(
                zh=f"{folder} 的结构（{'、'.join(names)}，{pooling or '无池化'}）不能转成 8 位。",
                en=f"{folder} has parts that are not converted to 8 bits: {', '.join(names)} ({pooling or 'none'}).",
            ),
            hint=Words(zh="请用单精度。", en="Use single precision."),
        )
    return pooling, names[2:] == ["Normalize"]


def _export(model: Any, path: Path) -> None:
    import torch

    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_token_types(model) else [])]

    class LastHiddenState(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: Any) -> Any:
            return self.inner(**dict(zip(names, inputs, strict=True))).last_hidden_state

    ids = torch.tensor([[*range(1, 9)], [*range(1, 9)]])
    example = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(names)]
    axes = {name: {0: "rows", 1: "tokens"} for name in [*names, "hidden"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            LastHiddenState(model[0].auto_model).eval(), example, str(path), input_names=names,
            output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    root.addFilter(_is_error)  # it advises, through the root logger, a step that changes nothing here
    try:
        quantize_dynamic(
            source, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=_OPERATIONS,
            extra_options={"DefaultTensorType": _FLOAT},
        )  # fmt: skip
    finally:
        root.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _check_alike(model: Any, converted: OnnxEncoder, folder: Path) -> None:
    import numpy as np

    expected = np.asarray(model.encode(list(_PROBES), normalize_embeddings=True, show_progress_bar=False))
    rows = [rows[0] for rows in converted.tokens.rows(_PROBES)]
    found = converted.encode(rows)
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    alike = float((expected * found).sum(axis=1).min())
    if not alike >= _LEAST_ALIKE:
        raise ModelError(
            Words(
                zh=f"{folder} 转成 8 位后向量变了（相似度只有 {alike:.3f}）。",
                en=f"{folder} gives other vectors in 8 bits (similarity {alike:.3f}).",
            ),
            hint=Words(zh="请用单精度。", en="Use single precision."),
        )


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
        whole = manifest["format"] == FORMAT and all(
            _sha256(folder / name) == manifest["sha256"][name] for name in (_MODEL, _TOKENIZER)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder) from error
    if not whole:
        raise _damaged(folder)
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _onnxruntime() -> Any:
    stay_offline(keep_tracing=True)  # it would report its use
    try:
        import onnx  # noqa: F401 - said now, not after the model is loaded
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError.for_package(error.name or "onnxruntime", "dense") from error
    return onnxruntime


def _damaged(folder: Path) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"{folder} 里没有可用的 8 位模型。", en=f"There is no usable 8-bit model in {folder}."),
        hint=Words(zh="删除后会自动重新转换。", en="Remove it: it is converted again."),
    )
