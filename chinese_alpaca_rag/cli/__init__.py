"""The command ``alpaca-rag``.

``main`` is its entry point; ``app`` is the typer application, for documentation and tests. Nothing
beyond the standard library is imported before the environment keeps dependencies offline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from chinese_alpaca_rag.cli.commands import app as app

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Run the command that ``sys.argv`` holds; the process ends with its exit code."""
    import sys

    from chinese_alpaca_rag.offline import stay_offline

    stay_offline()
    try:
        from chinese_alpaca_rag.cli.run import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # before the run could take care of it, or while it did
        sys.exit(130)


def __getattr__(name: str) -> Any:
    if name == "app":
        from chinese_alpaca_rag.cli.commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
