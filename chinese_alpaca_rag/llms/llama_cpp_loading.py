"""Opening GGUF models and adapters with llama.cpp: llama-cpp-python's bindings, their log, and their C structures.

What llama.cpp says when it fails goes into the error; what it logs otherwise goes to this module's logger.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError, ModelError, WrongUsageError
from chinese_alpaca_rag.family.adapter import read_adapter
from chinese_alpaca_rag.family.gguf_header import read_gguf_header
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.loading_progress import Progress

_TOKENS: Final = "tokenizer.ggml.tokens"
_MOST_LAYERS: Final = 512  # LLAMA_MAX_LAYERS
# Keys of mixtures of experts and of extra heads, with which llama.cpp asserts what these files need not hold.
_NOT_OF_LLAMA: Final = frozenset(
    {
        "llama.nextn_predict_layers",
        "llama.expert_count",
        "llama.expert_used_count",
        "llama.expert_group_count",
        "llama.expert_group_used_count",
    }
)
_ALL_LAYERS: Final = 0x7FFFFFFF
# enum llama_load_mode, by (memory map, lock in memory).
_LOAD_MODES: Final = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}
# ggml_log_level to logging's; everything else (debugging, and lines continued) is for debugging.
_LOG_LEVELS: Final = {2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}

_NO_ROOM: Final = "failed to find a memory slot"

_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())
_starting = threading.Lock()
_keep_alive: list[Any] = []


def library() -> Any:
    """llama-cpp-python's bindings, with llama.cpp's log sent to this module's logger.

    Raises ``MissingExtraError`` where the package is not installed.
    """
    try:
        from llama_cpp import llama_cpp
    except ImportError as missing:
        raise MissingExtraError.for_package("llama-cpp-python", "gguf") from missing
    with _starting:
        if not _keep_alive:
            callback = llama_cpp.llama_log_callback(_log)
            _keep_alive.append(callback)
            llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
            llama_cpp.llama_backend_init()
    return llama_cpp


class _Complaints:
    """The last warnings and errors that llama.cpp logged on this thread since ``clear``."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def _lines(self) -> deque[str]:
        lines: deque[str] = self._of_thread.__dict__.setdefault("lines", deque(maxlen=8))
        return lines

    def clear(self) -> None:
        self._lines().clear()

    def add(self, line: str) -> None:
        self._lines().append(line)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._lines()))


#: What llama.cpp has to say of a call that failed: cleared before the call, joined after it.
complaints: Final = _Complaints()


def set_fields(structure: Any, **values: Any) -> None:
    """Set fields of a C structure.

    ctypes would silently accept a name that the structure does not have, and cut a number that the
    field does not hold: both raise ``ModelError``.
    """
    kinds = {name: kind for name, kind, *_ in structure._fields_}
    for name, value in values.items():
        if name not in kinds:
            raise ModelError(
                Words(
                    zh=f"这个版本的 llama-cpp-python 没有参数 {name}。",
                    en=f"This version of llama-cpp-python has no parameter {name}.",
                ),
                hint=Words(
                    zh="请运行：pip install 'chinese-alpaca-rag[gguf]'",
                    en="Run: pip install 'chinese-alpaca-rag[gguf]'",
                ),
            )
        setattr(structure, name, value)
        if type(value) is int and getattr(structure, name) != value:
            raise ModelError(
                Words(zh=f"llama.cpp 的参数 {name} 放不下 {value}。", en=f"llama.cpp's {name} does not hold {value}."),
                hint=Words(zh="请用更小的数。", en="Use a smaller number."),
            )


