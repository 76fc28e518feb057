"""``alpaca-rag sources``: the files of the library."""

from __future__ import annotations

from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import FileRecord
from chinese_alpaca_rag.library.store import Library


def list_sources(session: Session) -> int:
    """Print every file of the library with what was read of it."""
    output = session.output
    with Library.open(session.settings.library, readonly=True) as library:
        files = library.files()
    if output.as_json:
        output.document({"files": [_as_json(file) for file in files]})
        return 0
    place = shown_path(session.settings.library)
    if not files:
        output.note(
            Words(
                zh=f"知识库 {place} 是空的。用 alpaca-rag ingest 路径… 读入文件。",
                en=f"The library {place} is empty. Read files with alpaca-rag ingest PATH…",
            ).text()
        )
        return 0
    columns = [
        Words(zh="文件", en="file"),
        Words(zh="标题", en="title"),
        Words(zh="格式", en="format"),
        Words(zh="编码", en="encoding"),
        Words(zh="页", en="pages"),
        Words(zh="段落", en="passages"),
        Words(zh="状态", en="status"),
    ]
    tagged = any(file.tags for file in files)
    if tagged:
        columns.append(Words(zh="标签", en="tags"))
    output.table(list(map(str, columns)), [_row(file, tagged=tagged) for file in files], right=(4, 5))
    passages = sum(file.passages for file in files)
    output.note(
        Words(
            zh=f"{len(files)} 个文件，{passages} 个段落 · {place}",
            en=f"{counted(len(files), 'file')}, {counted(passages, 'passage')} · {place}",
        ).text(),
        "dim",
    )
    return 0


def _as_json(file: FileRecord) -> dict[str, object]:
    return {
        "path": file.path,
        "sha256": file.sha256,
        "status": file.status,
        "pages": file.pages,
        "passages": file.passages,
        "tags": list(file.tags),
        "copies": list(file.copies),
    }


def _row(file: FileRecord, *, tagged: bool) -> list[str]:
    status = Words(zh="完整", en="complete")
    if file.status == "partial":
        status = Words(zh=f"不完整：{file.missing}", en=f"partial: {file.missing}")
    return [
        shown_path(file.path),
        file.title,
        file.format,
        file.encoding,
        str(file.pages),
        str(file.passages),
        str(status),
        *([", ".join(file.tags)] if tagged else []),
    ]
