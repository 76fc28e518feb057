"""What the commands that look something up in the library have in common."""

from __future__ import annotations

from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import EmptyLibraryError, WrongUsageError
from chinese_alpaca_rag.language import Words

DEFAULT_PASSAGES = 12


def passage_count(given: str | None) -> int:
    """The number given with ``--passages``, or its default; WrongUsageError for what is no such number."""
    if given is None:
        return DEFAULT_PASSAGES
    if given.strip().isascii() and given.strip().isdigit() and 0 < int(given) <= 10_000:
        return int(given)
    raise WrongUsageError(
        Words(zh=f"--passages 不能是 {given!r}。", en=f"--passages cannot be {given!r}."),
        hint=Words(
            zh="请给一个从 1 到 10000 的整数，例如 --passages 12",
            en="Give a whole number from 1 to 10000, such as --passages 12",
        ),
    )


def readable(text: str) -> str:
    """An argument without white space around it.

    What the locale could not decode arrives as surrogates: those bytes are read as UTF-8, or shown as unreadable.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def empty_library(session: Session) -> EmptyLibraryError:
    """The error for a library without any document."""
    folder = session.settings.library
    command = "alpaca-rag ingest" + (f" --library {folder}" if "library" in session.settings.origins else "")
    return EmptyLibraryError(
        Words(zh=f"知识库 {folder} 里还没有可读的文档。", en=f"The library {folder} holds no document yet."),
        hint=Words(zh=f"先读入文件：{command} 路径…", en=f"Read some files first: {command} PATH…"),
    )
