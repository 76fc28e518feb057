"""Which elements of an HTML page no reader sees: by attribute, by style, by the page's own style sheets.

Style sheets are read for a few properties only, and selectors are matched by lexbor. What a script would show later is
hidden here too: it is left out and told, as anything hidden is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_UNSEEN_STYLE = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0(?:\.0+)?"
    r"|font-size\s*:\s*0(?:\.0+)?(?:px|pt|em|rem|%)?)\s*(?:!\s*important\s*)?(?:;|$)",
    re.IGNORECASE,
)
_SHOWN_STYLE = re.compile(r"(?:^|;)\s*display\s*:\s*(?!none)[a-z-]+", re.IGNORECASE)
_WHITE_STYLE = re.compile(
    r"(?:^|;)\s*color\s*:\s*(?:white|#fff(?:fff)?|rgba?\(\s*255\s*,\s*255\s*,\s*255\s*(?:,[^)]*)?\))"
    r"\s*(?:!\s*important\s*)?(?:;|$)",
    re.IGNORECASE,
)
_GROUND_STYLE = re.compile(r"(?:^|;)\s*background(?:-color|-image)?\s*:", re.IGNORECASE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE = re.compile(r"([^{}@;]{1,2000})\{([^{}]{0,10000})\}")
_MEDIA = re.compile(r"@media\s+(?:only\s+)?(?:screen|all)\b[^{]*\{", re.IGNORECASE)
_AT_RULE = re.compile(r"@[a-z-]+[^{};]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})", re.IGNORECASE)
# States of an element (:hover), pieces that are none (::before), and what lexbor would have to search long for.
_UNMATCHED = re.compile(r":(?!not\()|[>~+]\s*$|^\s*$")
_MOST_SELECTORS = 500
_MOST_STYLES = 1 << 20  # characters


class HiddenElements:
    """The hidden elements of a page; ``count`` grows by the characters of those that are passed over."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.count = 0
        self._ids: set[int] = set()
        self._grounds: set[int] = set()
        white: list[LexborNode] = []
        for node, style in _styled(tree):
            if _SHOWN_STYLE.search(style):
                self._ids.discard(node.mem_id)  # a later rule, or the element's own style, shows it again
            if _UNSEEN_STYLE.search(style):
                self._ids.add(node.mem_id)
            if _GROUND_STYLE.search(style):
                self._grounds.add(node.mem_id)
            elif _WHITE_STYLE.search(style):
                white.append(node)
        self._ids.update(node.mem_id for node in tree.css("[hidden]"))
        self._ids.update(node.mem_id for node in white if not self._has_ground(node))

    def __contains__(self, node: LexborNode) -> bool:
        return node.mem_id in self._ids

    def pass_over(self, node: LexborNode) -> None:
        """Count what is in a hidden element."""
        self.count += len("".join(node.text(deep=True).split()))

    def _has_ground(self, node: LexborNode) -> bool:
        above: LexborNode | None = node
        while above is not None:
            if above.mem_id in self._grounds or (above.attributes or {}).get("bgcolor"):
                return True
            above = above.parent
        return False


def _styled(tree: LexborHTMLParser) -> Iterator[tuple[LexborNode, str]]:
    """Elements with declarations for them: those of style sheets in their order, then their own."""
    matched = 0
    for selector, declarations in _rules(tree):
        matched += 1
        if matched > _MOST_SELECTORS:
            break
        try:
            nodes = tree.css(selector)
        except ValueError:  # a selector that lexbor does not know
            continue
        for node in nodes:
            yield node, declarations
    for node in tree.css("[style]"):
        yield node, (node.attributes.get("style") or "")


def _rules(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    """The rules that say something about being seen, one selector each."""
    for element in tree.css("style"):
        sheet = _COMMENT.sub("", (element.text(deep=True) or "")[:_MOST_STYLES])
        sheet = _AT_RULE.sub("", _MEDIA.sub("", sheet))
        for rule in _RULE.finditer(sheet):
            declarations = rule.group(2)
            if any(
                pattern.search(declarations) for pattern in (_UNSEEN_STYLE, _SHOWN_STYLE, _WHITE_STYLE, _GROUND_STYLE)
            ):
                for selector in rule.group(1).split(","):
                    if not _UNMATCHED.search(selector):
                        yield selector.strip(), declarations
