"""What `spillway status` shows, from the servers and from Prefect. A server that is away takes away its own part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

from flows.cli.stream_status import StreamStatus, stream_statuses
from flows.prefect_server import has_prefect_server
from infra.connections.clients import Clients
from infra.display import count_of, display_name
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from infra.servers.commands import required_engine
from infra.servers.engine import ServiceStatus
from infra.settings import settings
from tasks.maintain.chunk_states import format_chunk_count
from tasks.metrics.chunk_figures import ChunkFigures, read_chunk_figures, wanted_tables
from tasks.metrics.ledger_figures import LedgerFigures, read_ledger_figures
from tasks.metrics.stream_lag import denied_streams
from tasks.metrics.table_locks import describe_forgotten, describe_lock
from tasks.preflight.rights import check_rights
from tasks.streams.find import find_streams
from tasks.streams.glob import is_pattern, literal

# A table that is locked takes away its figures, not the page. As `spillway metrics` waits for one.
_LOCK_SECONDS = 1.0


@dataclass
class Status:
    """`schedule`: the deployments; None if no Prefect server is set or it does not answer. `waiting`: in quarantine.

    `problems`: of the servers and of the schedule. `attention`: what else needs attention, each with what to type.
    """

    servers: list[ServiceStatus]
    schedule: list[dict[str, Any]] | None
    problems: list[str]
    streams: list[StreamStatus] = field(default_factory=list)
    waiting: int | None = None
    chunks: list[ChunkFigures] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether the servers and the schedule need no attention."""
        return not self.problems and all(one.state == "healthy" for one in self.servers)

    def as_json(self) -> dict[str, Any]:
        return {
            "servers": [asdict(one) for one in self.servers],
            "schedule": self.schedule,
            "quarantine": self.waiting,
            "streams": [asdict(one) for one in self.streams],
            "chunks": [asdict(one) for one in self.chunks],
            "problems": self.problems,
            "attention": self.attention,
        }


def look() -> Status:
    """Read everything. Raises `SpillwayError` if no servers are known."""
    servers = required_engine(settings()).status()
    schedule, problems = _schedule()
    found = Status(servers, schedule, [f"{one.service}: {one.note}" for one in servers if one.note] + problems)
    if all(one.state == "healthy" for one in servers):
        try:
            _read_servers(found)
        except SpillwayError as error:
            found.problems.append(one_line(error))
    return found


def _schedule() -> tuple[list[dict[str, Any]] | None, list[str]]:
    """The deployments, and their problems. The list is None if no Prefect server is set or it does not answer."""
    if not has_prefect_server():
        return None, []
    from prefect.client.orchestration import get_client

    from flows.cli.prefect_api import require_prefect, translate_prefect_errors
    from flows.cli.schedule_status import deployment_statuses, scheduled_by_settings

    try:
        require_prefect()
        with translate_prefect_errors(), get_client(sync_client=True) as client:
            found = deployment_statuses(client, datetime.now(UTC), scheduled_by_settings(settings()))
    except SpillwayError as error:
        return None, [one_line(error)]
    return [asdict(one) for one in found], [one.problem for one in found if one.problem]


def _read_servers(found: Status) -> None:
    limit = min(settings().lock_timeout, _LOCK_SECONDS)
    config = settings().model_copy(update={"lock_timeout": limit})
    with Clients(config, "status") as clients, clients.translate_errors("status"), clients.postgres() as connection:
        wanted = _scheduled_streams(found.schedule)
        check_rights(connection, "status")
        # A scheduled name without a stream is an error of the drain; this command does not fail for it.
        names = [literal(one) for one in wanted if not is_pattern(one)]
        expected = [*names, *find_streams(clients.redis, [one for one in wanted if is_pattern(one)])[0]]
        figures = read_ledger_figures(connection)
        found.streams = stream_statuses(clients.redis, figures, expected)
        found.waiting = sum(one.waiting for one in figures)
        denied = [one.name for one in found.streams if one.denied]
        found.attention = [denied_streams(denied, "status", wanted)] if denied else []
        if forgotten := describe_forgotten(connection):
            found.attention.insert(0, forgotten)
        tables = wanted_tables(connection, config)
        try:
            found.chunks = read_chunk_figures(connection, tables)
        except psycopg.errors.LockNotAvailable:
            found.attention.append(describe_lock(connection, tables))
        found.attention += [*_late_streams(found.streams, expected), *_attention(figures, found.chunks)]


def _scheduled_streams(schedule: Sequence[dict[str, Any]] | None) -> list[str]:
    """The names and patterns that are drained by Prefect's schedule; those of the settings if it drains none."""
    drains = [one for one in schedule or [] if one["scheduled"] and one["name"].startswith("drain/")]
    return [pattern for one in drains for pattern in _patterns(one["stream"])] or list(settings().scheduled_streams)


def _patterns(stream: object) -> Iterable[str]:
    if isinstance(stream, str):
        return [stream]
    return [one for one in stream if isinstance(one, str)] if isinstance(stream, list) else []


def _attention(figures: Sequence[LedgerFigures], chunks: Sequence[ChunkFigures]) -> list[str]:
    """Of the data: what does not balance, what is lost, what is late, and what waits, each with the next command."""
    found = []
    if uneven := [one.name for one in figures if not one.balanced]:
        found.append(f"the totals of {_some(uneven)} do not balance: spillway reconcile says where")
    if losses := {one.name: lost for one in figures if (lost := one.lost - one.accepted) > 0}:
        are_lost = count_of(sum(losses.values()), "entry is", "entries are")
        found.append(f"{are_lost} lost in {_some(list(losses))}: spillway reconcile says more")
    for table in dict.fromkeys((one.schema, one.table) for one in chunks):
        mine = [one for one in chunks if (one.schema, one.table) == table]
        for late, done in ((sum(one.to_compress for one in mine), "compressed"),
                           (sum(one.to_drop for one in mine), "dropped")):  # fmt: skip
            if late:
                what = f"{format_chunk_count(late)} of {display_name('.'.join(table))}"
                found.append(f"{what} should be {done} by now: spillway maintain --dry-run")
    if waiting := sum(one.waiting for one in figures):
        found.append(f"{count_of(waiting, 'entry waits', 'entries wait')} in quarantine: spillway quarantine list")
    return found


def _late_streams(streams: Sequence[StreamStatus], scheduled: Collection[str]) -> list[str]:
    """The streams of the schedule whose entries wait for longer than three intervals and a minute."""
    every = settings().drain_every
    if every is None:
        return []
    limit = 3 * every.total_seconds() + 60
    late = {one.name: one.behind_seconds for one in streams if one.name in scheduled and one.behind_seconds > limit}
    if not late:
        return []
    longest = f"{max(late.values()) / 60:,.0f} minutes"
    return [f"{_some(list(late))}: entries have waited for {longest}: spillway drain shows what keeps them"]


def _some(names: Sequence[str]) -> str:
    return display_name(names[0]) + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
