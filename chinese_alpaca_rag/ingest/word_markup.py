"""Making a Word file's XML plain before it is parsed, so that no text of it is passed over.

Parsers read runs in paragraphs and paragraphs in the body. Word also keeps visible text in content controls,
tracked insertions, fields, text boxes, notes, formulas, charts and diagrams: all are put in the place where a
parser looks. Deleted and hidden text is taken out. Headings and header rows get a mark (:data:`HEADING_MARK`,
:data:`HEADER_ROW_MARK`, private-use characters), because their styles do not survive parsing reliably.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from chinese_alpaca_rag.ingest.drawing_text import part_lines
from chinese_alpaca_rag.ingest.formulas import linear_formula

HEADING_MARK = "\ue0f1"
HEADER_ROW_MARK = "\ue0f2"

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"
_WRAPPERS = ("ins", "moveTo", "smartTag", "customXml", "fldSimple", "dir", "bdo", "sdtContent", "sdt")
_WRAPPER_PROPERTIES = ("sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr", "fldData")
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


def make_plain(document: Any) -> None:
    """Rewrite a ``docx.Document`` in place, as the module describes."""
    body = document.element.body
    for root in (body, *_margins(document.part)):
        _choose_alternatives(root)
        _drop_unseen(root)
        _unwrap(root)
        _write_symbols(root)
        if root is not body:
            _place_text_boxes(root)
    _write_formulas(body)
    _place_parts(body, document.part)
    _place_notes(body, document.part)
    _place_text_boxes(body)
    _mark_headings(body, document)
    _mark_header_rows(body)


def _margins(part: Any) -> Iterator[Any]:
    """The roots of the headers and footers."""
    for relationship in part.rels.values():
        if not relationship.is_external and relationship.reltype.endswith(("/header", "/footer")):
            yield relationship.target_part.element


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


def _drop_unseen(body: Any) -> None:
    for element in _elements(body, *_UNSEEN):
        _remove(element)
    for hidden in _elements(body, "vanish"):
        properties = hidden.getparent()
        run = properties.getparent() if properties is not None else None
        if run is not None and run.tag == f"{_W}r" and hidden.get(f"{_W}val") not in ("0", "false"):
            _remove(run)


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


def _place_parts(body: Any, part: Any) -> None:
    """The lines of charts and diagrams, behind the paragraphs that show them."""
    for reference in list(body.iter()):
        ids = [value for name, value in reference.attrib.items() if name in (f"{_R}id", f"{_R}dm")]
        local = reference.tag.rpartition("}")[2] if isinstance(reference.tag, str) else ""
        if local not in ("chart", "relIds") or not ids:
            continue
        paragraph = _paragraph_above(reference)
        related = part.related_parts.get(ids[0])
        if paragraph is not None and related is not None:
            _insert_behind(paragraph, [_new_paragraph(paragraph, line) for line in part_lines(related)])


def _place_notes(body: Any, part: Any) -> None:
    """The text of footnotes and endnotes, behind the paragraphs that refer to them."""
    for kind in ("footnote", "endnote"):
        references = _elements(body, f"{kind}Reference")
        notes = _notes(part, kind) if references else {}
        for reference in reversed(references):
            paragraph = _paragraph_above(reference)
            note = notes.get(reference.get(f"{_W}id"))
            if paragraph is not None and note is not None:
                blocks = [copy.deepcopy(block) for block in note if block.tag in (f"{_W}p", f"{_W}tbl")]
                _insert_behind(paragraph, [block for block in blocks if _has_text(block)])


def _notes(part: Any, kind: str) -> dict[str, Any]:
    from docx.oxml.parser import parse_xml

    for relationship in part.rels.values():
        if not relationship.is_external and relationship.reltype.endswith(f"/{kind}s"):
            root = parse_xml(relationship.target_part.blob)
            _choose_alternatives(root)
            _drop_unseen(root)
            _unwrap(root)
            return {note.get(f"{_W}id"): note for note in root.iter(f"{_W}{kind}")}
    return {}


def _place_text_boxes(body: Any) -> None:
    """The paragraphs of text boxes, behind the paragraphs that they are anchored in; inner boxes first."""
    for box in reversed(_elements(body, "txbxContent")):
        paragraph = _paragraph_above(box)
        blocks = [child for child in box if child.tag in (f"{_W}p", f"{_W}tbl")]
        _remove(box)
        if paragraph is not None:
            _insert_behind(paragraph, blocks)


def _mark_headings(body: Any, document: Any) -> None:
    levels = _style_levels(document)
    for paragraph in _elements(body, "p"):
        properties = paragraph.find(f"{_W}pPr")
        style = properties.find(f"{_W}pStyle") if properties is not None else None
        own = properties.find(f"{_W}outlineLvl") if properties is not None else None
        level = levels.get(style.get(f"{_W}val") if style is not None else None)
        if own is not None:
            level = _level(own)
        if level is not None and paragraph.getparent().tag != f"{_W}tc":
            run = paragraph.makeelement(f"{_W}r")
            run.append(_text_element(paragraph, HEADING_MARK + str(level + 1)))
            paragraph.insert(0 if properties is None else 1, run)


def _style_levels(document: Any) -> dict[str | None, int]:
    """The outline level (0-5) of each paragraph style that makes headings, by style id; inherited ones included."""
    styles = {style.get(f"{_W}styleId"): style for style in document.styles.element.iter(f"{_W}style")}
    levels: dict[str | None, int] = {}
    for identifier in styles:
        current, seen = identifier, set()
        while current in styles and current not in seen:
            seen.add(current)
            outline = styles[current].find(f"{_W}pPr/{_W}outlineLvl")
            level = _level(outline) if outline is not None else _level_by_name(styles[current])
            if outline is not None or level is not None:
                if level is not None:
                    levels[identifier] = level
                break
            based = styles[current].find(f"{_W}basedOn")
            current = based.get(f"{_W}val") if based is not None else None
    return levels


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


def _mark_header_rows(body: Any) -> None:
    for flag in _elements(body, "tblHeader"):
        properties = flag.getparent()
        row = properties.getparent() if properties is not None else None
        if row is None or row.tag != f"{_W}tr" or flag.get(f"{_W}val") in ("0", "false"):
            continue
        paragraph = next(row.iter(f"{_W}p"), None)
        if paragraph is not None:
            run = paragraph.makeelement(f"{_W}r")
            run.append(_text_element(paragraph, HEADER_ROW_MARK))
            paragraph.append(run)


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
