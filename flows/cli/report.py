"""`spillway report`: one HTML page about what was loaded, and what needs attention."""

from __future__ import annotations

import webbrowser
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import PydanticCustomError

from flows.environment import set_prefect_defaults
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError, Terminal, WrongUse
from infra.errors.redact import one_line
from infra.output import result, warn
from infra.setting_values import read_age
from infra.settings import settings

if TYPE_CHECKING:
    from tasks.report.frames import Frames

_PAGE = Path("report.html")
app = typer.Typer()


@app.command()
def report(
    since: Annotated[str, typer.Option(metavar="DURATION", help="How far back, such as 7d or 6h.")] = "7d",
    table: Annotated[str | None, typer.Option("--table", "-t", help="Only this table, such as public.events.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file to write; report.html by default.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Write the frames as Parquet files to this folder; the page only with --output or --open."),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write one page with rates, lag, load times, chunks, quarantine and runs. It needs no network to be read."""
    set_prefect_defaults(quiet=True)
    span = _span(since)
    config = settings()
    from tasks.report.frames import read_frames

    runs, problems = _runs(span)
    with Clients(config, "report") as clients:
        frames = read_frames(clients, span, table, runs)
    frames.attention.extend(problems)
    try:
        if data is not None:
            for path in frames.write(data):
                result(f"written: {path}")
            if output is None and not open_it:
                return
        output = output or _PAGE
        _write_page(frames, output, table)
    except OSError as error:
        raise Terminal(
            f"report: {error}; nothing else was changed; name another place with --output or --data"
        ) from None
    if open_it and not webbrowser.open(output.resolve().as_uri()):
        warn("no browser was found; open the file by hand")


def _write_page(frames: Frames, output: Path, table: str | None) -> None:
    from tasks.report.page import page

    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(frames, f"Spillway: {table or 'all tables'}"), encoding="utf-8")
    result(f"written: {output} ({output.stat().st_size / 1e3:,.0f} kB); {len(frames.attention)} to look at")


def _span(since: str) -> timedelta:
    try:
        found = read_age(since)
    except PydanticCustomError as error:
        raise WrongUse(f"report: --since: {error}, found {since!r}; nothing was written") from None
    if not isinstance(found, timedelta):
        raise WrongUse("report: --since: expected a positive duration such as 7d, found none; nothing was written")
    return found


def _runs(span: timedelta) -> tuple[list[dict[str, Any]], list[str]]:
    """The runs of the last `span` on Prefect's server, and what needs attention there. Nothing without a server."""
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        return [], []
    from flows.cli.report_runs import read_runs

    try:
        return read_runs(span)
    except SpillwayError as error:
        return [], [one_line(error)]
