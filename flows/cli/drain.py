"""`spillway drain`: run the flow `drain` in this process."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.cli.options import Json, Streams, Verbose
from flows.cli.run import run_flow
from infra.display import display_name
from infra.output import print_json, print_table, result, warn

app = typer.Typer()

_NUMBERS = ("read", "inserted", "duplicates", "quarantined", "lost", "events_per_second", "lag")
_NOT_IN_JSON = ("streams", "warnings", "losses")


@app.command("drain")
def drain_command(
    stream: Streams,
    max_events: Annotated[
        int | None, typer.Option(min=1, help="Read at most this many entries of each stream.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this entry id or ISO 8601 time.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0, help="Read no further batch after this many seconds.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Only a fixed part of the streams, such as 2/8: the second of eight workers.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Drain streams into the events table, exactly once. The schedule runs the same flow."""
    totals, error = run_flow(
        "drain", verbose=verbose, stream=stream, max_events=max_events, until=until, time_limit=time_limit, shard=shard
    )
    for warning in totals["warnings"]:
        warn(warning)
    if as_json:
        print_json({name: value for name, value in totals.items() if name not in _NOT_IN_JSON})
    else:
        _print(totals)
    if error is not None:
        raise error


def _print(totals: dict[str, Any]) -> None:
    streams = totals["streams"]
    if not streams:
        result("no stream matches: nothing to drain")
        return
    print_table(
        ["stream", *(name.replace("events_per_second", "events/s") for name in _NUMBERS)],
        [[display_name(one["stream"]), *(one[name] for name in _NUMBERS)] for one in streams],
        total=["all", *(totals[name] for name in _NUMBERS)] if len(streams) > 1 else None,
        drop=("events/s", "lag", "duplicates"),
    )
