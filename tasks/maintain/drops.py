"""Dropping a chunk, and the record of it: without that, what was inserted and is not there would pass for a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from infra.errors.exceptions import Terminal
from infra.table import events_name
from tasks.maintain.contention import exclusive_lock
from tasks.maintain.jobs import Job
from tasks.table.chunks import Chunk

# By the clock and not by the beginning of the transaction: with the chunk locked, a load that began later than this is
# none of those whose rows go. `tasks/maintain/dropped_rows.py` goes by it.
_RECORD = """
    INSERT INTO spillway.drops (chunk, range_start, range_end, rows, bytes, dropped_by, dropped_at)
    VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp())"""
# One row for all that nobody counted: how far it may reach.
_UNCOUNTED = """
    WITH moved AS (
        UPDATE spillway.drops SET range_end = greatest(range_end, %(until)s), dropped_by = %(by)s, dropped_at = now()
         WHERE rows IS NULL RETURNING id)
    INSERT INTO spillway.drops (chunk, range_end, dropped_by)
    SELECT 'not counted', %(until)s, %(by)s WHERE NOT EXISTS (SELECT FROM moved)"""
_DROP = """
    SELECT parse_ident(dropped::text)
      FROM drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz) AS dropped"""


def drop_and_record(connection: psycopg.Connection, chunk: Chunk, rows: int, size: int | None, by: str) -> None:
    """Drop `chunk` and put down that its `rows` went, in the caller's transaction, in which nobody else writes to it.

    Raises what `tasks.maintain.contention.alone` does, and `Terminal` where not this chunk alone would go.
    """
    with exclusive_lock(connection, chunk):
        record_drop(connection, chunk, rows, size, by)
        found = connection.execute(_DROP, [events_name(), chunk.range_end, chunk.range_start])
        dropped = [".".join(names) for (names,) in found]
        if dropped != [f"{chunk.schema}.{chunk.table}"]:  # rolled back by this
            raise Terminal(
                f"drop {chunk.schema}.{chunk.table}: expected to drop this chunk alone, found {dropped}; nothing was"
                " dropped: run it again, and if it says the same, look for chunks that overlap (SELECT"
                f" show_chunks('{events_name()}'))"
            )


def record_drop(connection: psycopg.Connection, chunk: Chunk, rows: int, size: int | None, by: str) -> None:
    """Put down in the caller's transaction, which drops the chunk, that `rows` go with it. Raises `psycopg.Error`."""
    name = f"{chunk.schema}.{chunk.table}"
    connection.execute(_RECORD, [name, chunk.range_start, chunk.range_end, rows, size, by])


def policy_reached(jobs: Sequence[Job], now: datetime) -> datetime | None:
    """The time before which the database's own jobs may have dropped chunks; None where there is no job.

    By their settings and not by their last run, which the server does not know of where it was started by hand.
    """
    return max((now - job.after for job in jobs if job.after), default=None)


def record_uncounted(connection: psycopg.Connection, until: datetime, by: str) -> None:
    """Put down that chunks that end by `until` may be gone without having been counted. Raises `psycopg.Error`."""
    connection.execute(_UNCOUNTED, {"until": until, "by": by})


@dataclass(frozen=True)
class DropRecords:
    """What is on record. `counted`: of each drop, where its range ended and its rows. `uncounted_until`: see above."""

    counted: tuple[tuple[datetime, int], ...]
    uncounted_until: datetime | None

    def rows_after(self, since: datetime | None) -> int:
        """Rows of dropped chunks that reached beyond `since`; of all where that is None."""
        return sum(rows for end, rows in self.counted if since is None or end > since)


def read_drops(connection: psycopg.Connection) -> DropRecords:
    """What is on record. Raises `psycopg.Error`."""
    found = connection.execute(
        "SELECT range_end, sum(rows)::bigint FROM spillway.drops GROUP BY range_end, rows IS NULL"
    )
    rows = found.fetchall()
    counted = tuple((end, count) for end, count in rows if count is not None)
    return DropRecords(counted, max((end for end, count in rows if count is None), default=None))
