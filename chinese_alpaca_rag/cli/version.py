"""The version of the kit."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from chinese_alpaca_rag.cli.session import Session


def kit_version() -> str:
    """The installed version; ``unknown`` for a source tree that is not installed."""
    try:
        return version("chinese-alpaca-rag")
    except PackageNotFoundError:
        return "unknown"


def show_version(session: Session) -> int:
    """Print the version."""
    if session.output.as_json:
        session.output.document({"version": kit_version()})
    else:
        session.output.line(f"alpaca-rag {kit_version()}")
    return 0
