"""`spillway status`: the servers, the schedule and the streams on one page, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.stream_status import StreamStatus, quarantine_waiting, stream_statuses
from flows.environment import set_prefect_defaults
from infra.connections.clients import Clients
from infra.display import display_name, printable, printable_json
from infra.errors.exceptions import SpillwayError
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.servers.commands import required_engine
from infra.servers.engine import ServiceStatus
from infra.settings import settings
from tasks.streams.tail import find_streams

app = typer.Typer()


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show servers, schedule, streams and quarantine. Exit code 1 if a server or the schedule needs attention."""
    set_prefect_defaults(quiet=True)
    servers = required_engine(settings()).status()
    schedule, problems = _schedule()
    problems = [f"{one.service}: {one.note}" for one in servers if one.note] + problems
    streams: list[StreamStatus] = []
    waiting = None
    if all(one.state == "healthy" for one in servers):
        try:
            streams, waiting = _streams(schedule or [])
        except SpillwayError as error:
            problems.append(one_line(error))
    if as_json:
        found: dict[str, Any] = {
            "servers": [asdict(one) for one in servers],
            "schedule": schedule,
            "quarantine": waiting,
        }
        found |= {"streams": [asdict(one) for one in streams], "problems": problems}
        print(printable_json(orjson.dumps(found).decode()))
    else:
        _print(servers, schedule, streams, waiting, problems)
    if problems or any(one.state != "healthy" for one in servers):
        raise typer.Exit(ExitCode.FAILED)


def _schedule() -> tuple[list[dict[str, Any]] | None, list[str]]:
    """The deployments, None if no Prefect server is set or it does not answer; and what is wrong with them."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    from flows.cli.prefect_api import demand_prefect
    from flows.cli.schedule_status import deployment_statuses

    if not get_current_settings().api.url:
        return None, []
    try:
        demand_prefect()
    except SpillwayError as error:
        return None, [one_line(error)]
    with get_client(sync_client=True) as client:
        found = deployment_statuses(client, datetime.now(UTC))
    return [asdict(one) for one in found], [one.problem for one in found if one.problem]


def _streams(schedule: list[dict[str, Any]]) -> tuple[list[StreamStatus], int]:
    with Clients(settings(), "status") as clients, clients.translate_errors("status"), clients.postgres() as connection:
        wanted = [pattern for one in schedule if one["scheduled"] for pattern in _patterns(one["stream"])]
        # A name that no stream has is an error of its drain; here it is only absent.
        expected = find_streams(clients.redis, [one for one in wanted if any(c in one for c in "*?[")])[0]
        return stream_statuses(clients.redis, connection, expected), quarantine_waiting(connection)


def _patterns(stream: object) -> Iterable[str]:
    if isinstance(stream, str):
        return [stream]
    return [one for one in stream if isinstance(one, str)] if isinstance(stream, list) else []


def _print(
    servers: list[ServiceStatus],
    schedule: list[dict[str, Any]] | None,
    streams: list[StreamStatus],
    waiting: int | None,
    problems: list[str],
) -> None:
    # As wide as it wants to be if nobody's terminal limits it: a cut path in a pipe is of no use.
    console = Console(width=None if Console().is_terminal else 300, highlight=False)
    table = _table("service", "state", "port", "version", "data")
    for one in servers:
        table.add_row(*map(_text, (one.service, one.state, str(one.port), one.version, one.data)))
    console.print(table)
    console.print()
    if schedule:
        table = _table("deployment", "last run", "result", "next run")
        for found in schedule:
            last = found["last"]
            planned = _moment(found["next_due"]) if found["scheduled"] else "on demand"
            texts = (found["name"], _moment(last and last["due"]), last["state"] if last else "", planned)
            table.add_row(*map(_text, texts))
        console.print(table)
    elif schedule is None:
        console.print("schedule: no Prefect server answers (set PREFECT_API_URL to the one that runs the schedule)")
    else:
        console.print("schedule: nothing is deployed (prefect deploy --all, or spillway serve)")
    if streams:
        table = _table("stream", "lag", "last drained", "in quarantine", "lost")
        for stream in streams:
            lag = "not in Redis" if stream.lag is None else f"{stream.lag:,}"
            drained = _moment(stream.last_drained) or "never"
            table.add_row(escape(display_name(stream.name)), lag, drained, f"{stream.waiting:,}", f"{stream.lost:,}")
        console.print()
        console.print(table)
    if waiting:
        console.print(f"\n{waiting:,} entries wait in quarantine: spillway quarantine list")
    for problem in problems:
        shown = escape(printable(problem))
        Console(stderr=True).print(f"[red]attention:[/red] {shown}", highlight=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _text(text: str) -> str:
    return escape(printable(text))


def _moment(moment: datetime | None) -> str:
    """A time for people, in their own time zone."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
