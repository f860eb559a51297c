"""The check at the end of maintenance: does everything work as it is set, and are all rows there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg

from infra.connections.clients import Clients
from infra.settings import Settings
from infra.tables.events import on_events
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import chunk_states
from tasks.maintain.compression import DesiredPolicy, desired_policy, read_current_policy
from tasks.maintain.forecast import Policies
from tasks.maintain.jobs import Job, is_community, read_jobs
from tasks.maintain.judge import CheckFacts, CheckResult, judge
from tasks.maintain.row_audit import audit_rows

_SLOWEST = """
    SELECT max(seconds)::float8 FROM spillway.ledger
     WHERE ranges = 1 AND loaded_at < %(stop)s AND loaded_at + seconds * interval '1 second' > %(start)s"""


def gather_facts(
    connection: psycopg.Connection, config: Settings, desired: DesiredPolicy | None, began: datetime
) -> CheckFacts:
    """Read what the check needs; nothing is changed. `began`: the start of this run. Raises `psycopg.Error`."""
    community, now = is_community(connection), server_now(connection)
    current = read_current_policy(connection)
    row_audit, counted = audit_rows(connection, None if config.keep is None else now - config.keep)
    states = tuple(
        replace(state, rows=counted[state.chunk], exact=True) if state.chunk in counted else state
        for state in chunk_states(connection)
    )
    oldest = connection.execute(on_events("SELECT min(time) FROM {events}")).fetchone()
    return CheckFacts(
        now=now,
        community=community,
        chunks=states,
        current=current,
        desired=desired,
        policies=Policies(
            compress=desired if community else None,
            compression_jobs=current.jobs,
            keep=config.keep,
            way=config.retention,
            retention_jobs=tuple(read_jobs(connection, "retention")),
            archive_after=config.archive_after,
        ),
        oldest=oldest[0] if oldest else None,
        row_audit=row_audit,
        slowest_load=slowest_load(connection, began, now, current.jobs),
    )


def slowest_load(connection: psycopg.Connection, began: datetime, now: datetime, jobs: Sequence[Job]) -> float | None:
    """Seconds of the longest load between `began` and `now`, or during the last run of one of the jobs."""
    spans = [(began, now)]
    spans += [
        (job.last_start, job.last_start + timedelta(seconds=job.last_seconds or 0)) for job in jobs if job.last_start
    ]
    found = []
    for start, stop in spans:
        row = connection.execute(_SLOWEST, {"start": start, "stop": stop}).fetchone()
        found += [row[0]] if row and row[0] is not None else []
    return max(found, default=None)


@step("check")
def check(clients: Clients, seconds: float, dry_run: bool) -> CheckResult:
    """Check the table at the end of a run that began `seconds` ago."""
    with clients.translate_errors("check"), clients.postgres() as connection:
        began = server_now(connection) - timedelta(seconds=seconds)
        return judge(gather_facts(connection, clients.settings, desired_policy(clients), began), dry_run)
