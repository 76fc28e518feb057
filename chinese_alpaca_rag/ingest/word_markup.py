"""Making a Word file's XML plain before it is read, so that no text of it is passed over.

The reader looks at runs in paragraphs and at paragraphs in the body. Word also keeps visible text in content controls,
tracked insertions, fields, text boxes, notes, formulas, charts and diagrams: all are put in the place where it looks.
Deleted and hidden text is taken out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from chinese_alpaca_rag.ingest.drawing_text import part_lines
from chinese_alpaca_rag.ingest.formulas import linear_formula
from chinese_alpaca_rag.ingest.opc import Part

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_WRAPPERS = ("ins", "moveTo", "smartTag", "customXml", "fldSimple", "dir", "bdo", "sdtContent", "sdt")
_WRAPPER_PROPERTIES = ("sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr", "fldData")
_OFF = ("0", "false", "off")
_TINY = ("1", "2")  # half points
_UNSEEN = ("del", "moveFrom", "instrText", "delText", "commentReference")
# Characters of symbol fonts (Wingdings) that forms are full of; the key is the low byte.
_SYMBOLS = {
    0xFE: "☑",
    0x52: "☑",
    0xA8: "☐",
    0x6F: "☐",
    0xA3: "☐",
    0xFC: "✓",
    0xFB: "✗",
    0xB7: "•",
    0xD8: "➢",
    0x6E: "■",
}


def make_plain(body: Any, part: Part, styles: Mapping[str, Any]) -> int:
    """Rewrite the tree of a document's body, and those of its headers and footers, as the module describes.

    ``styles`` are the document's by id. Gives the number of hidden characters that were taken out.
    """
    hidden = 0
    for root in (body, *_margins(part)):
        _choose_alternatives(root)
        hidden += _drop_unseen(root, styles)
        _unwrap(root)
        _write_symbols(root)
        if root is not body:
            _place_text_boxes(root)
    _write_formulas(body)
    _place_parts(body, part)
    hidden += _place_notes(body, part, styles)
    _place_text_boxes(body)
    return hidden


def heading_level(properties: Any, levels: StyleLevels) -> int | None:
    """The level (0-5) of the heading that a paragraph with these properties is; None where it is none.

    ``levels`` are those of the document's styles.
    """
    if properties is None:
        return None
    own = properties.find(f"{_W}outlineLvl")
    if own is not None:
        return _level(own)
    style = properties.find(f"{_W}pStyle")
    return levels[style.get(f"{_W}val", "")] if style is not None else None


class StyleLevels(dict[str, int | None]):
    """The outline level (0-5) of paragraph styles that make headings, by style id, None for others.

    Found when they are asked for, inherited ones included: documents use few of the hundreds of styles they carry.
    """

    def __init__(self, styles: Mapping[str, Any]) -> None:
        super().__init__()
        self._styles = styles

    def __missing__(self, identifier: str) -> int | None:
        level: int | None = None
        current, seen = identifier, set[str]()
        while current in self._styles and current not in seen:
            seen.add(current)
            style = self._styles[current]
            outline = style.find(f"{_W}pPr/{_W}outlineLvl")
            level = _level(outline) if outline is not None else _level_by_name(style)
            if outline is not None or level is not None:
                break
            based = style.find(f"{_W}basedOn")
            current = based.get(f"{_W}val", "") if based is not None else ""
        self[identifier] = level
        return level


def _margins(part: Part) -> Iterator[Any]:
    """The roots of the headers and footers."""
    for kind in ("header", "footer"):
        for margin in part.related(kind):
            yield margin.element


def _elements(root: Any, *names: str) -> list[Any]:
    """The elements of the Word namespace with these names, in document order, as a list that survives changes."""
    return list(root.iter(*(_W + name for name in names)))


def _choose_alternatives(body: Any) -> None:
    """Of two renderings of the same thing (a text box for new and old programs) keep the one with text."""
    for alternatives in list(body.iter(f"{_MC}AlternateContent")):
        options = [child for child in alternatives if child.tag in (f"{_MC}Choice", f"{_MC}Fallback")]
        kept = next((option for option in options if _has_text(option)), options[0] if options else None)
        for option in options:
            if option is not kept:
                alternatives.remove(option)


def _has_text(element: Any) -> bool:
    return any((text.text or "").strip() for text in element.iter(f"{_W}t"))


def _drop_unseen(body: Any, styles: Mapping[str, Any]) -> int:
    """Take out what is deleted and what is hidden; gives the number of hidden characters."""
    for element in _elements(body, *_UNSEEN):
        _remove(element)
    hidden = 0
    for run in _elements(body, "r"):
        if _is_hidden(run.find(f"{_W}rPr"), styles):
            hidden += len("".join("".join(_texts(run)).split()))
            _remove(run)
    return hidden


def _is_hidden(properties: Any, styles: Mapping[str, Any]) -> bool:
    """Whether a run is not shown: marked so, by itself or its style, set in white on nothing, or next to no size."""
    if properties is None or not len(properties):
        return False
    style = properties.find(f"{_W}rStyle")
    vanish = properties.find(f"{_W}vanish")
    if vanish is not None:
        return vanish.get(f"{_W}val") not in _OFF
    if style is not None and _hides(styles, style.get(f"{_W}val", "")):
        return True
    size = properties.find(f"{_W}sz")
    if size is not None and size.get(f"{_W}val", "") in _TINY:
        return True
    color = properties.find(f"{_W}color")
    white = color is not None and color.get(f"{_W}val", "").upper() == "FFFFFF"
    return white and not _has_ground(properties)


def _has_ground(properties: Any) -> bool:
    """Whether something lies behind white text: its own shading or marker, or that of its paragraph, cell or shape."""
    if properties.find(f"{_W}highlight") is not None:
        return True
    for element in (properties, *properties.iterancestors()):
        local = element.tag.rpartition("}")[2]
        if local in ("txbxContent", "hdr", "ftr"):
            return True  # shapes and page edges are often coloured
        for path in (f"{_W}shd", f"{_W}pPr/{_W}shd", f"{_W}tcPr/{_W}shd", f"{_W}tblPr/{_W}shd"):
            shade = element.find(path)
            if shade is not None and shade.get(f"{_W}fill", "auto").upper() not in ("AUTO", "FFFFFF"):
                return True
        if local == "tbl" and element.find(f"{_W}tblPr/{_W}tblStyle") is not None:
            return True  # the table's style may colour its rows
        if local == "p" and element.find(f"{_W}pPr/{_W}pStyle") is not None:
            return True
    return False


def _hides(styles: Mapping[str, Any], identifier: str) -> bool:
    """Whether a character style hides its text."""
    style = styles.get(identifier)
    vanish = style.find(f"{_W}rPr/{_W}vanish") if style is not None else None
    return vanish is not None and vanish.get(f"{_W}val") not in _OFF


def _unwrap(body: Any) -> None:
    for element in _elements(body, *_WRAPPER_PROPERTIES):
        _remove(element)
    for element in _elements(body, *_WRAPPERS):
        parent = element.getparent()
        if parent is None:
            continue
        if parent.tag in (f"{_W}rPr", f"{_W}trPr", f"{_W}pPr"):
            parent.remove(element)  # the record of a change of properties, which wraps nothing
            continue
        for child in list(element):
            element.addprevious(child)
        parent.remove(element)


def _write_symbols(body: Any) -> None:
    for symbol in _elements(body, "sym"):
        code = int(symbol.get(f"{_W}char") or "0", 16)
        character = _SYMBOLS.get(code & 0xFF, "") if 0xF000 <= code <= 0xF0FF or code < 0x100 else chr(code)
        _replace_with_text(symbol, character)
    for ruby in _elements(body, "ruby"):
        base, reading = ("".join(_texts(part)) for part in (ruby.find(f"{_W}rubyBase"), ruby.find(f"{_W}rt")))
        _replace_with_text(ruby, f"{base}({reading})" if reading else base)


def _texts(element: Any) -> Iterator[str]:
    if element is not None:
        yield from (text.text or "" for text in element.iter(f"{_W}t"))


def _write_formulas(body: Any) -> None:
    for formula in list(body.iter(f"{_M}oMath")):
        holder = formula.getparent()
        run = formula.makeelement(f"{_W}r")
        run.append(_text_element(formula, linear_formula(formula)))
        if holder is not None and holder.tag == f"{_M}oMathPara":
            holder.addprevious(run)
            if len(holder.findall(f"{_M}oMath")) == 1:
                _remove(holder)
                continue
        elif holder is not None:
            formula.addprevious(run)
        _remove(formula)


def _place_parts(body: Any, part: Part) -> None:
    """The lines of charts and diagrams, behind the paragraphs that show them."""
    for reference in list(body.iter("{*}chart", "{*}relIds")):
        ids = [value for name, value in reference.attrib.items() if name in (f"{_R}id", f"{_R}dm")]
        if not ids:
            continue
        paragraph = _paragraph_above(reference)
        related = part.related_parts.get(ids[0])
        if paragraph is not None and related is not None:
            _insert_behind(paragraph, [_new_paragraph(paragraph, line) for line in part_lines(related)])


def _place_notes(body: Any, part: Part, styles: Mapping[str, Any]) -> int:
    """The text of footnotes and endnotes, behind the paragraphs that refer to them; the number of hidden characters."""
    hidden = 0
    for kind in ("footnote", "endnote"):
        references = _elements(body, f"{kind}Reference")
        notes: dict[str, Any] = {}
        for holder in part.related(f"{kind}s") if references else ():
            root = holder.element
            _choose_alternatives(root)
            hidden += _drop_unseen(root, styles)
            _unwrap(root)
            _write_symbols(root)
            notes.update({note.get(f"{_W}id", ""): note for note in root.iter(f"{_W}{kind}")})
        for reference in reversed(references):
            paragraph = _paragraph_above(reference)
            note = notes.get(reference.get(f"{_W}id", ""))
            if paragraph is not None and note is not None:
                blocks = [copy.deepcopy(block) for block in note if block.tag in (f"{_W}p", f"{_W}tbl")]
                _insert_behind(paragraph, [block for block in blocks if _has_text(block)])
    return hidden


def _place_text_boxes(body: Any) -> None:
    """The paragraphs of text boxes, behind the paragraphs that they are anchored in; inner boxes first."""
    for box in reversed(_elements(body, "txbxContent")):
        paragraph = _paragraph_above(box)
        blocks = [child for child in box if child.tag in (f"{_W}p", f"{_W}tbl")]
        _remove(box)
        if paragraph is not None:
            _insert_behind(paragraph, blocks)


def _level_by_name(style: Any) -> int | None:
    name = style.find(f"{_W}name")
    words = (name.get(f"{_W}val") or "").lower().split() if name is not None else []
    if words == ["title"]:
        return 0
    if len(words) == 2 and words[0] in ("heading", "标题") and words[1].isdigit():
        return min(int(words[1]), 6) - 1
    return None


def _level(outline: Any) -> int | None:
    value = outline.get(f"{_W}val") or ""
    return min(int(value), 5) if value.isdigit() and int(value) < 9 else None


def _paragraph_above(element: Any) -> Any:
    return next(element.iterancestors(f"{_W}p"), None)


def _insert_behind(paragraph: Any, blocks: list[Any]) -> None:
    for block in reversed(blocks):
        paragraph.addnext(block)


def _new_paragraph(near: Any, text: str) -> Any:
    paragraph = near.makeelement(f"{_W}p")
    run = near.makeelement(f"{_W}r")
    run.append(_text_element(near, text))
    paragraph.append(run)
    return paragraph


def _text_element(near: Any, text: str) -> Any:
    element = near.makeelement(f"{_W}t")
    element.text = text
    element.set(_SPACE, "preserve")
    return element


def _replace_with_text(element: Any, text: str) -> None:
    if text:
        element.addprevious(_text_element(element, text))
    _remove(element)


def _remove(element: Any) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)
