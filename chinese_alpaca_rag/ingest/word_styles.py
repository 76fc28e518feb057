"""The styles of a Word file by their ids, each parsed when it is asked for.

Style sheets are hundreds of kilobytes, mostly of tables' styles, and a document uses a few of them: parsing all would
take several times as long as reading the document.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from chinese_alpaca_rag.ingest.opc import parse_xml

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_ROOT = re.compile(rb"<w:styles\b[^>]*>")
_ID = re.compile(rb'<w:style\b[^>]*?\bw:styleId="([^"]*)"')
_CLOSE = b"</w:style>"


class StyleSheet(Mapping[str, Any]):
    """The ``style`` elements of a part by their ids."""

    def __init__(self, content: bytes = b"") -> None:
        self._parsed: dict[str, Any] = {}
        self._written: dict[str, bytes] = {}
        root = _ROOT.search(content)
        parts = content.split(_CLOSE)[:-1]
        opened = content.count(b"<w:style ") + content.count(b"<w:style>")
        if root is not None and parts and len(parts) == opened:
            self._open = root.group()
            for part in parts:
                written = part[max(0, part.rfind(b"<w:style ")) :]
                named = _ID.match(written)
                if named is not None:
                    identifier = html.unescape(named.group(1).decode("utf-8", "replace"))
                    self._written[identifier] = written + _CLOSE
        elif content:  # another prefix, or something odd: as XML is meant to be read
            styles = parse_xml(content, "Word").iter(f"{_W}style")
            self._parsed = {style.get(f"{_W}styleId", ""): style for style in styles}

    def __getitem__(self, identifier: str) -> Any:
        if identifier not in self._parsed:
            written = self._written[identifier]
            root = parse_xml(self._open + written + b"</w:styles>", "Word")
            self._parsed[identifier] = root.find(f"{_W}style")
        return self._parsed[identifier]

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._parsed or identifier in self._written

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._written, *self._parsed)))

    def __len__(self) -> int:
        return len(dict.fromkeys((*self._written, *self._parsed)))
