"""The `spillway` command: all commands in one place, and errors as one line."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from flows.cli import (
    archive,
    automations,
    backfill,
    deploy,
    drain,
    grants,
    health,
    maintain,
    mapping,
    metrics,
    quarantine,
    reconcile,
    report,
    serve,
    status,
    stream,
)
from infra.errors.exceptions import PrefectUnreachable, SpillwayError, WrongUse
from infra.errors.exit_codes import ExitCode, exit_code_lines
from infra.errors.redact import one_line
from infra.json_lines import json_lines, use_json_lines, write_line, write_unexpected
from infra.output import error as print_error
from infra.output import show_what_cannot_be_encoded
from infra.producers import commands as producers
from infra.servers import commands as servers

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Drain Redis Streams into a TimescaleDB hypertable, exactly once.",
    epilog="Exit codes:\n\n" + "\n\n".join(exit_code_lines()),
)
for module in (
    servers,
    producers,
    drain,
    status,
    report,
    metrics,
    health,
    reconcile,
    maintain,
    backfill,
    grants,
    deploy,
    automations,
    serve,
):
    app.add_typer(module.app)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(stream.app, name="stream")
app.add_typer(mapping.app, name="mapping")
app.add_typer(archive.app, name="archive")

# Typer brings a click of its own, and publishes only one of its exceptions.
_CLICK_ERROR: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"spillway {version('spillway')}")
        raise typer.Exit


@app.callback()
def spillway(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Drain Redis Streams into a TimescaleDB hypertable, exactly once."""


def main() -> NoReturn:
    """Run the command line; it ends with one of `ExitCode`. An error is one line on standard error."""
    use_json_lines(whole_process=True)
    show_what_cannot_be_encoded()
    try:
        _run()
    except SpillwayError as error:
        fail(error)
    except UnicodeEncodeError:
        odd = [argument for argument in sys.argv[1:] if not _is_text(argument)]
        if not odd:
            raise
        fail(WrongUse(f"{odd[0]}: expected an argument in UTF-8; rename the file or stream that has this name"))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if not json_lines():
            raise
        write_unexpected(error)
        sys.exit(ExitCode.FAILED)
    sys.exit(ExitCode.INTERRUPTED)


def _run() -> None:
    """Run the command. If log lines are JSON, a wrong use is one line too, and not Typer's box."""
    if not json_lines():
        app()
        return
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(ExitCode.FAILED)
    except _CLICK_ERROR as error:
        print_error(f"{error.format_message()}; `{error.ctx.command_path} --help` lists what it takes")
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _is_text(argument: str) -> bool:
    """Whether an argument is UTF-8: Python keeps other bytes as halves of surrogate pairs."""
    return argument.encode(errors="replace").decode() == argument


def fail(error: SpillwayError) -> NoReturn:
    """Print `error` as one line on standard error and exit with its code; `SPILLWAY_DEBUG=1` shows the traceback."""
    if not os.environ.get("SPILLWAY_DEBUG"):
        print_error(one_line(error))
    elif json_lines():
        write_line(logging.ERROR, one_line(error), error=error)
    else:
        raise error
    if isinstance(error, PrefectUnreachable):  # Prefect's threads would keep retrying for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code)
    sys.exit(error.exit_code)
