"""What ``alpaca-rag doctor`` looks at.

Nothing is loaded: packages are looked up, model files are read at their heads.
"""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from chinese_alpaca_rag.cli.check import Check, same, to_run
from chinese_alpaca_rag.cli.memory import in_bytes
from chinese_alpaca_rag.cli.model_checks import model_checks
from chinese_alpaca_rag.cli.packages import EXTRAS, REQUIRED, install, installed
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.search_model_checks import search_model_checks
from chinese_alpaca_rag.cli.text import counted
from chinese_alpaca_rag.cli.version import kit_version
from chinese_alpaca_rag.errors import AlpacaRagError, LibraryNotFoundError, MissingExtraError
from chinese_alpaca_rag.ingest.legacy import office_program
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.offline import ALLOW_TRACING, tracing_allowed
from chinese_alpaca_rag.settings import Settings

_PURPOSES = {
    "office": Words(zh="读 Excel 和有密码的 Office 文件", en="Excel, and Office files behind a password"),
    "unstructured": Words(zh="unstructured 自己的文档元素", en="unstructured's own elements of documents"),
    "ocr": Words(zh="读扫描的 PDF", en="scanned PDF files"),
    "endpoint": Words(
        zh="服务器上的模型、约束生成和 Llama-3", en="models at a server, constrained generation and Llama-3"
    ),
    "gguf": Words(zh="GGUF 模型", en="GGUF models"),
    "hf": Words(zh="transformers 模型", en="transformers models"),
    "cuda": Words(zh="NVIDIA GPU 上的 8 位和 4 位权重", en="8-bit and 4-bit weights on NVIDIA GPUs"),
    "dense": Words(zh="向量检索", en="dense retrieval"),
    "postgres": Words(zh="PostgreSQL 里的向量", en="vectors in PostgreSQL"),
    "server": Words(zh="网络服务", en="the server"),
}
_WEIGHTS = ("*.gguf", "*.safetensors")


def every_check(settings: Settings) -> Iterator[Check]:
    """All checks, in the order in which a person would look."""
    yield check_python()
    yield check_sqlite()
    yield check_packages()
    for extra, packages in EXTRAS.items():
        yield check_extra(extra, packages)
    yield check_libreoffice()
    yield check_settings(settings)
    yield check_library(settings)
    yield check_models_folder(settings)
    yield from search_model_checks(settings)
    yield check_prefixes(settings)
    yield check_memory()
    yield from model_checks(settings)
    yield check_privacy()


def check_python() -> Check:
    """The kit's own version and the interpreter's."""
    system = platform.platform(terse=True)
    detail = same(f"chinese-alpaca-rag {kit_version()} · Python {platform.python_version()} · {system}")
    return Check("python", Words(zh="版本", en="version"), "ok", detail)


def check_sqlite() -> Check:
    """Whether SQLite has the full-text search that the library is built on."""
    label, number = same("SQLite"), sqlite3.sqlite_version
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5 (text)")
    except sqlite3.Error as error:
        detail = Words(zh=f"{number}，没有 FTS5：{error}", en=f"{number} without FTS5: {error}")
        hint = Words(
            zh="请换用带 FTS5 的 Python，例如 python.org 的安装包。",
            en="Use a Python whose SQLite has FTS5, such as python.org's.",
        )
        return Check("sqlite", label, "problem", detail, hint)
    return Check("sqlite", label, "ok", same(f"{number} · FTS5"))


def check_packages() -> Check:
    """The packages without which nothing works."""
    found, missing = installed(REQUIRED)
    label = Words(zh="基本组件", en="packages")
    if not missing:
        return Check("packages", label, "ok", same(", ".join(found)))
    detail = Words(zh=f"缺少 {', '.join(missing)}", en=f"missing: {', '.join(missing)}")
    return Check("packages", label, "problem", detail, to_run("pip install chinese-alpaca-rag"))


def check_extra(extra: str, packages: tuple[str, ...]) -> Check:
    """One optional part: there, or how to get it."""
    found, missing = installed(packages)
    label = same(f"[{extra}]")
    if not missing:
        return Check(f"extra-{extra}", label, "ok", same(", ".join(found)))
    purpose, command = _PURPOSES[extra], install(extra)
    detail = Words(zh=f"未安装：{', '.join(missing)}", en=f"not installed: {', '.join(missing)}")
    hint = Words(zh=f"用于{purpose.zh}：{command}", en=f"For {purpose.en}: {command}")
    return Check(f"extra-{extra}", label, "hint", detail, hint)


def check_libreoffice() -> Check:
    """Whether Office files of 1997 to 2003 can be read."""
    program, label = office_program(), same("LibreOffice")
    if program is not None:
        return Check("libreoffice", label, "ok", same(program))
    detail = Words(zh="没有安装", en="not installed")
    hint = Words(zh="只有 .doc、.xls、.ppt 需要它。", en="Only .doc, .xls and .ppt files need it.")
    return Check("libreoffice", label, "hint", detail, hint)


