"""Chunks: the tables that a hypertable is made of, each with the times of a range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.epoch import timestamptz_sql
from infra.table import events_name, on_events


@dataclass(frozen=True)
class Chunk:
    """One chunk of `events`: its table, and the times from `range_start` to before `range_end`, the only ones in it."""

    schema: str
    table: str
    range_start: datetime
    range_end: datetime


_CHUNKS = """
    SELECT c.chunk_schema, c.chunk_name, c.range_start, c.range_end, c.chunk_creation_time
      FROM timescaledb_information.chunks AS c
      JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = c.hypertable_name
                        AND h.relnamespace = to_regnamespace(quote_ident(c.hypertable_schema))
     ORDER BY c.range_start, c.chunk_name"""


def chunks(connection: psycopg.Connection) -> dict[Chunk, datetime]:
    """When each chunk of `events` was made: by the first row that came for it. The oldest times first.

    Raises `psycopg.Error`.
    """
    return {Chunk(*row[:4]): row[4] for row in connection.execute(_CHUNKS, {"table": events_name()})}


def count(
    connection: psycopg.Connection, chunk: Chunk, since: datetime | None = None, until: datetime | None = None
) -> int:
    """The rows of one chunk, from the time `since` on and before `until`. Raises `psycopg.Error`."""
    table = sql.Identifier(chunk.schema, chunk.table)
    # Only where it is asked for: without a condition the columnstore counts without looking into a batch.
    conditions = [sql.SQL("time >= {}").format(since)] * (since is not None)
    conditions += [sql.SQL("time < {}").format(until)] * (until is not None)
    where = sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
    row = connection.execute(sql.SQL("SELECT count(*) FROM {} {}").format(table, where)).fetchone()
    assert row is not None  # an aggregate has one row
    found: int = row[0]
    return found


_OPEN: LiteralString = """
    INSERT INTO {events} (event_id, time, event_type, user_id)
    SELECT gen_random_uuid(), {time}, '', ''
      FROM unnest(%s::bigint[]) AS us
     WHERE NOT EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = {name}::regclass AND NOT tgisinternal AND tgname NOT LIKE 'ts\\_%%')
    RETURNING tableoid::regclass::text, event_id"""


def open_chunks(connection: psycopg.Connection, times: Sequence[int]) -> None:
    """Make the chunks that are to have events of these times (microseconds since 1970), where they are not there yet.

    Who makes one locks the hypertable until the end of the transaction: a load would keep all others that make one
    waiting. There is no call for it on all editions, so a row goes in, and out again before anybody has seen it; where
    triggers of the user's would see it, nothing is done. Raises `psycopg.Error`, with nothing done.
    """
    if not times:
        return
    opening = on_events(_OPEN, name=sql.Literal(events_name()), time=sql.SQL(timestamptz_sql("us")))
    with connection.transaction():
        for chunk, event_id in connection.execute(opening, [list(times)]).fetchall():
            # By the chunk: a DELETE from the hypertable would wait for all chunks that somebody compresses.
            gone = connection.execute(f"DELETE FROM {chunk} WHERE event_id = %s", [event_id]).rowcount  # noqa: S608
            if gone != 1:  # by a trigger of the user's: the row must not stay, and the chunk is not worth an error
                raise psycopg.Rollback


def days_of(chunk: Chunk) -> Iterator[tuple[datetime, datetime]]:
    """The range of a chunk, a day (UTC) at a time, the first and the last as far as they lie in it."""
    start = chunk.range_start
    while start < chunk.range_end:
        try:
            midnight = datetime.combine(start.astimezone(UTC).date(), time(), UTC) + timedelta(days=1)
        except OverflowError:  # the last day there is
            midnight = chunk.range_end
        stop = min(midnight, chunk.range_end)
        yield start, stop
        start = stop
