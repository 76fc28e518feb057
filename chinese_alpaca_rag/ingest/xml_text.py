"""XML of any kind: each leaf element a line ``name：text``, mixed text as paragraphs, in the document's order.

Expat reads a stream of events: no tree, no recursion, nothing external is opened. Entities that a document defines
itself are refused, since they can swell without bound; names known from HTML, such as ``&nbsp;``, are understood, and
any other entity stays as it is written, so that no text is lost behind it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from xml.parsers import expat

from chinese_alpaca_rag.ingest.cleaning import clean_page, visible
from chinese_alpaca_rag.ingest.decoding import decode
from chinese_alpaca_rag.ingest.joining import collapse_spaces
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.ingest.titles import own_title
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_DECLARATION = re.compile(r"\A\s*<\?xml\b[^>]*\?>")
_DECLARED = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml[^>]+encoding\s*=\s*[\"']([\w.:-]+)")
_TITLE = re.compile(r"(?:.*:)?(?:title|标题|題名|题名)", re.IGNORECASE)
_TECHNICAL = re.compile(r"xmlns(?::.*)?|xsi:.*|xml:(?:space|lang|id|base)|xlink:.*")
# A value that says something to a reader: a word, not a number or an identifier in ASCII alone.
_WORDS = re.compile(r"[^\W\d_]{2,}\s+[^\W\d_]{2,}|[\u3400-\u9fff]")
_DEEPEST = 10_000


@dataclass
class _Element:
    name: str
    text: list[str] = field(default_factory=list)
    has_children: bool = False


class _Writer:
    """Collects lines while elements open and close."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.title = ""
        self._open: list[_Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise damaged("XML", f"more than {_DEEPEST} elements inside each other")
        if self._open:
            self._flush(self._open[-1])
            self._open[-1].has_children = True
        self._open.append(_Element(name))
        for key, value in attributes.items():
            if not _TECHNICAL.fullmatch(key) and _WORDS.search(value):
                self.lines.append(f"{name}.{key}：{collapse_spaces(value)}")

    def end(self, _: str) -> None:
        element = self._open.pop()
        text = collapse_spaces("".join(element.text))
        if text and not element.has_children:
            self.lines.append(f"{element.name}：{text}")
            if not self.title and _TITLE.fullmatch(element.name):
                self.title = text
            return
        self._flush(element)
        if element.has_children and self.lines and self.lines[-1]:
            self.lines.append("")

    def characters(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)

    def entity(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self.characters(html.unescape(f"&{name};"))

    def _flush(self, element: _Element) -> None:
        """Text between elements stands on a line of its own."""
        text = collapse_spaces("".join(element.text))
        element.text.clear()
        if text:
            self.lines.append(text)


def read_xml(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """An XML file as one page. DocumentRefusedError where it is not well-formed or defines entities of its own."""
    declared = _DECLARED.match(data[:1024])
    decoded = decode(data, encoding=encoding, declared=declared.group(1).decode("ascii") if declared else None)
    writer = _Writer()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    # As if more were declared elsewhere: an unknown entity is then handed over instead of ending the document.
    parser.UseForeignDTD(True)
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = writer.entity
    parser.StartElementHandler = writer.start
    parser.EndElementHandler = writer.end
    parser.CharacterDataHandler = writer.characters
    try:
        parser.Parse(_DECLARATION.sub("", visible(decoded.text)).lstrip().encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise damaged("XML", str(error)) from None
    text = clean_page("\n".join(writer.lines))
    if not text.strip():
        raise without_text()
    return ParsedDocument(
        format="xml", title=own_title(writer.title) or name, pages=(Page(1, text),), encoding=decoded.encoding,
        confidence=decoded.confidence,
    )  # fmt: skip


def _refuse_entity(name: str, *_: object) -> None:
    raise damaged("XML", f"it defines the entity {name[:50]!r}")
