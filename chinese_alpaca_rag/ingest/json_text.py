"""JSON and JSON lines: names and values as lines, lists of like records as tables.

Trees are walked without recursion over our own stack, and numbers are kept as they are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.decoding import Decoded, decode
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.tables import table_lines
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_MOST_COLUMNS = 50
_NAMED = 20  # damaged lines that are named one by one


def read_json(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """A JSON file as one page; one that holds a document a line is read as such."""
    decoded = decode(data, encoding=encoding)
    try:
        value = _loads(decoded.text)
    except (ValueError, RecursionError) as error:
        if len(decoded.text.split("\n")) > 1 and _is_value(decoded.text.lstrip().split("\n", 1)[0]):
            return _lines_document(decoded, name)
        raise damaged("JSON", str(error)[:200]) from None
    return _document("json", name, decoded, list(_lines(value)))


def read_json_lines(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """JSON lines: records of the same names as a table, others a block each. Lines that are no JSON are named."""
    return _lines_document(decode(data, encoding=encoding), name)


def _lines_document(decoded: Decoded, name: str) -> ParsedDocument:
    records: list[Any] = []
    wrong: list[int] = []
    for number, line in enumerate(decoded.text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(_loads(line))
            except (ValueError, RecursionError):
                wrong.append(number)
    if not records:
        raise damaged("JSON")
    missing = ""
    if wrong:
        listed = ", ".join(map(str, wrong[:_NAMED])) + ("…" if len(wrong) > _NAMED else "")
        missing = str(
            Words(
                zh=f"{len(wrong)} 行不是 JSON，没有收入：第 {listed} 行。",
                en=f"Left out, as no JSON: {len(wrong)} lines ({listed}).",
            )
        )
    return _document("jsonl", name, decoded, list(_lines(records)), missing)


def _document(kind: str, name: str, decoded: Decoded, lines: list[str], missing: str = "") -> ParsedDocument:
    text = clean_page("\n".join(lines))
    if not text.strip():
        raise without_text()
    return ParsedDocument(
        format=kind, title=name, pages=(Page(1, text),), encoding=decoded.encoding, missing=missing,
        confidence=decoded.confidence,
    )  # fmt: skip


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str, strict=False)


def _is_value(line: str) -> bool:
    try:
        _loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(value: Any) -> Iterator[str]:
    """Depth first, in the document's order; a line names its value by the path to it."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict) and node:
            stack += reversed([(f"{path}.{key}" if path else str(key), one) for key, one in node.items()])
            if not path.count("."):
                yield ""
        elif isinstance(node, list) and (rows := _table(node)):
            yield from ["", *([f"{path}："] if path else []), *table_lines(rows, header_rows=1), ""]
        elif isinstance(node, list) and node:
            if all(not isinstance(one, dict | list) for one in node):
                yield from _named(path, "；".join(_shown(one) for one in node))
            else:
                stack += reversed([(path, one) for one in node])
        elif not isinstance(node, dict | list):
            yield from _named(path, _shown(node))


def _named(path: str, text: str) -> Iterator[str]:
    if text.strip():
        yield f"{path}：{text}" if path else text


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _table(records: list[Any]) -> list[list[str]]:
    """The rows of a list of flat objects that have names in common, header first; none for any other list."""
    if len(records) < 2 or not all(isinstance(one, dict) and one for one in records):
        return []
    names = list(dict.fromkeys(name for one in records for name in one))
    filled = sum(len(one) for one in records)
    if len(names) > _MOST_COLUMNS or filled < 0.5 * len(names) * len(records):
        return []
    if any(isinstance(value, dict | list) for one in records for value in one.values()):
        return []
    return [names, *([_shown(one.get(name)) for name in names] for one in records)]
