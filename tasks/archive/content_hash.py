"""Summarize a set of rows, on the server and from files: count, first and last time, and a hash of their content.

Each row is hashed with SHA-256 over the output of PostgreSQL's `record_send` for its columns, each in its archive form
(`column_forms.py`); `record_send` puts the type and the length before each value. The hash of a set of rows has two
sums modulo 2^64: of the first and of the second eight bytes of the row hashes. So the order of rows does not matter,
and both sides can add up parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import LiteralString

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.epoch import from_micros, micros_sql
from infra.tables.statements import parameter_safe
from infra.tables.table import Table
from infra.tables.time_sql import moment, time_bound, time_column
from tasks.archive.copied_rows import row_hashes, time_us
from tasks.columns.column_forms import STANDARD_COLUMNS, Column, select_list
from tasks.table.chunks import Chunk

_MASK = (1 << 64) - 1

# SHA-256 and not MD5: a server in FIPS mode refuses MD5, and both cost the same here. OFFSET 0 keeps the planner from
# computing the hash twice. A sum of bigint is numeric and does not overflow.
_CONTENT: LiteralString = """
    SELECT day, count(*), {first}, {last},
           sum(('x' || left(hash, 16))::bit(64)::bigint), sum(('x' || substr(hash, 17, 16))::bit(64)::bigint)
      FROM (SELECT {moment} AS time, ({moment} AT TIME ZONE 'UTC')::date AS day,
                   encode(sha256(record_send(ROW({values}))), 'hex') AS hash
              FROM {table} AS e WHERE {column} >= {bound} AND {column} < {bound} OFFSET 0) AS rows
     GROUP BY day ORDER BY day"""


@dataclass(frozen=True)
class Content:
    """Count, first and last time in microseconds since 1970, and both hash sums of a set of rows.

    `a + b` is the content of the union of two disjoint sets.
    """

    rows: int = 0
    min_us: int | None = None
    max_us: int | None = None
    high: int = 0
    low: int = 0

    def __add__(self, other: Content) -> Content:
        lows = [us for us in (self.min_us, other.min_us) if us is not None]
        highs = [us for us in (self.max_us, other.max_us) if us is not None]
        return Content(
            self.rows + other.rows,
            min(lows, default=None),
            max(highs, default=None),
            (self.high + other.high) & _MASK,
            (self.low + other.low) & _MASK,
        )

    @property
    def hash(self) -> str:
        """Both sums as 32 hexadecimal digits."""
        return f"{self.high:016x}{self.low:016x}"

    @property
    def min_time(self) -> datetime | None:
        return None if self.min_us is None else from_micros(self.min_us)

    @property
    def max_time(self) -> datetime | None:
        return None if self.max_us is None else from_micros(self.max_us)


def server_content(
    connection: psycopg.Connection,
    table: Table,
    start: datetime,
    stop: datetime,
    columns: Sequence[Column] = STANDARD_COLUMNS,
) -> dict[date, Content]:
    """The content of the rows of `table` from `start` to before `stop`, by day (UTC); days without rows are left out.

    Raises `psycopg.Error`.
    """
    with fixed_texts(connection):
        first, last = sql.SQL(micros_sql("min(time)")), sql.SQL(micros_sql("max(time)"))
        query = sql.SQL(_CONTENT).format(
            values=select_list(columns, "e"),
            first=first,
            last=last,
            table=parameter_safe(table.identifier),
            moment=moment(table, "e"),
            column=time_column(table, "e"),
            bound=time_bound(table),
        )
        rows = connection.execute(query, [start, stop]).fetchall()
    return {
        day: Content(count, low, high, int(first) & _MASK, int(second) & _MASK)
        for day, count, low, high, first, second in rows
    }


def batch_content(batch: pa.RecordBatch, columns: Sequence[Column] = STANDARD_COLUMNS, time: str = "time") -> Content:
    """The content of a batch that has these columns, with the times in the column `time`."""
    if not batch.num_rows:
        return Content()
    times = time_us(batch, time)
    halves = np.frombuffer(b"".join(row_hashes(batch, columns)), ">u8").reshape(-1, 4)[:, :2]
    high, low = halves.sum(axis=0, dtype=np.uint64).tolist()  # wraps at 2^64
    return Content(batch.num_rows, int(times.min()), int(times.max()), high, low)


def sum_contents(contents: Iterable[Content]) -> Content:
    """The content of all sets together."""
    return sum(contents, Content())


def day_bounds(chunk: Chunk, day: date) -> tuple[datetime, datetime]:
    """Start and end of the part of a day (UTC) that lies in a chunk."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    try:
        stop = start + timedelta(days=1)
    except OverflowError:  # the last day that a date can have
        stop = chunk.range_end
    return max(start, chunk.range_start), min(stop, chunk.range_end)
