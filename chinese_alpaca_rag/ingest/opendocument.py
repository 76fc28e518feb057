"""OpenDocument text, sheets and slides (.odt, .ods, .odp): headings, paragraphs, lists, tables, notes.

The XML is read by expat as a stream of events, with no entities and no recursion. After: Open Document Format for
Office Applications, version 1.3, part 3, OASIS.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from xml.parsers import expat

from chinese_alpaca_rag.ingest.archive import checked_archive
from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.hidden import hidden_words, told_hidden
from chinese_alpaca_rag.ingest.refusals import damaged, encrypted, without_text
from chinese_alpaca_rag.ingest.tables import table_lines
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, PageKind, ParsedDocument

_KINDS: dict[str, tuple[str, PageKind]] = {
    "text": ("odt", "whole"),
    "spreadsheet": ("ods", "sheet"),
    "presentation": ("odp", "slide"),
}
_MIME = "application/vnd.oasis.opendocument."
# Prefixes as the format's own programs write them, by namespace.
_PREFIXES = {
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": "text",
    "urn:oasis:names:tc:opendocument:xmlns:table:1.0": "table",
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office",
    "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0": "draw",
    "urn:oasis:names:tc:opendocument:xmlns:presentation:1.0": "presentation",
    "urn:oasis:names:tc:opendocument:xmlns:style:1.0": "style",
    "urn:oasis:names:tc:opendocument:xmlns:meta:1.0": "meta",
    "http://purl.org/dc/elements/1.1/": "dc",
}
_SKIPPED = frozenset(
    ("text:tracked-changes", "office:annotation", "text:note-citation", "office:binary-data", "table:shapes",
     "text:table-of-content-source", "text:sequence-decls", "text:variable-decls", "text:user-field-decls",
     "office:forms", "office:event-listeners", "table:tracked-changes", "style:header-footer-properties")
)  # fmt: skip
_HIDDEN = frozenset(("text:hidden-text", "text:hidden-paragraph"))
_MOST_REPEATED = 50  # cells or rows that one element may stand for
_MOST_SPACES = 100
_VALUES = ("office:string-value", "office:value", "office:date-value", "office:time-value", "office:boolean-value")


def opendocument_format(data: bytes) -> str:
    """The format "odt", "ods" or "odp" by the archive's own word, "" for any other."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("mimetype") as entry:
            stated = entry.read(100).decode("ascii", "replace").strip()
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, NotImplementedError, RuntimeError):
        return ""
    kind = stated.removeprefix(_MIME).removesuffix("-template") if stated.startswith(_MIME) else ""
    return _KINDS.get(kind, ("", ""))[0]


def read_opendocument(data: bytes, name: str) -> ParsedDocument:
    """An OpenDocument file: text as one page, each sheet and each slide as a page with its name.

    Deleted text under change tracking and comments are left out; hidden text too, which ``hidden`` tells.
    DocumentRefusedError for a file that is encrypted, damaged, or without text.
    """
    label = "OpenDocument"
    with checked_archive(data, label) as archive:
        names = set(archive.namelist())
        if "META-INF/manifest.xml" in names and b":encryption-data" in archive.read("META-INF/manifest.xml"):
            raise encrypted(label)
        if "content.xml" not in names:
            raise damaged(label, "content.xml is not there")
        kind = opendocument_format(data) or "odt"
        hidden_styles = _hidden_styles(archive.read("content.xml"))
        if "styles.xml" in names:
            hidden_styles |= _hidden_styles(archive.read("styles.xml"))
        reader = _Content(hidden_styles)
        _parse(archive.read("content.xml"), reader)
        title = _stated_title(archive.read("meta.xml")) if "meta.xml" in names else ""
    reader.end_page("")
    texts = [(page_label, clean_page("\n".join(lines))) for page_label, lines in reader.pages]
    page_kind = next(page for word, page in _KINDS.values() if word == kind)
    if page_kind == "whole":
        texts = [("", clean_page("\n".join(text for _, text in texts)))]
    pages = tuple(Page(number, text, page_label) for number, (page_label, text) in enumerate(texts, start=1))
    if not any(page.text.strip() for page in pages):
        raise without_text(hidden_words(reader.hidden_characters) if reader.hidden_characters else None)
    return ParsedDocument(
        format=kind, title=own_title(title, reader.title) or name, pages=pages, page_kind=page_kind,
        hidden=told_hidden(reader.hidden_characters), missing=_shortened(reader.shortened),
    )  # fmt: skip


