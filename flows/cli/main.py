"""The `spillway` command: all commands in one place, and errors as one line."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

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
from infra.output import error as print_error
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
    try:
        app()
    except SpillwayError as error:
        fail(error)
    except UnicodeEncodeError:
        odd = [argument for argument in sys.argv[1:] if not _is_text(argument)]
        if not odd:
            raise
        fail(WrongUse(f"{odd[0]}: expected an argument in UTF-8; rename the file or stream that has this name"))
    except KeyboardInterrupt:
        pass
    sys.exit(ExitCode.INTERRUPTED)


def _is_text(argument: str) -> bool:
    """Whether an argument is UTF-8: Python keeps other bytes as halves of surrogate pairs."""
    return argument.encode(errors="replace").decode() == argument


def fail(error: SpillwayError) -> NoReturn:
    """Print `error` as one line on standard error and exit with its code; `SPILLWAY_DEBUG=1` shows the traceback."""
    if os.environ.get("SPILLWAY_DEBUG"):
        raise error
    print_error(one_line(error))
    if isinstance(error, PrefectUnreachable):  # Prefect's threads would keep retrying for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code)
    sys.exit(error.exit_code)
