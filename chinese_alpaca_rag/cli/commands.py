"""The commands and their options.

Parsing and doing are apart: a function here only declares what typer parses. What comes back from typer
is a ``Request``, which ``run`` carries out where every error has a place to go.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from chinese_alpaca_rag.cli.help import HelpfulCommand, HelpfulGroup
from chinese_alpaca_rag.cli.session import Session

Work = Callable[..., int]


@dataclass(frozen=True)
class Request:
    """What the user asked for: the work to do, with the options that every command takes.

    ``work`` is None where a command's name is missing; ``help`` is then the help page to show.
    """

    options: dict[str, Any]
    work: Callable[[Session], int] | None = None
    help: str = ""


@dataclass
class Shared:
    """Options given before the command's name, kept in the typer context for the command."""

    options: dict[str, Any] = field(default_factory=dict)


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _strategies() -> list[str]:
    return ["auto", "stuff", "map_reduce"]


def _engines() -> list[str]:
    return ["llama-server", "vllm", "llama-cpp-python"]


# Values are texts here: the settings check them, wherever they come from, and complain in the user's language.
SHARED_PARAMETERS = (
    _parameter("library", Annotated[Path | None, typer.Option("--library", "-l")], None),
    _parameter("model", Annotated[str | None, typer.Option("--model", "-m")], None),
    _parameter("window", Annotated[str | None, typer.Option("--window", "-w")], None),
    _parameter("strategy", Annotated[str | None, typer.Option("--strategy", "-s", autocompletion=_strategies)], None),
    _parameter("no_cache", Annotated[bool, typer.Option("--no-cache")], False),
    _parameter("json", Annotated[bool, typer.Option("--json")], False),
    _parameter("context", typer.Context, inspect.Parameter.empty),
)


def _declared(work: Work) -> Callable[..., Request]:
    """``work`` as typer sees it: without the session, with the options that every command takes."""
    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]

    def parsed(**values: Any) -> Request:
        options = _shared_options(values)
        return Request(options, lambda session: work(session, **values))

    return _with_signature(parsed, own)


def _group(own: list[inspect.Parameter]) -> Callable[..., Request | None]:
    """The callback of a group of commands: it keeps the options, or asks for the help page without a command."""

    def parsed(**values: Any) -> Request | None:
        context = values["context"]
        options = _shared_options(values)
        context.obj = Shared(options)
        if values.get("version"):
            from chinese_alpaca_rag.cli.version import show_version

            return Request(options, show_version)
        return None if context.invoked_subcommand else Request(options, help=context.get_help())

    return _with_signature(parsed, own)


def _shared_options(values: dict[str, Any]) -> dict[str, Any]:
    """Take the shared options out of ``values``; those before the command's name count where they are not repeated."""
    before = values.pop("context").obj
    given = {parameter.name: values.pop(parameter.name) for parameter in SHARED_PARAMETERS[:-1]}
    earlier = before.options if isinstance(before, Shared) else {}
    return {name: value or earlier.get(name) if value in (None, False) else value for name, value in given.items()}


def _with_signature(function: Callable[..., Any], own: list[inspect.Parameter]) -> Callable[..., Any]:
    function.__signature__ = inspect.Signature([*own, *SHARED_PARAMETERS])  # type: ignore[attr-defined]
    return function


