"""One run of the command line: parse, carry out, and turn whatever happens into an exit code.

0 all done, 1 something failed, 2 wrong usage, 3 done but some files were refused, 130 stopped by Ctrl-C,
141 the reader of a pipe has gone. Errors with ``--json`` are a document
``{"error": {"type", "message", "hint"}}`` on standard output, with the same exit codes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from chinese_alpaca_rag.cli.output import Output, drop_output, prepare_streams
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.language import Words, user_language
from chinese_alpaca_rag.settings import load_settings

BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


def run(arguments: Sequence[str]) -> int:
    """Carry out the command line ``arguments`` (without the program's name) and return its exit code."""
    from chinese_alpaca_rag.cli import failures

    output = Output(as_json=_asks_for_json(arguments))
    prepare_streams(as_json=output.as_json)
    _quieten_dependencies()
    try:
        try:
            code = _carry_out(list(arguments), output)
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            failure = failures.explain(error)
            if failures.debugging():
                failures.show_traceback(error)
            failures.report(failure, output)
            code = failure.exit_code
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        return BROKEN_PIPE
    except OSError as error:  # the report itself, or the last words, could not be written
        drop_output()
        with contextlib.suppress(OSError, ValueError):
            failures.report(failures.explain(error), Output(as_json=False))
        return 1
    return code


def _carry_out(arguments: list[str], output: Output) -> int:
    from typer.main import get_command

    from chinese_alpaca_rag.cli.commands import Request, app
    from chinese_alpaca_rag.cli.session import Session
    from chinese_alpaca_rag.cli.wording import localize

    _speak_the_language_of_the_settings()
    command = get_command(app)
    localize(command, user_language())
    parsed = command.main(args=arguments, prog_name="alpaca-rag", standalone_mode=False)
    if not isinstance(parsed, Request):
        return int(parsed or 0)
    if parsed.work is None:
        return _missing_command(parsed.help, output)
    options = {key: value for key, value in parsed.options.items() if key not in ("json", "no_cache")}
    if parsed.options["no_cache"]:
        options["prefixes"] = False
    return parsed.work(Session(load_settings(options), output))


def _missing_command(help_page: str, output: Output) -> int:
    if output.as_json:
        raise WrongUsageError(
            Words(zh="没有写明命令。", en="No command is given."),
            hint=Words(zh="运行 alpaca-rag --help 查看说明。", en="Run alpaca-rag --help to see the commands."),
        )
    sys.stderr.write(help_page + "\n")
    return WrongUsageError.exit_code


def _speak_the_language_of_the_settings() -> None:
    """Let the settings file choose the language where the environment does not, for help and errors as well."""
    with contextlib.suppress(WrongUsageError):  # reported when the command loads its settings; help still works
        language = load_settings().language
        if language != user_language():
            os.environ["ALPACA_RAG_LANGUAGE"] = language


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is among the options: needed before parsing, because parsing may fail."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _quieten_dependencies() -> None:
    """Keep warnings and logs of dependencies off the terminal, unless the user is looking for a fault."""
    from chinese_alpaca_rag.cli.failures import debugging

    if not debugging():
        warnings.simplefilter("ignore")
        logging.getLogger().addHandler(logging.NullHandler())
