"""The check at the end of maintenance: does everything work as it is set, and are all rows of a table there?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.tables.read_table import is_default
from infra.tables.statements import parameter_safe
from infra.tables.table import Table
from infra.tables.time_sql import moment_of, time_column
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.audited_chunks import audited_chunks
from tasks.maintain.chunk_states import chunk_states
from tasks.maintain.compression import desired_policy, read_current_policy
from tasks.maintain.forecast import Policies
from tasks.maintain.jobs import Job, read_edition, read_jobs
from tasks.maintain.judge import CheckFacts, CheckResult, judge
from tasks.maintain.maintained_table import MaintainedTable
from tasks.maintain.row_audit import OF_TABLE, audit_rows
from tasks.table.chunks import Chunk, has_chunks

_SLOWEST = f"""
    SELECT max(seconds)::float8 FROM spillway.ledger
     WHERE {OF_TABLE} AND ranges = 1
       AND loaded_at < %(stop)s AND loaded_at + seconds * interval '1 second' > %(start)s"""  # noqa: S608

_SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(%(table)s::regclass))::bigint
      FROM pg_partition_tree(%(table)s::regclass)"""


def gather_facts(connection: psycopg.Connection, one: MaintainedTable, began: datetime) -> CheckFacts:
    """Read what the check of a table needs; nothing is changed. `began`: the start of this run.

    Raises `psycopg.Error`, and `WrongUse` for options that do not fit the table.
    """
    table, options = one.table, one.options
    edition, now = read_edition(connection), server_now(connection)
    current = read_current_policy(connection, table)
    desired = desired_policy(one, current) if one.owned else None
    keep = options.keep if has_chunks(table) and one.owned else None
    row_audit, counted = audit_rows(connection, table, None if keep is None else now - keep)
    states = tuple(
        replace(state, rows=counted[state.chunk], exact=True) if state.chunk in counted else state
        for state in chunk_states(connection, table)
    )
    return CheckFacts(
        now=now,
        table=one,
        edition=edition,
        chunks=states,
        current=current,
        desired=desired,
        policies=Policies(
            compress=desired if edition == "Community" else None,
            compression_jobs=current.jobs,
            keep=keep,
            way=options.retention,
            retention_jobs=tuple(read_jobs(connection, table, "retention")),
            archive_after=one.archive_after,
        ),
        oldest=_oldest(
            connection,
            table,
            [state.chunk for state in states] if has_chunks(table) else audited_chunks(connection, table),
        ),
        row_audit=row_audit,
        slowest_load=slowest_load(connection, table, began, now, current.jobs),
        bytes=sum(state.bytes for state in states) if has_chunks(table) else _size(connection, table),
        rows=sum(state.rows for state in states) if has_chunks(table) else sum(counted.values()) if counted else None,
    )


def _size(connection: psycopg.Connection, table: Table) -> int:
    row = connection.execute(_SIZE, {"table": table.regclass}).fetchone()
    return row[0] if row else 0


def _oldest(connection: psycopg.Connection, table: Table, parts: Sequence[Chunk]) -> datetime | None:
    """The earliest time in a table; None if it has no rows or no times.

    `parts`: all of the table, the oldest first. They are read one by one: a query of the whole table is planned for all
    of them, though the oldest one answers it.
    """
    if table.time is None:
        return None
    found = None
    for part in parts:
        if found is not None and part.range_start > found:
            break
        with suppress(psycopg.errors.UndefinedTable):  # dropped meanwhile
            first = _first_time(connection, table, sql.Identifier(part.schema, part.table))
            found = min((time for time in (found, first) if time is not None), default=None)
    return found


def _first_time(connection: psycopg.Connection, table: Table, part: sql.Identifier) -> datetime | None:
    first = moment_of(table, sql.SQL("min({})").format(time_column(table)))
    statement = sql.SQL("SELECT {} FROM {}").format(first, parameter_safe(part))
    row = connection.execute(statement, {}).fetchone()
    return row[0] if row else None


def slowest_load(
    connection: psycopg.Connection, table: Table, began: datetime, now: datetime, jobs: Sequence[Job]
) -> float | None:
    """Seconds of the longest load into a table between `began` and `now`, or during the last run of one of the jobs."""
    spans = [(began, now)]
    spans += [
        (job.last_start, job.last_start + timedelta(seconds=job.last_seconds or 0)) for job in jobs if job.last_start
    ]
    found = []
    for start, stop in spans:
        values = {"table": table.regclass, "is_events": is_default(table), "start": start, "stop": stop}
        row = connection.execute(_SLOWEST, values).fetchone()
        found += [row[0]] if row and row[0] is not None else []
    return max(found, default=None)


@step("check")
def check(clients: Clients, one: MaintainedTable, seconds: float, dry_run: bool) -> CheckResult:
    """Check a table at the end of a run that began `seconds` ago."""
    with clients.translate_errors(f"{one.prefix}check"), clients.postgres() as connection:
        began = server_now(connection) - timedelta(seconds=seconds)
        return judge(gather_facts(connection, one, began), dry_run)
