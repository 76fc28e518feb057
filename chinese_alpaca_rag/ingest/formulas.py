"""Office formulas (OMML) on one line: a fraction becomes (a)/(b), a power x^2, a root √(x)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_DEEPEST = 60


def linear_formula(element: Any, depth: int = 0) -> str:
    """The formula ``element`` as plain text; below ``_DEEPEST`` levels only its characters."""
    name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if name == "t":
        return element.text or ""
    if name.endswith("Pr"):
        return ""
    if depth > _DEEPEST:
        return "".join(text.text or "" for text in element.iter(f"{_M}t"))
    write = _WRITERS.get(name)
    parts = _Parts(element, depth)
    return write(parts) if write else "".join(linear_formula(child, depth + 1) for child in element)


class _Parts:
    """The named arguments of a formula's element, each as plain text."""

    def __init__(self, element: Any, depth: int) -> None:
        self._element = element
        self._depth = depth

    def __getitem__(self, name: str) -> str:
        found = self._element.find(f"{_M}{name}")
        return "" if found is None else linear_formula(found, self._depth + 1)

    def all(self, name: str) -> list[str]:
        return [linear_formula(found, self._depth + 1) for found in self._element.findall(f"{_M}{name}")]

    def property(self, path: str, default: str) -> str:
        found = self._element.find("/".join(f"{_M}{name}" for name in path.split("/")))
        return default if found is None else found.get(f"{_M}val", default)


def _grouped(text: str) -> str:
    return text if len(text) <= 1 or text.isalnum() else f"({text})"


def _nary(parts: _Parts) -> str:
    sign = parts.property("naryPr/chr", "∫")
    low, high = parts["sub"], parts["sup"]
    return sign + (f"_{_grouped(low)}" if low else "") + (f"^{_grouped(high)}" if high else "") + f" {parts['e']}"


_WRITERS: dict[str, Callable[[_Parts], str]] = {
    "f": lambda parts: f"{_grouped(parts['num'])}/{_grouped(parts['den'])}",
    "sSup": lambda parts: f"{_grouped(parts['e'])}^{_grouped(parts['sup'])}",
    "sSub": lambda parts: f"{parts['e']}_{_grouped(parts['sub'])}",
    "sSubSup": lambda parts: f"{parts['e']}_{_grouped(parts['sub'])}^{_grouped(parts['sup'])}",
    "rad": lambda parts: f"{parts['deg']}√({parts['e']})",
    "nary": _nary,
    "d": lambda parts: (
        parts.property("dPr/begChr", "(")
        + parts.property("dPr/sepChr", ",").join(parts.all("e"))
        + parts.property("dPr/endChr", ")")
    ),
    "func": lambda parts: f"{parts['fName']} {parts['e']}",
    "limLow": lambda parts: f"{parts['e']}_{_grouped(parts['lim'])}",
    "limUpp": lambda parts: f"{parts['e']}^{_grouped(parts['lim'])}",
    "m": lambda parts: "[" + "; ".join(parts.all("mr")) + "]",
    "mr": lambda parts: ", ".join(parts.all("e")),
    "eqArr": lambda parts: "; ".join(parts.all("e")),
}
