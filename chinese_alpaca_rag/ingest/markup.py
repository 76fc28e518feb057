"""HTML: the text that a reader sees, in its block structure.

Headings become ``#`` lines, list items ``-`` lines and tables rows; scripts, styles and hidden elements are
left out. The tree is walked without recursion: pages with 200,000 elements inside each other exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from chinese_alpaca_rag.ingest.cleaning import clean_page, invisible_count, visible
from chinese_alpaca_rag.ingest.decoding import decode
from chinese_alpaca_rag.ingest.hidden import hidden_words, told_hidden
from chinese_alpaca_rag.ingest.hidden_markup import HiddenElements
from chinese_alpaca_rag.ingest.html_tables import table_grid
from chinese_alpaca_rag.ingest.joining import collapse_spaces
from chinese_alpaca_rag.ingest.refusals import without_text
from chinese_alpaca_rag.ingest.tables import table_lines
from chinese_alpaca_rag.library.records import Page, ParsedDocument

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_UNSEEN = _names(
    "script style template head noscript iframe object embed applet canvas svg audio video map datalist "
    "button select textarea input dialog"
)
_BLOCKS = _names(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer "
    "form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search "
    "section summary table tbody td tfoot th thead tr ul"
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_DECLARED = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)|^\s*<\?xml[^>]+encoding\s*=\s*[\"']([\w.:-]+)", re.IGNORECASE
)
_Event = Literal["enter", "leave", "table"]
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]*)[^<>]*>")
# Elements that hold no others or may be left open, and those whose content is no markup.
_UNCOUNTED = _names(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option "
    "script style title textarea template noscript"
)
_DEEPEST = 10_000
_LAYOUT_CELL = 400
_PARTS_OF_A_PAGE = "h1, h2, h3, ul, ol, form, pre, p + p, article, section"


def read_html(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """An HTML page as one page of text; its title is the ``title`` element, else the first heading, else ``name``."""
    from selectolax.lexbor import LexborHTMLParser

    declared = _DECLARED.search(data[:4096])
    label = (declared.group(1) or declared.group(2)).decode("ascii") if declared else None
    decoded = decode(data, encoding=encoding, declared=label)
    tree = LexborHTMLParser(_flattened(visible(decoded.text)))
    root = tree.root
    writer = _Writer()
    hidden = HiddenElements(tree)
    if root is not None:
        _Walker(writer, _outer_tables(root), hidden).write(root)
    text = clean_page(writer.text())
    count = hidden.count + invisible_count(decoded.text)
    if not text.strip():
        raise without_text(hidden_words(count) if count else None)
    element = tree.css_first("title")
    title = " ".join(element.text(deep=True).split()) if element is not None else ""
    if not title and (heading := re.search(r"^#+ (.+)$", text, re.MULTILINE)):
        title = heading.group(1)
    return ParsedDocument(
        format="html", title=title or name, pages=(Page(1, text),), encoding=decoded.encoding,
        confidence=decoded.confidence, hidden=told_hidden(count),
    )  # fmt: skip


def _flattened(html: str) -> str:
    """``html`` with at most ``_DEEPEST`` elements inside each other; the tags of those further in are taken out.

    The time in which HTML is parsed grows with the square of the depth: 80 s for 200,000 elements. Nobody
    writes pages of such depth; browsers stop at 512.
    """
    depth = deepest = 0
    pieces: list[str] = []
    kept = 0
    for tag in _TAG.finditer(html):
        closing, name = tag.group(1), tag.group(2).lower()
        if name in _UNCOUNTED or tag.group().endswith("/>"):
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        deepest = max(deepest, depth)
        if depth + bool(closing) > _DEEPEST:
            pieces.append(html[kept : tag.start()])
            kept = tag.end()
    return html if deepest <= _DEEPEST else "".join(pieces) + html[kept:]


class _Writer:
    """Collects inline text into lines; a block's end ends the line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._inline: list[str] = []
        self._prefix = ""
        self.preformatted = 0
        self.items = 0

    def add(self, text: str) -> None:
        self._inline.append(text)

    def end_line(self, *, blank: bool = False) -> None:
        """Finish the line in hand; ``blank`` sets a blank line behind it."""
        joined = "".join(self._inline)
        self._inline.clear()
        text = joined.strip("\n") if self.preformatted else collapse_spaces(joined)
        if text.strip():
            self._lines.append(self._prefix + text)
            self._prefix = ""
        if blank and self._lines and self._lines[-1]:
            self._lines.append("")

    def break_line(self) -> None:
        """A forced line break, which inside preformatted text is a character of it."""
        if self.preformatted:
            self.add("\n")
        else:
            self.end_line()

    def begin(self, prefix: str) -> None:
        """Set what the next line starts with, such as "## " or "- "."""
        self.end_line()
        self._prefix = prefix

    def drop_prefix(self) -> None:
        """Forget a prefix that found no text."""
        self._prefix = ""

    def text(self) -> str:
        self.end_line()
        return "\n".join(self._lines)


