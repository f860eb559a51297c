"""Cut the rows of a batch by time, so that no statement that looks for them in a hypertable plans for many chunks.

The time to plan a join with a hypertable grows faster than the square of the number of chunks in its span of time: 0.05
s for 500 and 20 s for 5,000. With slices it is proportional to that number.

The plan also locks every chunk in the span and each of its indexes, and the server has room for a limited number of
locks. So each of these statements, which only read, runs in a savepoint that is rolled back: that releases its locks.
Those of the rows that were inserted stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from infra.epoch import micros_sql, timestamptz_sql
from infra.tables.statements import micros_of
from infra.tables.table import Table
from tasks.base.stream_sql import fill_in
from tasks.table.chunks import has_chunks

# Chunks of one slice: with fewer, the statements themselves cost more than their plans.
CHUNKS_AT_ONCE = 200
_CHUNK_STARTS = fill_in(
    """
    SELECT {start} FROM timescaledb_information.chunks AS c
      JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = c.hypertable_name
                        AND h.relnamespace = to_regnamespace(quote_ident(c.hypertable_schema))
     WHERE c.range_start <= {last} AND c.range_end > {first}
     ORDER BY c.range_start""",
    start=micros_sql("c.range_start"),
    first=timestamptz_sql("%(first)s"),
    last=timestamptz_sql("%(last)s"),
)


@dataclass(frozen=True)
class TimeSlice:
    """Rows of the staging table and the span of their times, in microseconds since 1970; None if there are no times.

    `numbers`: of the rows; None means all of them.
    """

    first: int | None
    last: int | None
    numbers: Sequence[int] | None = None

    @property
    def span(self) -> dict[str, int | None]:
        """The parameters of `RowColumns.same_key`."""
        return {"first": self.first, "last": self.last}


def time_slices(
    connection: psycopg.Connection, table: Table, rows: TimeSlice, number: sql.Composable, time: sql.Composable,
    source: sql.Composable,
) -> list[TimeSlice]:  # fmt: skip
    """Cut `rows` so that each slice spans few chunks of `table`; all together if there are few. At least one slice.

    `number` and `time`: the columns of the table `source` that has the rows. Rows without a time are in the first
    slice. Raises `psycopg.Error`.
    """
    if not has_chunks(table) or rows.first is None or rows.last is None:
        return [rows]
    starts = [start for (start,) in connection.execute(_CHUNK_STARTS, {"table": table.regclass} | rows.span)]
    if len(starts) <= CHUNKS_AT_ONCE:
        return [rows]
    which = sql.SQL("" if rows.numbers is None else "WHERE {n} = ANY(%(numbers)s::bigint[])").format(n=number)
    query = sql.SQL("SELECT {n}, {time} FROM {source} {which}").format(
        n=number, time=micros_of(time), source=source, which=which
    )
    values = {} if rows.numbers is None else {"numbers": list(rows.numbers)}
    found = connection.execute(query, values).fetchall()
    timed = np.array([pair for pair in found if pair[1] is not None], np.int64).reshape(-1, 2)
    slices = list(cut_by_time(timed, np.array(starts, np.int64)))
    if timeless := [row for row, moment in found if moment is None]:
        first = slices[0] if slices else TimeSlice(rows.first, rows.first, [])
        slices[:1] = [replace(first, numbers=[*timeless, *(first.numbers or [])])]
    return slices or [rows]


def cut_by_time(timed: NDArray[np.int64], starts: NDArray[np.int64]) -> Iterator[TimeSlice]:
    """Slices of rows, each a number and a time, that span at most `CHUNKS_AT_ONCE` of the chunks that start so."""
    timed = timed[np.argsort(timed[:, 1])]
    chunk = np.searchsorted(starts, timed[:, 1], side="right")
    at = 0
    while at < len(timed):
        stop = int(np.searchsorted(chunk, chunk[at] + CHUNKS_AT_ONCE))
        yield TimeSlice(int(timed[at, 1]), int(timed[stop - 1, 1]), timed[at:stop, 0].tolist())
        at = stop
