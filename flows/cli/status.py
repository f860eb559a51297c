"""`spillway status`: servers, schedule and streams on one page, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer

from flows.cli.options import Json
from flows.cli.stream_status import StreamStatus, quarantine_waiting, stream_statuses
from flows.environment import set_prefect_defaults
from infra.connections.clients import Clients
from infra.display import display_name
from infra.errors.exceptions import SpillwayError
from infra.errors.exit_codes import ExitCode
from infra.errors.redact import one_line
from infra.output import labelled, moment, print_json, print_table, result
from infra.servers.commands import required_engine
from infra.servers.engine import ServiceStatus
from infra.settings import settings
from tasks.streams.find import find_streams

app = typer.Typer()


@app.command()
def status(as_json: Json = False) -> None:
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
        print_json(found)
    else:
        _print(servers, schedule, streams, waiting, problems)
    if problems or any(one.state != "healthy" for one in servers):
        raise typer.Exit(ExitCode.FAILED)


def _schedule() -> tuple[list[dict[str, Any]] | None, list[str]]:
    """The deployments, and their problems. The list is None if no Prefect server is set or it does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    from flows.cli.prefect_api import require_prefect
    from flows.cli.schedule_status import deployment_statuses

    if not get_current_settings().api.url:
        return None, []
    try:
        require_prefect()
    except SpillwayError as error:
        return None, [one_line(error)]
    with get_client(sync_client=True) as client:
        found = deployment_statuses(client, datetime.now(UTC))
    return [asdict(one) for one in found], [one.problem for one in found if one.problem]


def _streams(schedule: list[dict[str, Any]]) -> tuple[list[StreamStatus], int]:
    with Clients(settings(), "status") as clients, clients.translate_errors("status"), clients.postgres() as connection:
        wanted = [pattern for one in schedule if one["scheduled"] for pattern in _patterns(one["stream"])]
        # A scheduled name without a stream is an error of the drain; this command does not fail for it.
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
    rows = [[one.service, one.state, str(one.port), one.version, one.data] for one in servers]
    print_table(["service", "state", "port", "version", "data"], rows, rule=False)
    result("")
    if schedule:
        print_table(["deployment", "last run", "result", "next run"], map(_deployment_row, schedule), rule=False)
    elif schedule is None:
        result("schedule: no Prefect server answers (set PREFECT_API_URL to the one that runs the schedule)")
    else:
        result("schedule: nothing is deployed (spillway deploy, or spillway serve)")
    if streams:
        result("")
        columns = ["stream", "lag", "last drained", "in quarantine", "lost"]
        print_table(columns, map(_stream_row, streams), rule=False)
    if waiting:
        result("")
        result(f"{waiting:,} entries wait in quarantine: spillway quarantine list")
    for problem in problems:
        labelled("attention", problem, "red")


def _deployment_row(deployment: dict[str, Any]) -> list[object]:
    last = deployment["last"]
    next_run = moment(deployment["next_due"]) if deployment["scheduled"] else "on demand"
    if deployment["every"] is not None:
        next_run = f"every {deployment['every']:g} s, if there is work"
    return [deployment["name"], moment(last and last["due"]), last["state"] if last else "", next_run]


def _stream_row(stream: StreamStatus) -> list[object]:
    lag = "not in Redis" if stream.lag is None else stream.lag
    drained = moment(stream.last_drained) or "never"
    return [display_name(stream.name), lag, drained, stream.waiting, stream.lost]
