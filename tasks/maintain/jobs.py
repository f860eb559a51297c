"""The database's own jobs for `events`: policies that compress, and policies that drop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg import sql

from infra.table import events_name

Kind = Literal["compression", "retention"]
_PROCEDURES = {"compression": "policy_compression", "retention": "policy_retention"}


@dataclass(frozen=True)
class Job:
    """A policy: `after` which age it acts (None where that is not how it is set), and how its last run ended.

    `enabled`: nobody has put it to sleep. `failed`: None where it has never ended. `error`: the server's words.
    `running`: at this moment; what is said of the last run is then of the one before, but for `last_start`.
    """

    id: int
    kind: Kind
    after: timedelta | None
    enabled: bool
    last_start: datetime | None = None
    last_seconds: float | None = None
    last_success: datetime | None = None
    failed: bool | None = None
    error: str | None = None
    next_start: datetime | None = None
    running: bool = False

    def __str__(self) -> str:
        if not self.enabled:
            return f"job {self.id} is disabled"
        if self.running:
            return f"job {self.id} is running"
        if self.failed:
            return f"job {self.id} failed: {self.error or 'see the log of the database server'}"
        if self.last_start is None:
            return f"job {self.id} has not run yet"
        return f"job {self.id} last ran {self.last_start:%Y-%m-%d %H:%M}" + (" and succeeded" * (self.failed is False))


# An infinite time stands for never.
_JOBS = """
    SELECT j.job_id, coalesce(j.config->>'compress_after', j.config->>'drop_after')::interval, j.scheduled,
           nullif(s.last_run_started_at, '-infinity'), extract(epoch FROM s.last_run_duration)::float8,
           nullif(s.last_successful_finish, '-infinity'), s.last_run_status = 'Failed', e.err_message,
           nullif(nullif(s.next_start, '-infinity'), 'infinity'), s.job_status IS NOT DISTINCT FROM 'Running'
      FROM timescaledb_information.jobs AS j
      JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = j.hypertable_name
                        AND h.relnamespace = to_regnamespace(quote_ident(j.hypertable_schema))
      LEFT JOIN timescaledb_information.job_stats AS s USING (job_id)
      LEFT JOIN LATERAL (SELECT err_message FROM timescaledb_information.job_errors AS e
                          WHERE e.job_id = j.job_id ORDER BY e.start_time DESC LIMIT 1) AS e ON true
     WHERE j.proc_name = %(procedure)s
     ORDER BY j.job_id"""


def read_jobs(connection: psycopg.Connection, kind: Kind) -> list[Job]:
    """The policies of one kind, none or one where nobody has tinkered. Raises `psycopg.Error`."""
    rows = connection.execute(_JOBS, {"table": events_name(), "procedure": _PROCEDURES[kind]})
    return [
        Job(job, kind, after, enabled, start, seconds, success, failed, error if failed else None, next_start, running)
        for job, after, enabled, start, seconds, success, failed, error, next_start, running in rows
    ]


def is_community(connection: psycopg.Connection) -> bool:
    """Whether the server has compression and policies: the Apache edition has neither."""
    row = connection.execute("SELECT current_setting('timescaledb.license')").fetchone()
    return row is not None and row[0] == "timescale"


@dataclass(frozen=True)
class Change:
    """Something that makes the server agree with the settings. `what`: done, in words."""

    what: str
    statement: sql.Composed


def enable_again(job: Job) -> Change:
    """Wake a job that somebody has put to sleep."""
    statement = sql.SQL("SELECT alter_job({}, scheduled => true)").format(job.id)
    return Change(f"{job.kind} policy: job {job.id} was disabled, enabled again", statement)


# DDL on `events` waits for the loads under way, and new ones wait behind it: not for long. The step is tried again.
_LOCK_TIMEOUT = "3s"


def apply_changes(connection: psycopg.Connection, changes: list[Change]) -> None:
    """Make all changes or none. Raises `psycopg.Error`, a passing one where loads left no gap."""
    if not changes:
        return
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
        for change in changes:
            connection.execute(change.statement)


def format_age(span: timedelta) -> str:
    """`7 days`, `36 hours`, `90 minutes` …, for people."""
    seconds = round(span.total_seconds())
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0 and seconds >= size:
            return f"{seconds // size} {name}{'s' if seconds != size else ''}"
    return f"{seconds} seconds"
