r"""RTF: words, headings by outline level, tables as rows.

Characters come in three ways: bytes in the code page of the font (two of them for a Chinese character, each written
``\'hh`` or as it is), ``\uN`` with a replacement to skip, and plain ASCII. The tokens are read one by one, with a
bounded stack for groups. After: "Rich Text Format Specification", version 1.9.1, Microsoft, 2008.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.hidden import hidden_words, told_hidden
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.tables import table_lines
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_DEEPEST = 2_000
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "big5hkscs",
    161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251",
    222: "cp874", 238: "cp1250", 255: "cp437",
}  # fmt: skip
_CODE_PAGES = {936: "gb18030", 950: "big5hkscs", 10000: "mac_roman", 65001: "utf-8", 708: "iso8859_6"}
# Destinations whose content is not part of the text.
_SKIPPED = frozenset(
    b"fonttbl colortbl listtable listoverridetable revtbl rsidtbl generator pict object objdata themedata "
    b"colorschememapping latentstyles datastore xmlnstbl filetbl fldinst bkmkstart bkmkend author operator company "
    b"keywords comment doccomm subject category manager hlinkbase creatim revtim printim buptim datafield nonshppict "
    b"atnid atnauthor atndate atnref pgptbl wgrffmtfilter pntext xe tc private".split()
)
# What runs along the edges of all pages: each text of it is kept once, where it begins to apply.
_MARGINS = frozenset(b"header headerl headerr headerf footer footerl footerr footerf".split())
_CHARACTERS = {
    b"tab": "\t", b"line": "\n", b"emdash": "—", b"endash": "–", b"lquote": "‘", b"rquote": "’", b"ldblquote": "“",
    b"rdblquote": "”", b"bullet": "•", b"emspace": " ", b"enspace": " ", b"qmspace": " ",
}  # fmt: skip
_PAGE_NUMBER = re.compile(r"[\s\d/|·—–-]*|第?\s*\d*\s*页.*|page\s*\d*(\s*of\s*\d*)?", re.IGNORECASE)
_PARAGRAPH = frozenset((b"par", b"sect", b"page", b"column"))


@dataclass(frozen=True)
class _State:
    r"""What a group inherits from the one around it; ``replacement`` characters follow each ``\u``."""

    skipped: bool = False
    title: bool = False
    fonts: bool = False
    styles: bool = False
    margin: bool = False
    hidden: bool = False
    deleted: bool = False
    font: int = -1
    replacement: int = 1


@dataclass
class _Text:
    """The text as it grows: lines, and the rows of a table that is open."""

    lines: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    in_table: bool = False
    level: int = 0

    def end_cell(self) -> None:
        self.cells.append(" ".join("".join(self.line).split("\n")).strip())
        self.line.clear()

    def end_row(self) -> None:
        if self.cells:
            self.rows.append(self.cells)
        self.cells = []

    def end_paragraph(self) -> None:
        if self.in_table:
            self.line.append("\n")
            return
        self.end_table()
        words = "".join(self.line).strip()
        self.line.clear()
        heading = f"{'#' * self.level} " if self.level and words and "\n" not in words and len(words) <= 120 else ""
        self.lines += ["", heading + words] if heading else [words]

    def end_table(self) -> None:
        self.end_row()
        if self.rows:
            self.lines += ["", *table_lines(self.rows), ""]
            self.rows = []


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.text = _Text()
        self.title: list[str] = []
        self.hidden = 0
        self._state = _State()
        self._stack: list[_State] = []
        self._bytes = bytearray()
        self._surrogate = 0
        self._skip = 0
        self._fonts: dict[int, str] = {}
        self._page = "cp1252"
        self._default_font = -1
        self._levels: dict[int, int] = {}  # styles that are headings
        self._style = -1
        self._margin: list[str] = []
        self._margins: set[str] = set()
        self.undecoded = 0
        self.is_cut = False
        self.behind = 0

    def read(self) -> None:
        position = 0
        starred = False
        while match := _TOKEN.match(self._data, position):
            position = match.end()
            word, number, code, symbol, brace, plain = match.groups()
            if word is not None:
                starred = self._word(word, number, starred=starred)
                if word == b"bin" and number:
                    position += max(0, int(number))
                    self.is_cut = self.is_cut or position > len(self._data)
            elif code is not None:
                self._byte(int(code, 16))
            elif symbol is not None:
                starred = symbol == b"*"
                self._symbol(symbol)
            elif brace is not None:
                starred = False
                if not self._brace(brace):
                    self.behind = len(self._data[position:].strip(b"\0\r\n \t}"))
                    return
            elif plain is not None:
                for byte in plain:
                    self._byte(byte)
        self._flush()
        self.is_cut = True  # the document's own group was never closed

    def _brace(self, brace: bytes) -> bool:
        """Open or close a group; False where the document's own group ends."""
        self._flush()
        if brace == b"{":
            if len(self._stack) >= _DEEPEST:
                raise damaged("RTF", f"more than {_DEEPEST} groups inside each other")
            self._stack.append(self._state)
            return True
        if self._stack:
            was_margin, self._state = self._state.margin, self._stack.pop()
            if was_margin and not self._state.margin:
                self._end_margin()
        return bool(self._stack)

    def _end_margin(self) -> None:
        text = " ".join("".join(self._margin).split())
        self._margin.clear()
        if text and text not in self._margins and not _PAGE_NUMBER.fullmatch(text):
            self._margins.add(text)
            self.text.lines.append(text)

    def _symbol(self, symbol: bytes) -> None:
        if symbol in b"\\{}":
            self._byte(symbol[0])
        elif symbol in b"\r\n":
            self._flush()
            self._paragraph()
        elif symbol in b"~_":
            self._characters("\xa0" if symbol == b"~" else "-")

    def _word(self, word: bytes, number: bytes | None, *, starred: bool) -> bool:
        value = int(number) if number else None
        if word == b"u" and value is not None:
            self._unicode(value & 0xFFFF)
            return False
        self._flush()
        if word == b"stylesheet":
            self._state = replace(self._state, skipped=True, styles=True)
        elif word in _MARGINS:
            self._state = replace(self._state, margin=True)
        elif word in _SKIPPED or (starred and word not in (b"fldrslt", b"shptxt")):
            self._state = replace(self._state, skipped=True, fonts=word == b"fonttbl")
        elif word in (b"title", b"info"):
            self._state = replace(self._state, skipped=word == b"info", title=word == b"title")
        elif word in _CHARACTERS:
            self._characters(_CHARACTERS[word])
        elif word in _PARAGRAPH:
            self._paragraph()
        else:
            self._property(word, value)
        return False

    def _property(self, word: bytes, value: int | None) -> None:
        state, on = self._state, value != 0
        if word == b"uc":
            self._state = replace(state, replacement=max(0, min(value if value is not None else 1, 100)))
        elif word == b"f" and value is not None:
            self._state = replace(state, font=value)
        elif word == b"fcharset" and value is not None and state.fonts:
            self._fonts[state.font] = _CHARSETS.get(value, "")
        elif word == b"deff" and value is not None:
            self._default_font = value
        elif word == b"ansicpg" and value is not None:
            self._page = _CODE_PAGES.get(value, f"cp{value}")
        elif word == b"s" and value is not None and state.styles:
            self._style = value
        elif word == b"outlinelevel" and value is not None and state.styles:
            self._levels[self._style] = value + 1
        elif word == b"v":
            self._state = replace(state, hidden=on)
        elif word == b"deleted":
            self._state = replace(state, deleted=on)
        elif word == b"plain":
            self._state = replace(state, hidden=False, font=-1)
        elif not state.skipped and not state.margin:
            self._layout(word, value)

    def _layout(self, word: bytes, value: int | None) -> None:
        if word == b"pard":
            self.text.in_table, self.text.level = False, 0
        elif word == b"intbl":
            self.text.in_table = True
        elif word in (b"cell", b"nestcell"):
            self.text.end_cell()
        elif word in (b"row", b"nestrow"):
            self.text.end_row()
        elif word == b"outlinelevel" and value is not None:
            self.text.level = value + 1 if 0 <= value <= 5 else 0
        elif word == b"s" and value is not None:
            level = self._levels.get(value, 0)
            self.text.level = level if level <= 6 else 0

    def _paragraph(self) -> None:
        if self._state.margin:
            self._margin.append("\n")
        elif not self._state.skipped:
            self.text.end_paragraph()

    def _byte(self, byte: int) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._bytes.append(byte)

    def _unicode(self, unit: int) -> None:
        self._flush(keep_surrogate=not self._bytes)
        if 0xD800 <= unit < 0xDC00:
            self._surrogate = unit
        elif 0xDC00 <= unit < 0xE000 and self._surrogate:
            self._characters(chr(0x10000 + ((self._surrogate - 0xD800) << 10) + unit - 0xDC00))
            self._surrogate = 0
        else:
            self._characters(chr(unit))
        self._skip = self._state.replacement

    def _flush(self, *, keep_surrogate: bool = False) -> None:
        """Turn the bytes collected into text, in the code page of the font that they are set in."""
        if not keep_surrogate:
            self._surrogate = 0
        self._skip = 0
        if not self._bytes:
            return
        data = bytes(self._bytes)
        self._bytes.clear()
        if self._state.skipped:
            return
        self._characters(data.decode("ascii") if data.isascii() else self._decoded(data))

    def _decoded(self, data: bytes) -> str:
        font = self._state.font if self._state.font >= 0 else self._default_font
        for codec in dict.fromkeys((self._fonts.get(font, ""), self._page)):
            try:
                if codec:
                    return data.decode(codec)
            except (UnicodeDecodeError, LookupError):
                continue
        self.undecoded += len(data)
        return "\ufffd"

    def _characters(self, text: str) -> None:
        state = self._state
        if state.title:
            self.title.append(text)
        elif state.hidden and not state.skipped:
            self.hidden += len(text.strip())
        elif not state.skipped and not state.deleted:
            (self._margin if state.margin else self.text.line).append(text)


