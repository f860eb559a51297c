"""The database's own jobs for a hypertable: compression policies and retention policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg import sql

from infra.tables.table import Table, TableKind

Kind = Literal["compression", "retention"]
_PROCEDURES = {"compression": "policy_compression", "retention": "policy_retention"}

_CHUNK_GONE = "no chunk found with ID"  # an internal error of TimescaleDB: it has no SQLSTATE, and is not translated


@dataclass(frozen=True)
class Job:
    """A policy and its last run.

    `after`: the age at which it acts; None if it is not set by age. `failed`: None if it has never finished. `error`:
    the server's message. `running`: now; then everything except `last_start` is about the run before.
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

    @property
    def met_a_drop(self) -> bool:
        """Whether it failed because somebody, such as this run, dropped a chunk at that moment. Its next run works."""
        return bool(self.failed and self.error and self.error.startswith(_CHUNK_GONE))

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


# The server writes an infinite time for never.
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


# Without TimescaleDB there is no such setting.
_EDITION = """
    SELECT current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'"""


def read_jobs(connection: psycopg.Connection, table: Table, kind: Kind) -> list[Job]:
    """The policies of one kind; more than one only if somebody added one by hand. Raises `psycopg.Error`."""
    if table.kind is not TableKind.HYPERTABLE:
        return []
    rows = connection.execute(_JOBS, {"table": table.regclass, "procedure": _PROCEDURES[kind]})
    return [
        Job(job, kind, after, enabled, start, seconds, success, failed, error if failed else None, next_start, running)
        for job, after, enabled, start, seconds, success, failed, error, next_start, running in rows
    ]


# Failed runs; with timescaledb.enable_job_execution_logging all, for a month. A role that owns neither the job nor the
# database sees none.
_RUNS = """
    SELECT start_time, extract(epoch FROM finish_time - start_time)::float8 FROM timescaledb_information.job_history
     WHERE job_id = ANY(%(jobs)s) AND finish_time >= %(since)s"""
_HAS_HISTORY = "SELECT to_regclass('timescaledb_information.job_history') IS NOT NULL"  # from 2.15 on
_SAME_RUN = timedelta(seconds=1)


def read_job_runs(
    connection: psycopg.Connection, jobs: Sequence[Job], since: datetime
) -> list[tuple[datetime, float | None]]:
    """Start and seconds of each job's runs since then that the database's history has, and of its last run, in order of
    time. Raises `psycopg.Error`."""
    if not jobs:
        return []
    found: list[tuple[datetime, float | None]] = []
    if connection.execute(_HAS_HISTORY).fetchone() == (True,):
        found += connection.execute(_RUNS, {"jobs": [job.id for job in jobs], "since": since}).fetchall()
    for job in jobs:
        last = job.last_start
        if last is not None and not any(abs(start - last) < _SAME_RUN for start, _ in found):
            found.append((last, job.last_seconds))
    return sorted(found, key=lambda run: run[0])


Edition = Literal["Community", "Apache"]


def read_edition(connection: psycopg.Connection) -> Edition | None:
    """The edition of TimescaleDB in this database; None if it is not installed. Raises `psycopg.Error`."""
    row = connection.execute(_EDITION).fetchone()
    if row is None:
        return None
    return "Community" if row[0] == "timescale" else "Apache"


def is_community(connection: psycopg.Connection) -> bool:
    """Whether the server has compression and policies. The Apache edition has neither."""
    return read_edition(connection) == "Community"


@dataclass(frozen=True)
class Change:
    """One change that brings the server in line with the settings. `what`: describes it, as done."""

    what: str
    statement: sql.Composed


def enable_again(job: Job) -> Change:
    """The change that enables a disabled job again."""
    statement = sql.SQL("SELECT alter_job({}, scheduled => true)").format(job.id)
    return Change(f"{job.kind} policy: job {job.id} was disabled, enabled again", statement)


# DDL on the table waits for running loads, and new loads wait for it. So it gives up early, and the step is retried.
_LOCK_TIMEOUT = "3s"


def apply_changes(connection: psycopg.Connection, changes: list[Change]) -> None:
    """Make all changes or none. Raises `psycopg.Error`: a transient one if loads left no gap."""
    if not changes:
        return
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
        for change in changes:
            connection.execute(change.statement)


def format_age(span: timedelta) -> str:
    """`7 days`, `36 hours`, `90 minutes` and so on, for messages."""
    seconds = round(span.total_seconds())
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0 and seconds >= size:
            return f"{seconds // size} {name}{'s' if seconds != size else ''}"
    return f"{seconds} seconds"