def _typer(own: list[inspect.Parameter], *, completion: bool) -> typer.Typer:
    application = typer.Typer(
        cls=HelpfulGroup,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    application.callback(invoke_without_command=True)(_group(own))
    return application


def _command(application: typer.Typer, name: str) -> Callable[[Work], Work]:
    """Register what follows as a command of ``application``."""

    def register(work: Work) -> Work:
        application.command(name, cls=HelpfulCommand)(_declared(work))
        return work

    return register


app = _typer([_parameter("version", Annotated[bool, typer.Option("--version", "-V")], False)], completion=True)
models = _typer([], completion=False)
app.add_typer(models, name="models")
cache = _typer([], completion=False)
app.add_typer(cache, name="cache")
library = _typer([], completion=False)
app.add_typer(library, name="library")
evaluate = _typer([], completion=False)
app.add_typer(evaluate, name="evaluate")


@_command(app, "ingest")
def _ingest(
    session: Session,
    paths: Annotated[list[Path], typer.Argument()],
    *,
    prune: Annotated[bool, typer.Option("--prune")] = False,
    encoding: Annotated[str | None, typer.Option("--encoding")] = None,
    password: Annotated[str | None, typer.Option("--password")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", "-t")] = None,
    watch: Annotated[bool, typer.Option("--watch")] = False,
) -> int:
    from chinese_alpaca_rag.cli.ingest import Wanted, ingest

    return ingest(session, Wanted(paths, prune, encoding, password, tag or ()), watch=watch)


@_command(app, "ask")
def _ask(
    session: Session,
    question: Annotated[list[str] | None, typer.Argument()] = None,
    passages: Annotated[str | None, typer.Option("--passages", "-k")] = None,
    questions: Annotated[Path | None, typer.Option("--questions", "-q")] = None,
    answers: Annotated[Path | None, typer.Option("--answers", "-a")] = None,
) -> int:
    from chinese_alpaca_rag.cli.ask import ask

    return ask(
        session, " ".join(question) if question else None, passages=passages, questions=questions, answers=answers
    )


@_command(app, "search")
def _search(
    session: Session,
    query: Annotated[list[str], typer.Argument()],
    passages: Annotated[str | None, typer.Option("--passages", "-k")] = None,
    *,
    within: Annotated[list[Path] | None, typer.Option("--in", "-i")] = None,
    tagged: Annotated[list[str] | None, typer.Option("--tag", "-t")] = None,
    pages: Annotated[str | None, typer.Option("--pages")] = None,
    since: Annotated[str | None, typer.Option("--since")] = None,
    until: Annotated[str | None, typer.Option("--until")] = None,
) -> int:
    from chinese_alpaca_rag.cli.search import Part, search

    return search(session, " ".join(query), passages, Part(within or (), tagged or (), pages, since, until))


@_command(app, "summarize")
def _summarize(session: Session, paths: Annotated[list[Path], typer.Argument()]) -> int:
    from chinese_alpaca_rag.cli.summarize import summarize

    return summarize(session, paths)


@_command(app, "sources")
def _sources(session: Session) -> int:
    from chinese_alpaca_rag.cli.sources import list_sources

    return list_sources(session)


@_command(app, "doctor")
def _doctor(session: Session) -> int:
    from chinese_alpaca_rag.cli.doctor import doctor

    return doctor(session)


@_command(models, "list")
def _models_list(session: Session) -> int:
    from chinese_alpaca_rag.cli.models import list_models

    return list_models(session)


@_command(models, "show")
def _models_show(session: Session, name: Annotated[str, typer.Argument()]) -> int:
    from chinese_alpaca_rag.cli.models import show_model

    return show_model(session, name)


@_command(models, "command")
def _models_command(
    session: Session,
    name: Annotated[str, typer.Argument()],
    *,
    engine: Annotated[str, typer.Option("--engine", "-e", autocompletion=_engines)] = "llama-server",
    host: Annotated[str | None, typer.Option("--host")] = None,
    port: Annotated[str | None, typer.Option("--port")] = None,
    kv_type: Annotated[str | None, typer.Option("--kv-type")] = None,
) -> int:
    from chinese_alpaca_rag.cli.serving import show_serving_command

    return show_serving_command(session, name, engine=engine, host=host, port=port, kv_type=kv_type)


@_command(cache, "list")
def _cache_list(session: Session) -> int:
    from chinese_alpaca_rag.cli.cache import list_prefixes

    return list_prefixes(session)


@_command(cache, "clear")
def _cache_clear(session: Session, document: Annotated[Path | None, typer.Option("--document", "-d")] = None) -> int:
    from chinese_alpaca_rag.cli.cache import clear_prefixes

    return clear_prefixes(session, document)


@_command(cache, "limit")
def _cache_limit(session: Session, size: Annotated[str | None, typer.Argument()] = None) -> int:
    from chinese_alpaca_rag.cli.cache import limit_prefixes

    return limit_prefixes(session, size)


@_command(library, "check")
def _library_check(session: Session) -> int:
    from chinese_alpaca_rag.cli.library import check

    return check(session)


@_command(library, "rebuild")
def _library_rebuild(session: Session, to: Annotated[Path | None, typer.Option("--to")] = None) -> int:
    from chinese_alpaca_rag.cli.library import rebuild

    return rebuild(session, to)


@_command(library, "export")
def _library_export(session: Session, file: Annotated[Path | None, typer.Argument()] = None) -> int:
    from chinese_alpaca_rag.cli.library import export

    return export(session, file)


@_command(library, "compact")
def _library_compact(session: Session) -> int:
    from chinese_alpaca_rag.cli.library import compact

    return compact(session)


@_command(evaluate, "retrieval")
def _evaluate_retrieval(
    session: Session,
    judged: Annotated[Path, typer.Argument()],
    *,
    k: Annotated[str | None, typer.Option("--k")] = None,
    within: Annotated[list[Path] | None, typer.Option("--in", "-i")] = None,
    tagged: Annotated[list[str] | None, typer.Option("--tag", "-t")] = None,
    contexts: Annotated[bool, typer.Option("--contexts")] = False,
) -> int:
    from chinese_alpaca_rag.cli.evaluate import evaluate_retrieval
    from chinese_alpaca_rag.cli.search import Part

    return evaluate_retrieval(session, judged, k, Part(within or (), tagged or ()), contexts=contexts)
