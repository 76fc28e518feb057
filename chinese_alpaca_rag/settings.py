"""The settings of a user: defaults < file < ``ALPACA_RAG_*`` environment < arguments. Only the edges read them.

========== ======================== ==================================================================
key        environment              meaning, and the default
========== ======================== ==================================================================
library    ALPACA_RAG_LIBRARY       folder of the library: ``$XDG_DATA_HOME/chinese-alpaca-rag/library``
models     ALPACA_RAG_MODELS        folder of model files: ``$XDG_DATA_HOME/chinese-alpaca-rag/models``
model      ALPACA_RAG_MODEL         name or path of the model: ``extractive``
window     ALPACA_RAG_WINDOW        context window in tokens, or as 16K: the model's own
strategy   ALPACA_RAG_STRATEGY      ``auto``, ``stuff`` or ``map_reduce``: ``auto``
draft      ALPACA_RAG_DRAFT         name or path of a small model that drafts for it, or ``none``: none
kv_type    ALPACA_RAG_KV_TYPE       keys and values in ``f16``, ``q8_0`` or ``q4_0``, GGUF only: the model's own
embedding  ALPACA_RAG_EMBEDDING     folder of an embedding model, for search by meaning, or ``none``: none
reranker   ALPACA_RAG_RERANKER      folder of a cross-encoder that ranks what was found again, or ``none``: none
cache      ALPACA_RAG_CACHE         folder of what can be computed again: ``$XDG_CACHE_HOME/chinese-alpaca-rag``
prefixes   ALPACA_RAG_PREFIXES      whether prompts' beginnings are kept there, ``true`` or ``false``: ``true``
language   ALPACA_RAG_LANGUAGE      ``zh`` or ``en``: by the locale
========== ======================== ==================================================================

The file is ``$XDG_CONFIG_HOME/chinese-alpaca-rag/settings.toml`` or what ``ALPACA_RAG_SETTINGS`` names. A
relative path in it counts from its folder. An unknown key or variable is refused with the nearest name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.language import Language, Words, user_language

T = TypeVar("T")
Strategy = Literal["auto", "stuff", "map_reduce"]
KvType = Literal["f16", "q8_0", "q4_0"]

KEYS = (
    "library",
    "models",
    "model",
    "window",
    "strategy",
    "draft",
    "kv_type",
    "embedding",
    "reranker",
    "cache",
    "prefixes",
    "language",
)
PREFIX = "ALPACA_RAG_"
FILE_VARIABLE = "ALPACA_RAG_SETTINGS"
FOLDER = "chinese-alpaca-rag"
EXTRACTIVE = "extractive"

#: Variables of ours that are switches and no settings.
SWITCHES = (FILE_VARIABLE, "ALPACA_RAG_DEBUG", "ALPACA_RAG_ALLOW_TRACING")


@dataclass(frozen=True)
class Settings:
    """What the user has chosen. ``window`` is in tokens, None for the model's own; so is ``kv_type`` None.

    ``file`` is the settings file that was read, None without one; ``origins`` says of every key that is
    not at its default where its value came from: the file's path, the variable's name, or ``arguments``.
    """

    library: Path
    models: Path
    cache: Path
    model: str = EXTRACTIVE
    window: int | None = None
    strategy: Strategy = "auto"
    draft: str | None = None
    kv_type: KvType | None = None
    embedding: Path | None = None
    reranker: Path | None = None
    prefixes: bool = True
    language: Language = "en"
    file: Path | None = field(default=None, compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def packing_folder(self) -> Path:
        """Where it is kept which sources stood in earlier prompts: places and digests, one file a library."""
        return self.cache / "packings"

    @property
    def converted_folder(self) -> Path:
        """Where embedding models are kept in 8-bit integers."""
        return self.cache / "embedding-models"

    @property
    def prefix_folder(self) -> Path:
        """Where the beginnings of prompts are kept, whether or not they are used this time."""
        return self.cache / "prefixes"


@dataclass(frozen=True)
class _Given:
    """A value as the user wrote it, where it stands, and the folder from which a relative path counts."""

    value: object
    place: str
    folder: Path | None = None

    def complaint(self, *, zh: str, en: str) -> WrongUsageError:
        return WrongUsageError(
            Words(zh=f"{self.place} 的值 {self.value!r} 不可用。", en=f"{self.place} cannot be {self.value!r}."),
            hint=Words(zh=zh, en=en),
        )


def load_settings(
    arguments: Mapping[str, object] | None = None, *, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings that hold: each key of ``arguments`` that is not None wins over environment, file and default.

    Raises WrongUsageError for an unknown key, a value that cannot be meant, or a file that is no TOML.
    """
    variables = os.environ if environment is None else environment
    file = settings_file(variables)
    given = _from_file(file) if file else {}
    given |= _from_environment(variables)
    given |= {key: _Given(value, _option(key)) for key, value in (arguments or {}).items() if value is not None}
    data = data_folder(variables)

    def chosen(key: str, read: Callable[[_Given], T], default: T) -> T:
        return read(given[key]) if key in given else default

    return Settings(
        library=chosen("library", _read_path, data / "library"),
        models=chosen("models", _read_path, data / "models"),
        cache=chosen("cache", _read_path, _xdg_folder(variables, "XDG_CACHE_HOME", ".cache")),
        model=chosen("model", _read_model, EXTRACTIVE),
        window=chosen("window", _read_window, None),
        strategy=chosen("strategy", _read_strategy, "auto"),
        draft=chosen("draft", _read_draft, None),
        kv_type=chosen("kv_type", _read_kv_type, None),
        embedding=chosen("embedding", _read_folder, None),
        reranker=chosen("reranker", _read_folder, None),
        prefixes=chosen("prefixes", _read_switch, True),
        language=chosen("language", _read_language, user_language(variables)),
        file=file,
        origins={key: value.place for key, value in given.items()},
    )


