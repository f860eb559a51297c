"""The `spillway` command: gathers the commands that each room registers, and turns errors into one line."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from infra.errors import SpillwayError, one_line

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Drain Redis Streams into a TimescaleDB hypertable, exactly once.",
)


@app.callback()
def _root() -> None:
    """Keeps the sub-commands sub-commands even if there is only one."""


def main() -> None:
    """Run the command line. Exit code 0 is success, 1 an error (said in one line), 2 a wrong usage."""
    for entry in sorted(entry_points(group="spillway.commands"), key=lambda e: e.name, reverse=True):
        app.add_typer(entry.load())
    try:
        app()
    except SpillwayError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(error: BaseException) -> None:
    """Print `error` as one line on standard error and exit with 1; `SPILLWAY_DEBUG=1` shows the traceback."""
    if os.environ.get("SPILLWAY_DEBUG"):
        raise error
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/red] {escape(one_line(error))}")
    sys.exit(1)


def escape(text: str) -> str:
    """`text` with rich's markup made harmless."""
    return text.replace("[", r"\[")
