"""Drop a chunk and record it: without the record, its rows would count as lost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.exceptions import Terminal
from infra.tables.table import Table
from infra.tables.time_sql import time_value
from tasks.maintain.contention import exclusive_lock
from tasks.maintain.jobs import Job
from tasks.table.chunks import Chunk

# The time of the clock, not of the transaction's start: the chunk is locked by now, so a load that starts later loses
# no rows to this drop. `tasks/maintain/dropped_rows.py` depends on it.
_RECORD = """
    INSERT INTO spillway.drops ("table", chunk, range_start, range_end, rows, bytes, dropped_by, dropped_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp())"""
# One row for all uncounted drops of a table: how far they may reach.
_UNCOUNTED = """
    WITH moved AS (
        UPDATE spillway.drops SET range_end = greatest(range_end, %(until)s), dropped_by = %(by)s, dropped_at = now()
         WHERE "table" = %(table)s AND rows IS NULL RETURNING id)
    INSERT INTO spillway.drops ("table", chunk, range_end, dropped_by)
    SELECT %(table)s, 'not counted', %(until)s, %(by)s WHERE NOT EXISTS (SELECT FROM moved)"""
# The bounds have the type of the time column, as the server demands.
_DROP: LiteralString = """
    SELECT parse_ident(dropped::text)
      FROM drop_chunks(%(table)s::regclass, older_than => {end}, newer_than => {start}) AS dropped"""
_READ = """
    SELECT range_end, sum(rows)::bigint FROM spillway.drops WHERE "table" = %s GROUP BY range_end, rows IS NULL"""


def drop_and_record(
    connection: psycopg.Connection, table: Table, chunk: Chunk, rows: int, size: int | None, by: str
) -> None:
    """Drop `chunk` of `table` and record its `rows`, in the caller's transaction, which has blocked writers.

    Raises what `exclusive_lock` does, and `Terminal` if the server would drop other chunks too.
    """
    with exclusive_lock(connection, chunk):
        record_drop(connection, table, chunk, rows, size, by)
        statement = sql.SQL(_DROP).format(end=time_value(table, "%(end)s"), start=time_value(table, "%(start)s"))
        bounds = {"table": table.regclass, "end": chunk.range_end, "start": chunk.range_start}
        found = connection.execute(statement, bounds)
        dropped = [".".join(names) for (names,) in found]
        if dropped != [f"{chunk.schema}.{chunk.table}"]:  # the exception rolls the drop back
            raise Terminal(
                f"drop {chunk.schema}.{chunk.table}: expected to drop only this chunk, found {dropped}; nothing was"
                " dropped; run `spillway maintain` again, and if the error stays, look for overlapping chunks (SELECT"
                f" show_chunks('{table.regclass}'))"
            )


def record_drop(
    connection: psycopg.Connection, table: Table, chunk: Chunk, rows: int, size: int | None, by: str
) -> None:
    """Record the drop of a chunk of `table` with `rows`, in the transaction that drops it. Raises `psycopg.Error`."""
    name = f"{chunk.schema}.{chunk.table}"
    connection.execute(_RECORD, [table.regclass, name, chunk.range_start, chunk.range_end, rows, size, by])


def policy_reached(jobs: Sequence[Job], now: datetime) -> datetime | None:
    """The time before which the database's own jobs may have dropped chunks; None if there is no job.

    Derived from their settings, since the server does not record runs that were started by hand.
    """
    return max((now - job.after for job in jobs if job.after), default=None)


def record_uncounted(connection: psycopg.Connection, table: Table, until: datetime, by: str) -> None:
    """Record that chunks of `table` that end by `until` may have been dropped uncounted. Raises `psycopg.Error`."""
    connection.execute(_UNCOUNTED, {"table": table.regclass, "until": until, "by": by})


@dataclass(frozen=True)
class DropRecords:
    """The recorded drops of a table. `counted`: end of range and rows of each. `uncounted_until`: see
    `record_uncounted`."""

    counted: tuple[tuple[datetime, int], ...]
    uncounted_until: datetime | None

    def rows_after(self, since: datetime | None) -> int:
        """Rows of the dropped chunks that reached beyond `since`; of all of them if it is None."""
        return self.sums()(since)

    def sums(self) -> Callable[[datetime | None], int]:
        """`rows_after` as a function that is quick for many times."""
        ordered = sorted(self.counted)
        ends = [end for end, _ in ordered]
        rows = sums_from([count for _, count in ordered])
        return lambda since: rows[0 if since is None else bisect_right(ends, since)]


def sums_from(numbers: Sequence[int]) -> list[int]:
    """For each position of `numbers`, the sum from there to the end; one more item, 0, for the end itself."""
    return list(accumulate(reversed(numbers), initial=0))[::-1]


def read_drops(connection: psycopg.Connection, table_name: str) -> DropRecords:
    """The recorded drops of a table, by its name in the ledger. Raises `psycopg.Error`."""
    rows = connection.execute(_READ, [table_name]).fetchall()
    counted = tuple((end, count) for end, count in rows if count is not None)
    return DropRecords(counted, max((end for end, count in rows if count is None), default=None))