def data_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder in which the library and the models lie by default, by the XDG base directory specification."""
    return _xdg_folder(os.environ if environment is None else environment, "XDG_DATA_HOME", ".local/share")


def settings_file(environment: Mapping[str, str] | None = None) -> Path | None:
    """The settings file, None where there is none; a file that is named but missing is a WrongUsageError."""
    variables = os.environ if environment is None else environment
    named = variables.get(FILE_VARIABLE, "").strip()
    if not named:
        file = _xdg_folder(variables, "XDG_CONFIG_HOME", ".config") / "settings.toml"
        return file if file.is_file() else None
    file = Path(named).expanduser().absolute()
    if not file.is_file():
        raise WrongUsageError(
            Words(zh=f"{FILE_VARIABLE} 指向的设置文件不存在：{file}", en=f"{FILE_VARIABLE} names no file: {file}"),
            hint=Words(
                zh=f"请更正路径，或取消这个变量：unset {FILE_VARIABLE}",
                en=f"Correct the path, or drop the variable: unset {FILE_VARIABLE}",
            ),
        )
    return file


def parse_window(text: str) -> int:
    """A window in tokens from ``16384``, ``16,384``, ``16K`` or ``16k`` (1K is 1,024 tokens).

    Raises WindowUnreachableError for anything that is no whole number of at least 1.
    """
    match = re.fullmatch(r"\+?(\d{1,12})\s*([kK]?)", text.strip().replace(",", "").replace("_", ""))
    window = int(match[1]) * (1024 if match[2] else 1) if match else 0
    if window < 1:
        raise WindowUnreachableError(
            Words(zh=f"窗口“{text}”不是一个可用的词元数。", en=f"A window of {text!r} is no number of tokens."),
            hint=Words(
                zh="窗口是不小于 1 的整数，例如 --window 16384 或 --window 16K；省略它则使用模型自己的窗口。",
                en="A window is a whole number from 1 up, such as --window 16384 or --window 16K; "
                "without it the model's own window is used.",
            ),
        )
    return window


def _option(key: str) -> str:
    """The command line's option for ``key``."""
    return "--no-cache" if key == "prefixes" else f"--{key.replace('_', '-')}"


def _xdg_folder(variables: Mapping[str, str], name: str, fallback: str) -> Path:
    # The specification: a relative path in these variables is invalid and has to be ignored.
    base = Path(variables.get(name, ""))
    home = Path(variables["HOME"]) if variables.get("HOME") else Path.home()
    return (base if base.is_absolute() else home / fallback) / FOLDER


