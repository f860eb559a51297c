"""`spillway drain` and `spillway serve`. Prefect is imported only when a command runs: `--help` stays quick."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer()


@app.command("drain")
def drain_command(
    stream: Annotated[list[str], typer.Option("--stream", "-s", help="Name or pattern; may be repeated.")],
    max_events: Annotated[int | None, typer.Option(min=1, help="Read no more entries of each stream.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop at this entry id or ISO 8601 time.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object on the last line.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log.")] = False,
) -> None:
    """Drain streams into the events table, once each: the same flow as the deployment, here and now."""
    _set_prefect_defaults()
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    from flows.terminal import drain_in_terminal

    drain_in_terminal(stream, max_events, until, as_json)


@app.command()
def serve() -> None:
    """Run the scheduled drain in this process: no work pool and no worker, for small set-ups."""
    _set_prefect_defaults()
    from flows.serve import serve_deployments

    serve_deployments()


def _set_prefect_defaults() -> None:
    """Where no Prefect server is set, Prefect starts one for the occasion.

    That one need not report to its makers; and the first time, when it makes its database, it may take longer than the
    20 s that Prefect gives it.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