def _shortened(count: int) -> str:
    if not count:
        return ""
    return str(
        Words(
            zh=f"没有收入：{count} 个重复的单元格或行（同样的内容只写 {_MOST_REPEATED} 次）。",
            en=f"Left out: {count} repeated cells or rows (the same content is written {_MOST_REPEATED} times).",
        )
    )


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    row: list[str] = field(default_factory=list)
    repeated: int = 1
    cell: list[str] = field(default_factory=list)
    value: str = ""
    columns: int = 1
    header: int | None = None


@dataclass
class _Content:
    """The handler of content.xml's events. ``depth`` counts elements inside one that is skipped."""

    hidden_styles: frozenset[str]
    pages: list[tuple[str, list[str]]] = field(default_factory=list)
    title: str = ""
    hidden_characters: int = 0
    lines: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    tables: list[_Table] = field(default_factory=list)
    lists: int = 0
    skipped: int = 0
    hiding: list[bool] = field(default_factory=list)
    page_name: str = ""
    hides_paragraph: bool = False
    shortened: int = 0
    sheets: bool = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.skipped or tag in _SKIPPED:
            self.skipped += 1
            return
        style = attributes.get("text:style-name") or attributes.get("table:style-name", "")
        hides = style in self.hidden_styles or self._is_hidden(tag, attributes)
        self.hiding.append(hides or (bool(self.hiding) and self.hiding[-1]))
        if tag in ("text:p", "text:h"):
            if self.line and self.levels and not self.line[-1].endswith(("（注：", "\n")):
                self.line.append("\n")
            self.levels.append(_number(attributes, "text:outline-level", 1) if tag == "text:h" else 0)
        elif tag == "text:s":
            self.characters(" " * min(_number(attributes, "text:c", 1), _MOST_SPACES))
        elif tag in ("text:tab", "text:line-break"):
            self.characters("\t" if tag == "text:tab" else "\n")
        elif tag == "text:list":
            self.lists += 1
        elif tag == "text:note":
            self.characters("（注：")
        else:
            self._structure(tag, attributes)

    def _is_hidden(self, tag: str, attributes: dict[str, str]) -> bool:
        if tag == "text:hidden-paragraph" and attributes.get("text:is-hidden", "true") != "false":
            self.hides_paragraph = True  # it stands somewhere inside the paragraph that it hides
        if tag in _HIDDEN:
            return attributes.get("text:is-hidden", "true") != "false"
        if tag == "text:section":
            return attributes.get("text:display", "true") in ("none", "condition")
        return attributes.get("table:visibility") == "collapse"

    def _structure(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "table:table":
            if not self.tables:
                self.page_name = attributes.get("table:name", "")
            self.tables.append(_Table())
        elif tag == "table:table-row" and self.tables:
            self.tables[-1].row = []
            self.tables[-1].repeated = _number(attributes, "table:number-rows-repeated", 1)
        elif tag in ("table:table-cell", "table:covered-table-cell") and self.tables:
            self.tables[-1].cell = []
            self.tables[-1].value = next((attributes[key] for key in _VALUES if attributes.get(key)), "")
            self.tables[-1].columns = _number(attributes, "table:number-columns-repeated", 1)
        elif tag == "draw:page":
            self.page_name = attributes.get("draw:name", "")
        elif tag == "presentation:notes":
            self.add_line("备注：")

    def end(self, tag: str) -> None:
        if self.skipped:
            self.skipped -= 1
            return
        self.hiding.pop()
        if tag in ("text:p", "text:h"):
            self._end_paragraph()
        elif tag == "text:list":
            self.lists -= 1
        elif tag == "text:note":
            while self.line and self.line[-1] == "\n":
                self.line.pop()
            self.characters("）")
        elif self.tables and tag.startswith("table:"):
            self._end_table_part(tag)
        elif tag == "draw:page":
            self.end_page(self.page_name, blank=True)

    def _end_table_part(self, tag: str) -> None:
        table = self.tables[-1]
        if tag in ("table:table-cell", "table:covered-table-cell"):
            # What a program shows of a value is in paragraphs; other software may write the value alone.
            hides = bool(self.hiding and self.hiding[-1])
            text = " ".join(part for part in table.cell if part) or ("" if hides else table.value)
            if text and table.columns > _MOST_REPEATED:
                self.shortened += table.columns - _MOST_REPEATED
            table.row += [text] * (min(table.columns, _MOST_REPEATED) if text else min(table.columns, 1_000))
        elif tag == "table:table-row":
            while table.row and not table.row[-1]:
                table.row.pop()
            if table.row and table.repeated > _MOST_REPEATED:
                self.shortened += table.repeated - _MOST_REPEATED
            table.rows += [table.row] * (min(table.repeated, _MOST_REPEATED) if table.row else 0)
        elif tag == "table:table-header-rows":
            table.header = len(table.rows)
        elif tag == "table:table":
            self._end_table()

    def _end_paragraph(self) -> None:
        level = self.levels.pop() if self.levels else 0
        if self.levels:  # inside another paragraph, as in a note or a frame
            self.line.append("\n")
            return
        text = "".join(self.line).strip()
        self.line.clear()
        if self.hides_paragraph:
            self.hides_paragraph = False
            self.hidden_characters += len("".join(text.split()))
            return
        if self.tables:
            self.tables[-1].cell.append(" ".join(text.split("\n")))
        elif text and level:
            self.title = self.title or text
            self.add_line("", f"{'#' * min(level, 6)} {' '.join(text.split())}")
        elif text:
            self.add_line(f"- {text}" if self.lists else text)

    def _end_table(self) -> None:
        table = self.tables.pop()
        if self.tables:
            self.tables[-1].cell += ["；".join(filter(None, row)) for row in table.rows]
            return
        self.add_line("", *table_lines(table.rows, header_rows=table.header), "")
        if self.sheets:
            self.end_page(self.page_name, blank=True)

    def add_line(self, *lines: str) -> None:
        self.lines += lines

    def end_page(self, label: str, *, blank: bool = False) -> None:
        if blank or any(self.lines):
            self.pages.append((label, self.lines))
        self.lines = []

    def characters(self, text: str) -> None:
        if self.skipped or not self.levels:
            return
        if self.hiding and self.hiding[-1]:
            self.hidden_characters += len("".join(text.split()))
        else:
            self.line.append(text)


def _parse(xml: bytes, handler: _Content) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        tag = _prefixed(name)
        if tag == "office:spreadsheet":
            handler.sheets = True
        handler.start(tag, {_prefixed(key): value for key, value in attributes.items()})

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: handler.end(_prefixed(name))
    parser.CharacterDataHandler = handler.characters
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise damaged("OpenDocument", str(error)) from None


def _prefixed(name: str) -> str:
    namespace, _, local = name.rpartition(" ")
    return f"{_PREFIXES.get(namespace, namespace)}:{local}" if namespace else local


def _number(attributes: dict[str, str], name: str, default: int) -> int:
    value = attributes.get(name, "")
    return max(0, int(value)) if value.isascii() and value.isdigit() and len(value) < 9 else default


def _hidden_styles(xml: bytes) -> frozenset[str]:
    """The names of styles whose text, or whose sheet, is not shown."""
    found: set[str] = set()
    current = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal current
        tag = _prefixed(name)
        known = {_prefixed(key): value for key, value in attributes.items()}
        if tag == "style:style":
            current = known.get("style:name", "")
        unseen = tag == "style:text-properties" and known.get("text:display") == "none"
        if current and (unseen or (tag == "style:table-properties" and known.get("table:display") == "false")):
            found.add(current)

    def end(name: str) -> None:
        nonlocal current
        if _prefixed(name) == "style:style":
            current = ""

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(xml, True)
    except expat.ExpatError:
        return frozenset()
    return frozenset(found)


def _stated_title(xml: bytes) -> str:
    pieces: list[str] = []
    inside = False

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal inside
        inside = _prefixed(name) == "dc:title"

    def end(_: str) -> None:
        nonlocal inside
        inside = False

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: pieces.append(text) if inside else None
    try:
        parser.Parse(xml, True)
    except expat.ExpatError:
        return ""
    return "".join(pieces)