def _from_file(file: Path) -> dict[str, _Given]:
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WrongUsageError(
            Words(zh=f"读不了设置文件 {file}：{error}", en=f"The settings file {file} cannot be read: {error}"),
            hint=Words(
                zh='它应是 UTF-8 编码的 TOML，每行一项，例如：model = "extractive"',
                en='It has to be TOML in UTF-8, one key a line, such as: model = "extractive"',
            ),
        ) from error
    for key in content:
        if key not in KEYS:
            raise _unknown(key, KEYS, Words(zh=f"设置文件 {file} 中", en=f"in the settings file {file}"))
    return {key: _Given(value, f"{file}: {key}", file.parent) for key, value in content.items()}


def _from_environment(variables: Mapping[str, str]) -> dict[str, _Given]:
    names = {PREFIX + key.upper(): key for key in KEYS}
    ours = {name: value for name, value in variables.items() if name.upper().startswith(PREFIX)}
    for name in ours:
        if name not in names and name not in SWITCHES:
            raise _unknown(name, (*names, *SWITCHES), Words(zh="环境变量中", en="in the environment"))
    return {names[name]: _Given(value, name) for name, value in ours.items() if name in names and value.strip()}


def _unknown(name: str, known: Sequence[str], place: Words) -> WrongUsageError:
    from difflib import get_close_matches

    nearest = get_close_matches(name.upper() if known[0].isupper() else name.lower(), known, n=1, cutoff=0.5)
    meant = Words(zh=f"您是否想写 {nearest[0]}？", en=f"Did you mean {nearest[0]}?") if nearest else Words(zh="", en="")
    return WrongUsageError(
        Words(zh=f"{place.zh}有未知的设置：{name}", en=f"Unknown setting {place.en}: {name}"),
        hint=Words(
            zh=f"{meant.zh}可用的有：{'、'.join(known)}", en=f"{meant.en} Known are: {', '.join(known)}".strip()
        ),
    )


def _read_path(given: _Given) -> Path:
    if not isinstance(given.value, str | Path) or not str(given.value).strip():
        raise given.complaint(zh="这里需要一个文件夹的路径。", en="The path of a folder is wanted here.")
    path = Path(given.value).expanduser()
    return path if path.is_absolute() else ((given.folder or Path.cwd()) / path)


def _read_folder(given: _Given) -> Path | None:
    return None if str(given.value).strip().lower() == "none" else _read_path(given)


def _read_model(given: _Given) -> str:
    if not isinstance(given.value, str) or not given.value.strip():
        raise given.complaint(
            zh="这里需要模型的名字或路径；运行 alpaca-rag models list 查看名字。",
            en="The name or path of a model is wanted here; alpaca-rag models list shows the names.",
        )
    name = given.value.strip()
    if name.lower() == EXTRACTIVE:
        return EXTRACTIVE
    beside = Path(name).expanduser()
    if given.folder and not beside.is_absolute() and (given.folder / beside).exists():
        return str(given.folder / beside)
    return str(beside) if name.startswith("~") else name


def _read_window(given: _Given) -> int | None:
    # A boolean is an int to Python, but `window = true` means nothing.
    return parse_window("" if isinstance(given.value, bool) else str(given.value))


def _read_strategy(given: _Given) -> Strategy:
    return _one_of(get_args(Strategy), given)


def _read_kv_type(given: _Given) -> KvType:
    return _one_of(get_args(KvType), given)


def _one_of(known: tuple[T, ...], given: _Given) -> T:
    for each in known:
        if given.value == each:
            return each
    names = tuple(map(str, known))
    raise given.complaint(zh=f"请选择其一：{'、'.join(names)}", en=f"Choose one of: {', '.join(names)}")


def _read_draft(given: _Given) -> str | None:
    name = _read_model(given)
    return None if name.lower() == "none" else name


def _read_switch(given: _Given) -> bool:
    # TOML has booleans; a variable of the environment is a word.
    written = str(given.value).strip().lower()
    if written in ("true", "yes", "on", "1"):
        return True
    if written in ("false", "no", "off", "0"):
        return False
    raise given.complaint(zh="请写 true 或 false。", en="Write true or false.")


def _read_language(given: _Given) -> Language:
    written = str(given.value).strip().lower()
    if re.fullmatch(r"(zh|en)([_.@-].*)?", written):
        return "zh" if written.startswith("zh") else "en"
    raise given.complaint(zh="请写 zh 或 en。", en="Write zh or en.")
