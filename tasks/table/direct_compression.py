"""Direct compression: the server compresses rows while they are copied.

A COPY that compresses must not create a chunk. The server takes a chunk that it creates in this way for complete, so if
another session inserts rows into it at the same moment without compression, no query returns them: they lie in a chunk
whose status does not say so. With TimescaleDB 2.28.3 and 2.29.2 this happens in half of the attempts if a COPY without
compression waits for a session that had created the chunk and rolls back, and then meets one that compresses. So the
chunks of a batch are created before, in a transaction of their own, and a batch without all of its chunks is copied as
rows.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import psycopg
from numpy.typing import NDArray

from infra.epoch import timestamptz_sql
from tasks.base.stream_sql import fill_in
from tasks.columns.routing import TableRows
from tasks.table.chunks import open_chunks

_HOUR_US = 3_600_000_000
# Rows. Each COPY makes compressed batches of its own, and those of a few rows take more space than the rows.
_MIN_ROWS = 1_000
_ON = "SET LOCAL timescaledb.enable_direct_compress_copy = on"
# The hours with rows that are not in one chunk.
_WITHOUT_CHUNK = fill_in(
    """
    SELECT low, high FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS hours (low, high)
     WHERE NOT EXISTS (
           SELECT FROM timescaledb_information.chunks AS c
             JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = c.hypertable_name
                               AND h.relnamespace = to_regnamespace(quote_ident(c.hypertable_schema))
            WHERE c.range_start <= {low} AND c.range_end > {high})""",
    low=timestamptz_sql("low"),
    high=timestamptz_sql("high"),
)


def compresses_directly(table_rows: TableRows) -> bool:
    """Whether the server may compress the rows of a batch while they are copied straight."""
    layout, encoded = table_rows.layout, table_rows.encoded
    return layout.table.direct_compression and layout.time is not None and encoded.unique >= _MIN_ROWS


def create_chunks(connection: psycopg.Connection, table_rows: TableRows) -> None:
    """Create the chunks that the rows need, if these may be compressed directly. Call it outside a transaction.

    Without the right to delete from the table, and for a table whose rows need values that only the user knows, nothing
    is created, and the rows are copied as rows.
    """
    if compresses_directly(table_rows) and (absent := _without_chunk(connection, table_rows)):
        with suppress(psycopg.Error):  # the load itself reports any error
            open_chunks(connection, table_rows.layout.table, absent)


def switch_on(connection: psycopg.Connection, table_rows: TableRows) -> bool:
    """Let the COPYs of this transaction compress if that is safe. Returns whether they do. Raises `psycopg.Error`."""
    safe = compresses_directly(table_rows) and not _without_chunk(connection, table_rows)
    if safe:
        connection.execute(_ON)
    return safe


def _without_chunk(connection: psycopg.Connection, table_rows: TableRows) -> list[int]:
    """The first and the last time of each hour whose rows are not in one chunk, microseconds since 1970."""
    lows, highs = _hour_bounds(table_rows.encoded.times)
    values = {"table": table_rows.layout.table.regclass, "lows": lows.tolist(), "highs": highs.tolist()}
    return [time for hour in connection.execute(_WITHOUT_CHUNK, values) for time in hour]


def _hour_bounds(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last time of each hour that has some."""
    ordered = np.sort(times)
    starts = np.flatnonzero(np.diff(ordered // _HOUR_US, prepend=np.iinfo(np.int64).min // _HOUR_US - 1))
    return ordered[starts], ordered[np.append(starts[1:], len(ordered)) - 1]
