"""Rows through a binary COPY into the table `rows`, and back."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa

from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tests.support.encoded_events import COLUMNS

# PostgreSQL's timestamptz begins at 4714-11-24 BC and ends in 294276, past what int64 microseconds since 1970 hold.
# https://www.postgresql.org/docs/current/datatype-datetime.html
EARLIEST_US, LATEST_US = -210_866_803_200_000_000, 9_200_000_000_000_000_000


def copy_rows(connection: psycopg.Connection, *slices: pa.Array) -> int:
    connection.execute("TRUNCATE rows")
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY rows ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)") as out:
            out.write(HEADER)
            for rows in slices:
                out.write(payload(rows))
            out.write(TRAILER)
        return cursor.rowcount


def rows_held(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    query = """
        SELECT (extract(epoch FROM time) * 1000000)::bigint, event_id, event_type, user_id, properties::text
          FROM rows ORDER BY ctid"""
    return connection.execute(query).fetchall()