def _outer_tables(root: LexborNode) -> frozenset[int]:
    """The tables that hold other tables, by ``mem_id``. They arrange a page and hold no data."""
    outer: set[int] = set()
    for table in root.css("table"):
        above = table.parent
        while above is not None and above.tag != "table":
            above = above.parent
        if above is not None:
            outer.add(above.mem_id)
    return frozenset(outer)


class _Walker:
    """Writes what is seen of a tree: neither elements that hold no text for readers, nor hidden ones."""

    def __init__(self, writer: _Writer, outer: frozenset[int], hidden: HiddenElements) -> None:
        self._writer = writer
        self._outer = outer
        self._hidden = hidden

    def write(self, root: LexborNode) -> None:
        """Write the visible text of ``root`` and everything inside it."""
        writer = self._writer
        for node, event in self._walk(root):
            tag = node.tag or ""
            if event == "table":
                self._write_table(node)
            elif tag == "-text":
                if event == "enter":
                    writer.add(node.text_content or "")
            elif tag == "br":
                if event == "enter":
                    writer.break_line()
            elif event == "enter":
                _enter(tag, writer)
            else:
                _leave(tag, writer)

    def _write_table(self, node: LexborNode) -> None:
        self._writer.end_line(blank=True)
        grid, header_rows = table_grid(node, self._cell_text)
        for line in table_lines(grid, header_rows=header_rows):
            self._writer.add(line)
            self._writer.end_line()
        self._writer.end_line(blank=True)

    def _cell_text(self, cell: LexborNode) -> str:
        writer = _Writer()
        if cell in self._hidden:
            self._hidden.pass_over(cell)
        else:
            _Walker(writer, frozenset(), self._hidden).write(cell)
        return writer.text().replace("\n", " ").strip()

    def _walk(self, root: LexborNode) -> Iterator[tuple[LexborNode, _Event]]:
        """Every node that is seen, in document order: entered and left, or met as a table of data and not entered."""
        node: LexborNode | None = root
        depth = 0
        while node is not None:
            if node in self._hidden:
                if node.tag not in _UNSEEN:
                    self._hidden.pass_over(node)
            elif self._is_data_table(node):
                yield node, "table"
            elif not _is_unseen(node):
                yield node, "enter"
                child = node.first_child
                if child is not None:
                    node, depth = child, depth + 1
                    continue
                yield node, "leave"
            while depth and node.next is None:
                parent = node.parent
                if parent is None:
                    return
                node, depth = parent, depth - 1
                yield node, "leave"
            node = node.next if depth else None

    def _is_data_table(self, node: LexborNode) -> bool:
        """Whether this is a table that holds rows of data, rather than one that arranges the parts of a page."""
        if node.tag != "table":
            return False
        if node.mem_id in self._outer or node.css_first(_PARTS_OF_A_PAGE) is not None:
            return False
        cells = node.css("td, th")
        rows = len(node.css("tr"))
        return len(cells) > rows > 0 and all(len(cell.text(deep=True)) <= _LAYOUT_CELL for cell in cells[:200])


def _enter(tag: str, writer: _Writer) -> None:
    if tag in _HEADINGS:
        writer.end_line(blank=True)
        writer.begin("#" * int(tag[1]) + " ")
    elif tag == "li":
        writer.begin("- ")
        writer.items += 1
    elif tag == "pre":
        writer.end_line(blank=True)
        writer.preformatted += 1
    elif tag in _BLOCKS:
        writer.end_line(blank=tag == "p" and not writer.items)


def _leave(tag: str, writer: _Writer) -> None:
    if tag == "pre":
        writer.end_line(blank=True)
        writer.preformatted -= 1
    elif tag in _BLOCKS:
        writer.items -= tag == "li"
        apart = tag in ("p", "ul", "ol") and not writer.items
        writer.end_line(blank=apart or tag == "table" or tag in _HEADINGS)
        if tag == "li" or tag in _HEADINGS:
            writer.drop_prefix()


def _is_unseen(node: LexborNode) -> bool:
    tag = node.tag or ""
    if tag == "-text":
        return False
    return (tag in _UNSEEN or tag.startswith(("-", "!"))) and tag not in ("-document", "-undef")
