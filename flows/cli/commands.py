"""The commands of the flows. Prefect is imported only when a command runs: `--help` stays quick."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import archive, backfill, grants, maintain, quarantine, reconcile, status, stream
from flows.environment import set_prefect_defaults

app = typer.Typer()
app.add_typer(status.app)
app.add_typer(reconcile.app)
app.add_typer(maintain.app)
app.add_typer(backfill.app)
app.add_typer(grants.app)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(stream.app, name="stream")
app.add_typer(archive.app, name="archive")


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
    set_prefect_defaults(quiet=not verbose)
    from flows.cli.drain import drain_in_terminal

    drain_in_terminal(stream, max_events, until, as_json)


@app.command()
def serve() -> None:
    """Run the scheduled flows in this process: no work pool and no worker, for small set-ups."""
    set_prefect_defaults()
    from flows.deployments import serve_deployments

    serve_deployments()
