"""``alpaca-rag cache``: the beginnings of prompts that are kept on disk, and how much of it they may take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chinese_alpaca_rag.cli.memory import in_bytes, parse_bytes
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import one_line
from chinese_alpaca_rag.errors import AlpacaRagError, WrongUsageError
from chinese_alpaca_rag.labels import read_label
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.settings import Settings

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.prefix_store import PrefixEntry, PrefixStore

#: So many beginnings are listed, those last used first; the JSON document has them all.
ENTRIES_SHOWN = 30
DOCUMENTS_SHOWN = 3
#: No block of any model is smaller; whoever writes ``20`` means 20G.
LEAST_LIMIT = 1 << 20


def list_prefixes(session: Session) -> int:
    """Print what is kept, with its size and the documents that it is from."""
    store = open_store(session.settings)
    entries, usage = store.entries(), store.usage()
    _complain(store)
    output = session.output
    if output.as_json:
        output.document(
            {
                "folder": str(store.folder),
                "bytes": usage.bytes,
                "limit": usage.limit,
                "entries": [_as_json(entry) for entry in entries],
            }
        )
        return 0
    if entries:
        columns = [
            Words(zh="模型", en="model"),
            Words(zh="KV", en="KV"),
            Words(zh="窗口", en="window"),
            Words(zh="词元", en="tokens"),
            Words(zh="大小", en="size"),
            Words(zh="最近使用", en="last used"),
            Words(zh="文档", en="documents"),
        ]
        output.table(list(map(str, columns)), [_row(entry) for entry in entries[:ENTRIES_SHOWN]], right=(2, 3, 4))
    more = len(entries) - ENTRIES_SHOWN
    if more > 0:
        output.line(
            Words(zh=f"……另有 {more} 个（--json 列出全部）", en=f"… and {more} more (--json lists all)").text(), "dim"
        )
    output.line(total(usage.bytes, usage.limit).text(), "bold")
    output.note(f"{Words(zh='文件夹：', en='Folder: ')}{shown_path(store.folder)}", "dim")
    if not session.settings.prefixes:
        output.note(_switched_off(session.settings).text(), "yellow")
    return 0


def clear_prefixes(session: Session, document: Path | None) -> int:
    """Remove what is kept: all, that of the model named on the command line, or what is from ``document``."""
    store = open_store(session.settings)
    # The model that is set for good says nothing about what to remove.
    model = session.settings.model if session.settings.origins.get("model") == "--model" else None
    if model is not None and document is not None:
        raise WrongUsageError(
            Words(zh="--model 和 --document 不能一起用。", en="--model and --document do not go together."),
            hint=Words(zh="请分两次运行。", en="Run the command twice."),
        )
    before = store.usage()
    if document is not None:
        store.forget_documents(_is_from(document))
    elif model is not None:
        store.clear(model=_kept_name(model, {entry.model for entry in store.entries()}))
    else:
        store.clear()
    # Which sources stood in prompts that are not kept any more is of no use.
    shutil.rmtree(session.settings.packing_folder, ignore_errors=True)
    _complain(store)
    after = store.usage()
    removed = max(0, before.bytes - after.bytes)
    if session.output.as_json:
        session.output.document({"removed": removed, "bytes": after.bytes, "limit": after.limit})
        return 0
    words = Words(zh=f"删除了 {in_bytes(removed)}。", en=f"{in_bytes(removed)} removed.")
    if not removed:
        words = Words(zh="没有可删除的。", en="There was nothing to remove.")
    session.output.line(words.text())
    session.output.line(total(after.bytes, after.limit).text(), "dim")
    return 0


def limit_prefixes(session: Session, size: str | None) -> int:
    """Show how many bytes may be kept, or set it to what ``size`` says."""
    store = open_store(session.settings)
    if size is not None:
        store.set_limit(_limit(size))
    usage = store.usage()
    _complain(store)
    if session.output.as_json:
        session.output.document({"folder": str(store.folder), "bytes": usage.bytes, "limit": usage.limit})
        return 0
    session.output.line(total(usage.bytes, usage.limit).text())
    return 0


def open_store(settings: Settings) -> PrefixStore:
    """The store that the settings name; it need not be there."""
    from chinese_alpaca_rag.llms.prefix_store import PrefixStore

    return PrefixStore(settings.prefix_folder)


def _complain(store: PrefixStore) -> None:
    """Raise where the store could not be looked at, or something stayed that was to be removed."""
    if store.problem is not None:
        raise AlpacaRagError(
            store.problem,
            hint=Words(
                zh="ALPACA_RAG_CACHE 或设置里的 cache 可以指定另一个文件夹。",
                en="ALPACA_RAG_CACHE, or cache in the settings, names another folder.",
            ),
        )


def total(size: int, limit: int) -> Words:
    """How many bytes are kept, of how many at most."""
    if not limit:
        return Words(zh=f"占用 {in_bytes(size)}，上限 0（不保留）", en=f"{in_bytes(size)}, limit 0 (nothing is kept)")
    return Words(
        zh=f"占用 {in_bytes(size)}，上限 {in_bytes(limit)}", en=f"{in_bytes(size)} of at most {in_bytes(limit)}"
    )


def _switched_off(settings: Settings) -> Words:
    place = settings.origins.get("prefixes", "")
    return Words(zh=f"现在不使用（{place}）。", en=f"Not in use ({place}).")


def _row(entry: PrefixEntry) -> list[str]:
    return [
        one_line(entry.model),
        one_line(entry.kv_type),
        f"{entry.window:,}",
        f"{entry.tokens:,}",
        in_bytes(entry.bytes),
        entry.last_used.astimezone().strftime("%Y-%m-%d %H:%M"),
        _documents(entry.labels),
    ]


def _documents(labels: Iterable[str]) -> str:
    """The documents of a beginning, each once, the first of them by name."""
    names = list(dict.fromkeys(filter(None, map(_name, labels))))
    shown = [one_line(name) for name in names[:DOCUMENTS_SHOWN]]
    more = len(names) - DOCUMENTS_SHOWN
    if more > 0:
        shown.append(Words(zh=f"另 {more} 个", en=f"{more} more").text())
    return Words(zh="，", en=", ").text().join(shown)


def _name(label: str) -> str:
    """A library's document is named by its path, any other by its label."""
    read = read_label(label)
    name = read[1] if read else label
    return shown_path(name) if Path(name).is_absolute() else name


