"""The packages that hold an answer to a schema and check it, loaded when they are first needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from chinese_alpaca_rag.errors import MissingExtraError


def llguidance() -> ModuleType:
    """The package llguidance, which holds. Raises ``MissingExtraError``."""
    return _package("llguidance")


def jsonschema() -> ModuleType:
    """The package jsonschema, which checks. Raises ``MissingExtraError``."""
    return _package("jsonschema")


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as problem:
        raise MissingExtraError.for_package(name, "endpoint") from problem
