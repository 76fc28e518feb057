"""``alpaca-rag models command``: how a model server is started."""

from __future__ import annotations

import shlex
from pathlib import Path

from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.family.catalogue import ModelCard, find_model
from chinese_alpaca_rag.family.serving import LOCAL_HOST, serving_command
from chinese_alpaca_rag.language import Words


def show_serving_command(
    session: Session, name: str, *, engine: str, host: str | None, port: str | None, kv_type: str | None
) -> int:
    """Print the command that starts ``engine`` with the model ``name`` (a name or a path), fit for a shell."""
    card, path = _model(name)
    # A window that is set for good is meant for the user's own model, not for every server.
    window = session.settings.window if session.settings.origins.get("window") == "--window" else None
    arguments = serving_command(
        card, window, engine=engine, path=path, port=_number(port), kv_type=kv_type, host=host or LOCAL_HOST
    )
    command = shlex.join(arguments)
    if session.output.as_json:
        session.output.document(
            {
                "model": card.name,
                "window": card.window if window is None else window,
                "engine": engine,
                "arguments": arguments,
                "command": command,
            }
        )
        return 0
    session.output.line(command)
    return 0


def _model(name: str) -> tuple[ModelCard, Path | None]:
    """The card, and the weights where ``name`` is their path: of a folder with one GGUF file, that file."""
    path = Path(name).expanduser()
    if not path.exists():
        return find_model(name), None
    from chinese_alpaca_rag.family.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    return checkpoint.card, checkpoint.path


def _number(port: str | None) -> int | None:
    if port is None:
        return None
    if not port.isascii() or not port.isdecimal() or len(port) > 5:
        raise WrongUsageError(
            Words(zh=f"端口不能是 {port}。", en=f"A port cannot be {port}."),
            hint=Words(zh="例如 --port 8080", en="For example: --port 8080"),
        )
    return int(port)