def _as_json(entry: PrefixEntry) -> dict[str, Any]:
    return {
        "model": entry.model,
        "format": entry.format,
        "kv_type": entry.kv_type,
        "rope": entry.rope,
        "window": entry.window,
        "tokens": entry.tokens,
        "bytes": entry.bytes,
        "last_used": entry.last_used.isoformat(timespec="seconds"),
        "documents": [_document_json(label) for label in entry.labels],
    }


def _document_json(label: str) -> dict[str, str]:
    read = read_label(label)
    if read is None:
        return {"path": label}
    library, path, sha256 = read
    return {"path": path, "library": library, "sha256": sha256}


def _is_from(document: Path) -> Callable[[str], bool]:
    """Whether a label is of the file ``document`` or of one in that folder, which need not be there any more."""
    given = str(document)
    place = os.path.normpath(document.expanduser().absolute())
    within = place.rstrip(os.sep) + os.sep

    def wanted(label: str) -> bool:
        read = read_label(label)
        path = read[1] if read else label
        return path in (given, place) or path.startswith(within)

    return wanted


def _kept_name(model: str, kept: set[str]) -> str:
    """The name under which what ``model`` computed is kept: it may be given by name or as the path of its weights."""
    from chinese_alpaca_rag.family.catalogue import find_model

    if model in kept:
        return model
    path = Path(model).expanduser()
    if path.exists():
        from chinese_alpaca_rag.family.checkpoint import read_checkpoint

        return read_checkpoint(path).name
    return find_model(model).name


def _limit(size: str) -> int:
    limit = parse_bytes(size)
    if limit is None or 0 < limit < LEAST_LIMIT or limit >= 1 << 62:
        raise WrongUsageError(
            Words(zh=f"上限不能是“{one_line(size)}”。", en=f"The limit cannot be '{one_line(size)}'."),
            hint=Words(
                zh="请写大小和单位，例如 alpaca-rag cache limit 20G 或 500M；0 表示什么都不保留。",
                en="Write a size with its unit, such as alpaca-rag cache limit 20G, or 500M; 0 keeps nothing.",
            ),
        )
    return limit