def read_rtf(data: bytes, name: str) -> ParsedDocument:
    """An RTF file as one page; headers and footers once, hidden and deleted text not, which ``hidden`` tells."""
    if not data.lstrip()[:5].startswith(b"{\\rtf"):
        raise damaged("RTF")
    reader = _Reader(data.lstrip())
    reader.read()
    reader.text.in_table = False
    reader.text.end_paragraph()
    text = clean_page("\n".join(reader.text.lines))
    if not text.strip():
        raise without_text(hidden_words(reader.hidden) if reader.hidden else None)
    return ParsedDocument(
        format="rtf", title=own_title("".join(reader.title)) or name, pages=(Page(1, text),),
        missing=_missing(reader), hidden=told_hidden(reader.hidden),
    )  # fmt: skip


def _missing(reader: _Reader) -> str:
    told: list[Words] = []
    if reader.undecoded:
        count = reader.undecoded
        told.append(
            Words(
                zh=f"有 {count} 个字节不能按文件声明的编码解码，以 � 代替。",
                en=f"{count} bytes are not in the encoding that the file declares, and stand as �.",
            )
        )
    if reader.is_cut:
        told.append(Words(zh="文件不完整：结尾缺失。", en="The file is cut off: its end is missing."))
    if reader.behind:
        told.append(
            Words(
                zh=f"文档结束之后还有 {reader.behind} 个字节，没有收入。",
                en=f"{reader.behind} bytes behind the document's end are left out.",
            )
        )
    return " ".join(map(str, told))