def open_model(
    path: Path,
    *,
    n_gpu_layers: int = 0,
    use_mmap: bool = True,
    use_mlock: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> Any:
    """The model in the GGUF file at ``path``, as llama.cpp's pointer, freed by ``llama_model_free``.

    ``n_gpu_layers``: -1 is as many as there are, and none where llama.cpp was built for no GPU.
    ``use_mmap`` maps the file into memory, ``use_mlock`` keeps it from being swapped out (as far as
    the system's limit on locked memory goes; llama.cpp's warning is logged). ``on_progress`` is
    called with 0.0 to 1.0; what it raises stops the loading, frees what was loaded, and is raised here.
    Raises ``CheckpointError`` with llama.cpp's own words, and ``WrongUsageError`` for layers that cannot be meant.
    """
    lib = library()
    layers = _gpu_layers(lib, n_gpu_layers)
    refuse_what_ends_the_process(path)
    progress = Progress(on_progress)
    progress.report(0.0)
    parameters = lib.llama_model_default_params()
    set_fields(
        parameters,
        n_gpu_layers=layers,
        load_mode=_LOAD_MODES[use_mmap, use_mlock],
        progress_callback=lib.llama_progress_callback(_into_c(progress)),
    )
    complaints.clear()
    # The structure, and so the callback in it, lives until the call is over; llama.cpp does not call it later.
    model = lib.llama_model_load_from_file(os.fsencode(path), parameters)
    if progress.raised is not None:
        if model is not None:
            lib.llama_model_free(model)
        raise progress.raised
    if model is None:
        raise _not_loaded(path, " ".join(complaints) or "llama_model_load_from_file")
    try:
        progress.report(1.0)
    except BaseException:
        lib.llama_model_free(model)
        raise
    return model


def refuse_what_ends_the_process(path: Path) -> None:
    """Raise ``CheckpointError`` for what llama.cpp asserts where others refuse.

    An assertion that fails is the end of the whole process, and a few damaged bytes suffice. They stand in
    llama.cpp's ``llama-model.cpp`` and ``llama-vocab.cpp``.
    """
    header = read_gguf_header(path, arrays=(_TOKENS,))
    values = header.values
    layers = values.get("llama.block_count")
    # As llama.cpp reads them: a piece ends at its first NUL, and an empty one is given a name.
    read = (str(text).partition("\0")[0] for text in header.arrays.get(_TOKENS, []))
    tokens = [text or f"[EMPTY_{index}]" for index, text in enumerate(read)]
    strange = next(
        (
            key
            for key in (*values, *header.lengths)
            if (key in _NOT_OF_LLAMA and values.get(key) != 0) or (key in header.lengths and key.startswith("llama."))
        ),
        None,
    )
    if values.get("general.architecture") != "llama":
        reason = f"general.architecture = {values.get('general.architecture')}"
    elif not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        reason = f"llama.block_count = {layers}"
    elif strange is not None:
        reason = strange
    elif values.get("llama.rope.scaling.type", "none") not in ("none", "linear", "yarn"):
        reason = f"llama.rope.scaling.type = {values['llama.rope.scaling.type']}"
    elif values.get("tokenizer.ggml.model") not in ("llama", "gpt2"):
        reason = f"tokenizer.ggml.model = {values.get('tokenizer.ggml.model')}"
    elif len(set(tokens)) != len(tokens):
        reason = f"{_TOKENS}: {len(tokens) - len(set(tokens))} stand twice"
    else:
        return
    raise _not_loaded(path, reason)


def _not_loaded(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        Words(zh=f"llama.cpp 无法加载 {path}：{reason}", en=f"llama.cpp cannot load {path}: {reason}"),
        hint=Words(
            zh="请重新下载该文件；若格式较旧，请用 llama.cpp 重新转换。",
            en="Fetch the file again; if its format is old, convert it again with llama.cpp.",
        ),
    )


def load_adapter(lib: Any, model: Any, path: Path) -> Any:
    """The LoRA adapter in the GGUF file at ``path``, over ``model``, which frees it when it is freed itself.

    Raises ``CheckpointError`` for what is no adapter, or one for another model. Loading does not
    apply it: see ``set_adapters``.
    """
    adapter = read_adapter(path)  # llama.cpp ends the process at a setting of the wrong type
    if adapter.format != "gguf":
        raise CheckpointError(
            Words(zh=f"{path} 不是 GGUF 适配器。", en=f"{path} is no GGUF adapter."),
            hint=Words(
                zh="请用 llama.cpp 的 convert_lora_to_gguf.py 转换它。",
                en="Convert it with llama.cpp's convert_lora_to_gguf.py.",
            ),
        )
    complaints.clear()
    loaded = lib.llama_adapter_lora_init(model, os.fsencode(adapter.path))
    if not loaded:
        reason = " ".join(complaints) or "llama_adapter_lora_init"
        raise CheckpointError(
            Words(
                zh=f"llama.cpp 无法加载 LoRA {path}：{reason}", en=f"llama.cpp cannot load the LoRA {path}: {reason}"
            ),
            hint=Words(
                zh="请用在训练它的基座上，或重新下载该文件。",
                en="Apply it to the model that it was trained over, or fetch the file again.",
            ),
        )
    return loaded


def set_adapters(lib: Any, context: Any, adapters: Sequence[Any], *, scale: float = 1.0) -> None:
    """Apply ``adapters`` (of the context's own model), and no others, to what ``context`` evaluates from now on.

    Keys and values that the context holds already were computed without them: set them before the first token.
    """
    count = len(adapters)
    pointers = (lib.llama_adapter_lora_p_ctypes * count)(*adapters)
    scales = (ctypes.c_float * count)(*[scale] * count)
    status = lib.llama_set_adapters_lora(context, pointers, count, scales)
    if status != 0:
        raise ModelError(
            Words(zh=f"llama.cpp 无法应用 LoRA（代码 {status}）。", en=f"llama.cpp cannot apply the LoRA ({status})."),
            hint=Words(zh="请先把它合并进权重。", en="Merge it into the weights."),
        )


def _into_c(progress: Progress) -> Callable[[float, Any], bool]:
    """llama.cpp's progress callback: no exception may go through C, and ``False`` ends the loading."""

    def report(done: float, _user_data: Any) -> bool:
        with suppress(BaseException):  # Progress keeps it; Ctrl-C as well
            progress.report(min(done, 1.0))
        return progress.raised is None

    return report


def _gpu_layers(lib: Any, wanted: int) -> int:
    if type(wanted) is not int or not -1 <= wanted <= _ALL_LAYERS:
        raise WrongUsageError(
            Words(zh=f"n_gpu_layers 不能是 {wanted}。", en=f"n_gpu_layers cannot be {wanted}."),
            hint=Words(
                zh="用 0（不用 GPU）、层数，或 -1（全部）。", en="Use 0 (no GPU), a number of layers, or -1 (all)."
            ),
        )
    if wanted > 0 and not lib.llama_supports_gpu_offload():
        raise WrongUsageError(
            Words(
                zh=f"n_gpu_layers 为 {wanted}，但这里的 llama.cpp 没有编译 GPU 支持。",
                en=f"n_gpu_layers is {wanted}, but llama.cpp was built without a GPU here.",
            ),
            hint=Words(
                zh="请用 n_gpu_layers=0，或重新编译：CMAKE_ARGS=-DGGML_CUDA=on "
                "pip install --force-reinstall --no-binary :all: llama-cpp-python",
                en="Use n_gpu_layers=0, or build it anew: CMAKE_ARGS=-DGGML_CUDA=on "
                "pip install --force-reinstall --no-binary :all: llama-cpp-python",
            ),
        )
    return _ALL_LAYERS if wanted == -1 else wanted


def _log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if not line:
        return
    if _LOG_LEVELS.get(level, 0) >= logging.WARNING:
        complaints.add(line)
    # Room is then made and it is tried again.
    expected = _NO_ROOM in line
    _logger.log(logging.DEBUG if expected else _LOG_LEVELS.get(level, logging.DEBUG), line)
