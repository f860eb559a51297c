"""Drop a chunk and record it: without the record, its rows would count as lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from infra.errors.exceptions import Terminal
from infra.tables.events import events_name
from tasks.maintain.contention import exclusive_lock
from tasks.maintain.jobs import Job
from tasks.table.chunks import Chunk

# The time of the clock, not of the transaction's start: the chunk is locked by now, so a load that starts later loses
# no rows to this drop. `tasks/maintain/dropped_rows.py` depends on it.
_RECORD = """
    INSERT INTO spillway.drops ("table", chunk, range_start, range_end, rows, bytes, dropped_by, dropped_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp())"""
# One row for all uncounted drops: how far they may reach.
_UNCOUNTED = """
    WITH moved AS (
        UPDATE spillway.drops SET range_end = greatest(range_end, %(until)s), dropped_by = %(by)s, dropped_at = now()
         WHERE "table" = %(table)s AND rows IS NULL RETURNING id)
    INSERT INTO spillway.drops ("table", chunk, range_end, dropped_by)
    SELECT %(table)s, 'not counted', %(until)s, %(by)s WHERE NOT EXISTS (SELECT FROM moved)"""
_DROP = """
    SELECT parse_ident(dropped::text)
      FROM drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz) AS dropped"""


def drop_and_record(connection: psycopg.Connection, chunk: Chunk, rows: int, size: int | None, by: str) -> None:
    """Drop `chunk` and record its `rows`, in the caller's transaction, which has blocked writers.

    Raises what `exclusive_lock` does, and `Terminal` if the server would drop other chunks too.
    """
    with exclusive_lock(connection, chunk):
        record_drop(connection, chunk, rows, size, by)
        found = connection.execute(_DROP, [events_name(), chunk.range_end, chunk.range_start])
        dropped = [".".join(names) for (names,) in found]
        if dropped != [f"{chunk.schema}.{chunk.table}"]:  # the exception rolls the drop back
            raise Terminal(
                f"drop {chunk.schema}.{chunk.table}: expected to drop only this chunk, found {dropped}; nothing was"
                " dropped; run `spillway maintain` again, and if the error stays, look for overlapping chunks (SELECT"
                f" show_chunks('{events_name()}'))"
            )


def record_drop(connection: psycopg.Connection, chunk: Chunk, rows: int, size: int | None, by: str) -> None:
    """Record the drop of a chunk with `rows`, in the transaction that drops it. Raises `psycopg.Error`."""
    name = f"{chunk.schema}.{chunk.table}"
    connection.execute(_RECORD, [events_name(), name, chunk.range_start, chunk.range_end, rows, size, by])


def policy_reached(jobs: Sequence[Job], now: datetime) -> datetime | None:
    """The time before which the database's own jobs may have dropped chunks; None if there is no job.

    Derived from their settings, since the server does not record runs that were started by hand.
    """
    return max((now - job.after for job in jobs if job.after), default=None)


def record_uncounted(connection: psycopg.Connection, until: datetime, by: str) -> None:
    """Record that chunks that end by `until` may have been dropped uncounted. Raises `psycopg.Error`."""
    connection.execute(_UNCOUNTED, {"table": events_name(), "until": until, "by": by})


@dataclass(frozen=True)
class DropRecords:
    """The recorded drops. `counted`: end of range and rows of each. `uncounted_until`: see `record_uncounted`."""

    counted: tuple[tuple[datetime, int], ...]
    uncounted_until: datetime | None

    def rows_after(self, since: datetime | None) -> int:
        """Rows of the dropped chunks that reached beyond `since`; of all of them if it is None."""
        return sum(rows for end, rows in self.counted if since is None or end > since)


def read_drops(connection: psycopg.Connection) -> DropRecords:
    """The recorded drops. Raises `psycopg.Error`."""
    found = connection.execute(
        "SELECT range_end, sum(rows)::bigint FROM spillway.drops GROUP BY range_end, rows IS NULL"
    )
    rows = found.fetchall()
    counted = tuple((end, count) for end, count in rows if count is not None)
    return DropRecords(counted, max((end for end, count in rows if count is None), default=None))
