"""The `spillway` command: gathers the commands that each room registers, and turns errors into one line."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from infra.errors.exceptions import PrefectUnreachable, SpillwayError, WrongUse
from infra.errors.exit_codes import ExitCode, exit_code_lines
from infra.errors.redact import one_line


def gather() -> typer.Typer:
    """The command line, with the commands of every entry point in the group `spillway.commands`."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        help="Drain Redis Streams into a TimescaleDB hypertable, exactly once.",
        epilog="Exit codes:\n\n" + "\n\n".join(exit_code_lines()),
    )
    for entry in sorted(entry_points(group="spillway.commands"), key=lambda e: e.name, reverse=True):
        app.add_typer(entry.load())
    return app


def main() -> NoReturn:
    """Run the command line; it ends with one of `ExitCode`. An error is one line on standard error."""
    try:
        gather()()
    except SpillwayError as error:
        fail(error)
    except UnicodeEncodeError:
        odd = [argument for argument in sys.argv[1:] if not _is_text(argument)]
        if not odd:
            raise
        fail(WrongUse(f"{odd[0]}: expected an argument in UTF-8; rename what has this name"))
    except KeyboardInterrupt:
        pass
    sys.exit(ExitCode.INTERRUPTED)


def _is_text(argument: str) -> bool:
    """Python keeps bytes of an argument that are not UTF-8 as halves of surrogate pairs."""
    return argument.encode(errors="replace").decode() == argument


def fail(error: SpillwayError) -> NoReturn:
    """Print `error` as one line on standard error and exit with its code; `SPILLWAY_DEBUG=1` shows the traceback."""
    if os.environ.get("SPILLWAY_DEBUG"):
        raise error
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[red]error:[/red] {escape(one_line(error))}")
    if isinstance(error, PrefectUnreachable):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code)
    sys.exit(error.exit_code)