def check_settings(settings: Settings) -> Check:
    """Which file the settings come from, and which of them come from elsewhere."""
    file = str(settings.file or "")
    others = sorted(place for key, place in settings.origins.items() if place != f"{file}: {key}")
    read = Words(zh=file or "没有设置文件", en=file or "no settings file")
    detail = Words(zh=" · ".join([read.zh, *others]), en=" · ".join([read.en, *others]))
    return Check("settings", Words(zh="设置", en="settings"), "ok", detail)


def check_library(settings: Settings) -> Check:
    """Whether the library opens, and what it holds."""
    from chinese_alpaca_rag.library.store import Library

    label, folder = Words(zh="知识库", en="library"), shown_path(settings.library)
    try:
        with Library.open(settings.library, readonly=True) as library:
            files, passages = library.files(), library.passage_count()
    except LibraryNotFoundError as error:
        return Check("library", label, "hint", Words(zh=f"{folder}：还没有", en=f"{folder}: none yet"), error.hint)
    except AlpacaRagError as error:
        return Check("library", label, "problem", error.message, error.hint)
    partial = sum(file.status == "partial" for file in files)
    zh, en = (
        f"{len(files)} 个文件 · {passages} 个段落",
        f"{counted(len(files), 'file')} · {counted(passages, 'passage')}",
    )
    if partial:
        zh, en = f"{zh} · {partial} 个文件不完整", f"{en} · {counted(partial, 'file')} partial"
    return Check("library", label, "ok", Words(zh=f"{folder} · {zh}", en=f"{folder} · {en}"))


def check_models_folder(settings: Settings) -> Check:
    """Where named models are looked for, and what lies there."""
    label, folder = Words(zh="模型文件夹", en="models folder"), settings.models
    place = shown_path(folder)
    files = [file for pattern in _WEIGHTS for file in folder.rglob(pattern)] if folder.is_dir() else []
    if files:
        return Check("models", label, "ok", same(f"{place} · {', '.join(_model_names(folder, files))}"))
    detail = Words(zh=f"{place}：没有模型", en=f"{place}: no model there")
    hint = Words(
        zh="alpaca-rag models show 名称 会说明怎样取得模型；没有模型也能提问，答案是原文摘录。",
        en="alpaca-rag models show NAME tells how to get one. Without one, answers are quotes from the documents.",
    )
    return Check("models", label, "hint", detail, hint)


def check_prefixes(settings: Settings) -> Check:
    """How much of what models have read is kept, and whether it can be."""
    label, folder = Words(zh="提示词缓存", en="prompt cache"), shown_path(settings.prefix_folder)
    if not settings.prefixes:
        place = settings.origins.get("prefixes", "")
        return Check("cache", label, "ok", Words(zh=f"不使用（{place}）", en=f"not in use ({place})"))
    from chinese_alpaca_rag.cli.cache import total
    from chinese_alpaca_rag.llms.prefix_store import PrefixStore

    store = PrefixStore(settings.prefix_folder)
    usage = store.usage()
    problem = store.problem
    if problem is None and not _can_be_written(settings.prefix_folder):
        problem = Words(zh=f"无法写入 {folder}", en=f"{folder} cannot be written")
    if problem is not None:
        hint = Words(
            zh="没有它也能回答，只是每次都从头读起。用 ALPACA_RAG_CACHE 可以换一个文件夹。",
            en="Answers come without it, read from the start each time. ALPACA_RAG_CACHE names another folder.",
        )
        return Check("cache", label, "hint", problem, hint)
    words = total(usage.bytes, usage.limit)
    return Check("cache", label, "ok", Words(zh=f"{folder} · {words.zh}", en=f"{folder} · {words.en}"))


def check_memory() -> Check:
    """How much memory there is."""
    from chinese_alpaca_rag.family.memory import available_memory

    try:
        free = available_memory()
    except MissingExtraError:  # named by the check of the packages
        free = None
    detail = Words(zh="未知", en="unknown") if free is None else same(in_bytes(free))
    return Check("memory", Words(zh="可用内存", en="free memory"), "ok", detail)


def check_privacy() -> Check:
    """Whether anything may leave the machine."""
    label = Words(zh="离线", en="offline")
    if not tracing_allowed():
        return Check("offline", label, "ok", Words(zh="不联网，不上报", en="nothing is fetched and nothing reported"))
    detail = Words(
        zh=f"{ALLOW_TRACING} 允许 LangChain 把问题和答案发送出去",
        en=f"{ALLOW_TRACING} lets LangChain send questions and answers away",
    )
    hint = Words(zh=f"不需要时请取消：unset {ALLOW_TRACING}", en=f"When it is not needed: unset {ALLOW_TRACING}")
    return Check("offline", label, "hint", detail, hint)


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or it where it is missing."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _model_names(folder: Path, files: list[Path]) -> list[str]:
    """What the models of the folder are called: a GGUF by its file, others by the folder of their shards."""
    places = {file if file.suffix == ".gguf" else file.parent for file in files}
    return sorted(str(place.relative_to(folder)) for place in places)
