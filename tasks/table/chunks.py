"""Chunks: the tables that make up a hypertable, each with the rows of a time range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.epoch import timestamptz_sql
from infra.tables.events import events_name, on_events


@dataclass(frozen=True)
class Chunk:
    """A chunk of `events`: its table, which holds the rows with times from `range_start` to before `range_end`."""

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
    """The chunks of `events`, the oldest times first, and when each was created (by the first row for it).

    Raises `psycopg.Error`.
    """
    return {Chunk(*row[:4]): row[4] for row in connection.execute(_CHUNKS, {"table": events_name()})}


def count(
    connection: psycopg.Connection, chunk: Chunk, since: datetime | None = None, until: datetime | None = None
) -> int:
    """The number of rows of a chunk, from the time `since` to before `until`. Raises `psycopg.Error`."""
    table = sql.Identifier(chunk.schema, chunk.table)
    # No condition unless it is needed: without one the columnstore counts rows without decompressing them.
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
    """Create the chunks for events of these times (microseconds since 1970), unless they exist.

    Creating a chunk locks the hypertable until the end of the transaction, so a load that did it would block all other
    loads that create one. Not all editions have a function for it. So this inserts a row and deletes it again
    before another session can see it. If a user's trigger would see it, nothing is done. Raises `psycopg.Error`, with
    nothing done.
    """
    if not times:
        return
    opening = on_events(_OPEN, name=sql.Literal(events_name()), time=sql.SQL(timestamptz_sql("us")))
    with connection.transaction():
        for chunk, event_id in connection.execute(opening, [list(times)]).fetchall():
            # From the chunk: a DELETE from the hypertable would wait for every chunk that is being compressed.
            deleted = connection.execute(f"DELETE FROM {chunk} WHERE event_id = %s", [event_id]).rowcount  # noqa: S608
            if deleted != 1:  # a user's trigger kept it: the row must not stay, and the chunk is not worth an error
                raise psycopg.Rollback


def days_of(chunk: Chunk) -> Iterator[tuple[datetime, datetime]]:
    """The days (UTC) of a chunk as time ranges. The first and the last are cut to the range of the chunk."""
    start = chunk.range_start
    while start < chunk.range_end:
        try:
            midnight = datetime.combine(start.astimezone(UTC).date(), time(), UTC) + timedelta(days=1)
        except OverflowError:  # the last day that Python can represent
            midnight = chunk.range_end
        stop = min(midnight, chunk.range_end)
        yield start, stop
        start = stop
