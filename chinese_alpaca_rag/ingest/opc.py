"""The parts of an Office file and how they refer to each other. After: ECMA-376, part 2 (Open Packaging Conventions).

Parts are read when they are asked for, parsed without entities and without anything from outside the file.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chinese_alpaca_rag.ingest.archive import read_part
from chinese_alpaca_rag.ingest.refusals import damaged

_RELATIONSHIPS = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def parse_xml(content: bytes, label: str = "Office") -> Any:
    """The root element; DocumentRefusedError where it is not well-formed."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise damaged(label, str(error)[:200]) from None


@dataclass(frozen=True)
class Relationship:
    """One part's reference to another; ``target_part`` is None where it is outside the file or not in it."""

    reltype: str
    target_part: Part | None


class Part:
    """One part of a package: its bytes, its tree, and the parts that it refers to."""

    def __init__(self, package: Package, name: str) -> None:
        self.name = name
        self._package = package

    @cached_property
    def blob(self) -> bytes:
        """The part's bytes."""
        return self._package.read(self.name)

    @cached_property
    def element(self) -> Any:
        """The root of the part's XML."""
        return parse_xml(self.blob)

    @property
    def content_type(self) -> str:
        """What the package says the part is."""
        return self._package.content_type(self.name)

    @cached_property
    def rels(self) -> dict[str, Relationship]:
        """The part's references by their ids."""
        folder, base = posixpath.split(self.name)
        return dict(self._package.relationships(posixpath.join(folder, "_rels", f"{base}.rels"), folder))

    @property
    def related_parts(self) -> dict[str, Part]:
        """The parts inside the file that this one refers to, by the references' ids."""
        return {key: one.target_part for key, one in self.rels.items() if one.target_part is not None}

    def related(self, kind: str) -> Iterator[Part]:
        """The parts that this one refers to as ``kind``, the last word of a reference's type."""
        for one in self.rels.values():
            if one.target_part is not None and one.reltype.endswith(f"/{kind}"):
                yield one.target_part


class Package:
    """An Office file: a ZIP archive of a harmless size (``archive.sized_archive``); ``label`` names its format."""

    def __init__(self, archive: zipfile.ZipFile, label: str = "Office") -> None:
        self.archive = archive
        self.label = label
        # Names are compared without regard to case, as the standard asks.
        self._names = {name.lower(): name for name in archive.namelist()}
        self._parts: dict[str, Part] = {}

    def read(self, name: str) -> bytes:
        """A part's bytes, its XML in transitional names."""
        return read_part(self.archive, name, self.label)

    def part(self, name: str) -> Part | None:
        """The part of that name (without a slash in front), None where there is none."""
        real = self._names.get(name.lower())
        if real is None:
            return None
        return self._parts.setdefault(real, Part(self, real))

    def main_part(self) -> Part | None:
        """The document, presentation or workbook itself."""
        for _, one in self.relationships("_rels/.rels", ""):
            if one.target_part is not None and one.reltype.endswith("/officeDocument"):
                return one.target_part
        return None

    def title(self) -> str:
        """The title that the file states of itself; "" for none."""
        for _, one in self.relationships("_rels/.rels", ""):
            if one.target_part is not None and one.reltype.endswith("/core-properties"):
                return "".join(element.text or "" for element in one.target_part.element.iter(_TITLE))
        return ""

    def content_type(self, name: str) -> str:
        """What ``[Content_Types].xml`` says of a part."""
        overrides, defaults = self._types
        return overrides.get(f"/{name}".lower()) or defaults.get(name.rpartition(".")[2].lower(), "")

    def relationships(self, name: str, folder: str) -> Iterator[tuple[str, Relationship]]:
        """The references in the part ``name``, whose targets are relative to ``folder``."""
        real = self._names.get(name.lower())
        if real is None:
            return
        for element in parse_xml(self.read(real)).iter(_RELATIONSHIPS):
            target = element.get("Target", "")
            part = None
            if element.get("TargetMode") != "External":
                path = target if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
                part = self.part(path.lstrip("/"))
            yield element.get("Id", ""), Relationship(element.get("Type", ""), part)

    @cached_property
    def _types(self) -> tuple[dict[str, str], dict[str, str]]:
        root = parse_xml(self.read("[Content_Types].xml"))

        def named(kind: str, key: str) -> dict[str, str]:
            return {one.get(key, "").lower(): one.get("ContentType", "") for one in root.iter(_TYPES + kind)}

        return named("Override", "PartName"), named("Default", "Extension")
