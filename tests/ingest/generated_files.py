"""Many small Chinese files from a seed, and everything that a library holds of them, to compare two libraries by."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.library.care import check_library
from chinese_alpaca_rag.library.database import FILE_NAME
from chinese_alpaca_rag.library.store import Library

_WHO = ("员工", "部门经理", "财务科", "张老师", "供应商", "项目组", "值班人员", "Alice", "审计委员会", "新入职的同事")
_WHEN = ("每年三月", "季度末", "出差结束后", "二〇二四年", "签订合同之前", "下班以前", "2023年5月", "接到通知以后")
_WHAT = ("提交年度报告", "报销住宿费用", "检查消防设备", "更新客户资料", "参加安全培训", "核对库存数量", "签署保密协议")
_HOW = ("以书面形式", "通过内部系统", "在主管同意之后", "按照第十二条的规定", "最迟五个工作日以内", "用 Excel 表格")
QUERIES = ("报销住宿费用", "安全培训 张老师", "2023年5月", "第十二条", "Alice", "库存", "编号七", "保密协议的签署")
LONG_AGO = 1_600_000_000  # seconds: no generated file looks freshly written


def sentences(generator: random.Random, characters: int) -> str:
    """Sentences of at least ``characters`` characters in all, a paragraph after every fifth or so."""
    parts: list[str] = []
    length = 0
    while length < characters:
        who, when, what, how = (generator.choice(words) for words in (_WHO, _WHEN, _WHAT, _HOW))
        part = f"{who}应当{when}{how}{what}，编号{generator.randrange(10_000)}。" + "\n" * (generator.random() < 0.2)
        parts.append(part)
        length += len(part)
    return "".join(parts)


def write_files(folder: Path, count: int, *, seed: int = 1, characters: int = 300, marked: bool = True) -> list[Path]:
    """``count`` files, written long ago; where ``marked``, some are Markdown, HTML, or copies of the one before."""
    generator = random.Random(seed)
    paths = []
    text = ""
    for number in range(count):
        if not (marked and number % 30 == 12):
            text = sentences(generator, characters)
        suffix = "txt"
        if marked and number % 50 == 7:
            suffix, text = (
                "html",
                f"<title>网页{number}</title><h1>第{number}章</h1><p>" + text.replace("\n", "</p><p>"),
            )
        elif marked and number % 20 == 3:
            suffix, text = "md", f"# 第{number}章\n\n{text}\n## 附则\n\n{sentences(generator, 60)}"
        path = folder / f"{number % 7}" / f"{number:04}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(written(path, text, LONG_AGO + number))
    return paths


def written(path: Path, text: str, seconds: float) -> Path:
    """The file with that text and that time."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (seconds, seconds))
    return path


def holdings(library: Library) -> dict[str, Any]:
    """Everything in a library but ids and the time of ingestion: files, pages, passages, the index and its answers.

    The library is checked first, by its own check and by FTS5's.
    """
    assert check_library(library) == []
    files: list[dict[str, Any]] = []
    for record in library.files():
        row = asdict(record)
        for column in ("id", "ingested_at"):
            del row[column]
        files.append(row)
    pages = library._rows(
        "SELECT path, number, label, (SELECT group_concat(text, '') FROM"
        " (SELECT text FROM stretches WHERE page_id = pages.id ORDER BY start))"
        " FROM pages JOIN files ON files.id = file_id ORDER BY path, number"
    )
    passages = [
        (one.source, one.title, one.page, one.position, one.start, one.end, one.heading, one.text)
        for record in library.files()
        for one in library.passages(record.path)
    ]
    answers = {
        query: [(one.source, one.position, round(score, 6)) for one, score in library.search(query, limit=10)]
        for query in QUERIES
    }
    copies = sorted((copy.path, copy.file.path) for copy in library.copies())
    return {
        "files": files,
        "copies": copies,
        "pages": pages,
        "passages": passages,
        "answers": answers,
        "index": _index(library),
    }


def _index(library: Library) -> list[tuple[str, str, int, int]]:
    """Every term of the full-text index with its column, its passages and its occurrences, as FTS5 counts them."""
    with closing(sqlite3.connect(library.folder / FILE_NAME)) as connection:
        connection.execute("INSERT INTO passage_terms (passage_terms) VALUES ('integrity-check')")
        connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab ('main', 'passage_terms', 'col')")
        return connection.execute("SELECT term, col, doc, cnt FROM temp.terms ORDER BY term, col").fetchall()
