"""`spillway status`: servers, schedule, streams and tables on one page, and what needs attention."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from flows.cli.options import Json
from flows.cli.status_look import look
from flows.cli.status_page import print_status
from flows.environment import set_prefect_defaults
from infra.errors.exceptions import SpillwayError, WrongUse
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.output import RESULTS, in_place, labelled, moment_now, print_json, result

app = typer.Typer()

_SECONDS = 5.0  # a look costs both servers a few hundredths of a second, and Prefect's as much


@app.command()
def status(
    seconds: Annotated[
        float | None, typer.Argument(min=0.5, help="With --watch: the pause between two looks; 5 by default.")
    ] = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again until Ctrl-C, in place if in a terminal.")
    ] = False,
) -> None:
    """Show servers, schedule, streams, quarantine and tables. Exit code 1: a server or the schedule needs attention.

    The schedule does if it is overdue or paused, or if the last run of a scheduled deployment failed.
    """
    set_prefect_defaults(quiet=True)
    if seconds is not None and not watch:
        raise WrongUse(f"status: expected --watch before {seconds:g}; type `spillway status --watch {seconds:g}`")
    if watch:
        _watch(seconds or _SECONDS, as_json)
        return
    found = look()
    if as_json:
        print_json(found.as_json())
    else:
        print_status(found)
    if not found.healthy:
        raise typer.Exit(ExitCode.FAILED)


def _watch(seconds: float, as_json: bool) -> None:
    """Look again and again until Ctrl-C. What fails is shown, and the next look tries again."""
    try:
        while True:
            if as_json:
                _look_again(as_json)
            else:
                with in_place():
                    result(f"{moment_now()}, every {seconds:g} s until Ctrl-C")
                    result("")
                    _look_again(as_json, above=2)
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        pass


def _look_again(as_json: bool, above: int = 0) -> None:
    try:
        found = look()
    except WrongUse:
        raise
    except SpillwayError as error:
        labelled("attention", one_line(error), "red", None if as_json else RESULTS)
        return
    if as_json:
        print_json(found.as_json())
    else:
        print_status(found, RESULTS, above)
