"""The record of what retention drops: without it, what was inserted and is not there would pass for a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from tasks.chunks import Chunk
from tasks.jobs import Job

_RECORD = """
    INSERT INTO spillway.drops (chunk, range_start, range_end, rows, bytes, dropped_by)
    VALUES (%s, %s, %s, %s, %s, %s)"""
# One row for all that nobody counted: how far it may reach.
_UNCOUNTED = """
    WITH moved AS (
        UPDATE spillway.drops SET range_end = greatest(range_end, %(until)s), dropped_by = %(by)s, dropped_at = now()
         WHERE rows IS NULL RETURNING id)
    INSERT INTO spillway.drops (chunk, range_end, dropped_by)
    SELECT 'not counted', %(until)s, %(by)s WHERE NOT EXISTS (SELECT FROM moved)"""


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
class Drops:
    """What is on record. `counted`: of each drop, where its range ended and its rows. `uncounted_until`: see above."""

    counted: tuple[tuple[datetime, int], ...]
    uncounted_until: datetime | None

    def rows_after(self, since: datetime | None) -> int:
        """Rows of dropped chunks that reached beyond `since`; of all where that is None."""
        return sum(rows for end, rows in self.counted if since is None or end > since)


def drops(connection: psycopg.Connection) -> Drops:
    """What is on record. Raises `psycopg.Error`."""
    found = connection.execute(
        "SELECT range_end, sum(rows)::bigint FROM spillway.drops GROUP BY range_end, rows IS NULL"
    )
    rows = found.fetchall()
    counted = tuple((end, count) for end, count in rows if count is not None)
    return Drops(counted, max((end for end, count in rows if count is None), default=None))
