"""Chunks: the tables that make up a hypertable, each with the rows of a time range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.epoch import timestamptz_sql
from infra.tables.statements import parameter_safe
from infra.tables.table import Table, TableKind
from infra.tables.time_sql import time_bound, time_column


@dataclass(frozen=True)
class Chunk:
    """A chunk of a hypertable: its own table, with the rows of times from `range_start` to before `range_end`."""

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


def chunks(connection: psycopg.Connection, table: Table) -> dict[Chunk, datetime]:
    """The chunks of a table, the oldest times first, and when each was created (by the first row for it).

    Empty unless it is a hypertable with times. Raises `psycopg.Error`.
    """
    if not has_chunks(table):
        return {}
    return {Chunk(*row[:4]): row[4] for row in connection.execute(_CHUNKS, {"table": table.regclass})}


def has_chunks(table: Table) -> bool:
    """Whether a table is a hypertable whose chunks have ranges of time."""
    return table.kind is TableKind.HYPERTABLE and table.time is not None


def count(
    connection: psycopg.Connection,
    table: Table,
    chunk: Chunk,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """The number of rows of a chunk of `table`, from the time `since` to before `until`. Raises `psycopg.Error`."""
    # No condition unless it is needed: without one the columnstore counts rows without decompressing them.
    bounds = {"since": (">=", since), "until": ("<", until)}
    conditions = [
        sql.SQL("{} {} {}").format(time_column(table), sql.SQL(sign), time_bound(table, f"%({name})s"))
        for name, (sign, moment) in bounds.items()
        if moment is not None
    ]
    where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
    name = parameter_safe(sql.Identifier(chunk.schema, chunk.table))
    statement = sql.SQL("SELECT count(*) FROM {}{}").format(name, where)
    row = connection.execute(statement, {"since": since, "until": until}).fetchone()
    assert row is not None  # an aggregate has one row
    found: int = row[0]
    return found


def count_each(connection: psycopg.Connection, chunks: Sequence[Chunk]) -> list[int]:
    """The number of rows of each chunk (at least one), in one statement. Raises `psycopg.Error`."""
    counts = [sql.SQL("(SELECT count(*) FROM {})").format(sql.Identifier(one.schema, one.table)) for one in chunks]
    row = connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(counts))).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    return list(row)


# A value for each type that a row for a moment may need, because its column has neither a default nor null.
_VALUES: dict[str, LiteralString] = {
    **dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric"), "0"),
    **dict.fromkeys(("text", "varchar", "bpchar"), "''"),
    **dict.fromkeys(("timestamptz", "timestamp", "date"), "'2000-01-01'"),
    **dict.fromkeys(("json", "jsonb"), "'{}'"),
    "bool": "false",
    "bytea": "''",
    "cidr": "'0.0.0.0/0'",
    "inet": "'0.0.0.0'",
    "interval": "'0'",
    "macaddr": "'00:00:00:00:00:00'",
    "time": "'00:00'",
    "uuid": "pg_catalog.gen_random_uuid()",
}
_OPEN: LiteralString = """
    INSERT INTO {table} ({columns}) SELECT {values} FROM unnest(%(times)s::bigint[]) AS us
     WHERE NOT EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = %(name)s::regclass AND NOT tgisinternal AND tgname NOT LIKE 'ts\\_%%')
    RETURNING tableoid::regclass::text, ctid::text"""


def open_chunks(connection: psycopg.Connection, table: Table, times: Sequence[int]) -> None:
    """Create the chunks for rows of these times (microseconds since 1970), unless they exist.

    Creating a chunk locks the hypertable until the end of the transaction, so a load that did it would block all other
    loads that create one. Not all editions have a function for it. So this inserts a row and deletes it again
    before another session can see it. Nothing is done if a user's trigger would see it, or if a column needs a value
    that only the user knows. Raises `psycopg.Error`, with nothing done.
    """
    if not times or not has_chunks(table):
        return
    needed = [column for column in table.columns if column.required and column.name != table.time]
    values = [_VALUES.get(column.base) for column in needed]
    if not all(values):
        return
    names = [table.time or "", *(column.name for column in needed)]
    opening = sql.SQL(_OPEN).format(
        table=parameter_safe(table.identifier),
        columns=sql.SQL(", ").join(parameter_safe(sql.Identifier(name)) for name in names),
        values=sql.SQL(", ").join([_time_of_us(table), *(sql.SQL(value) for value in values if value)]),
    )
    with connection.transaction():
        opened = connection.execute(opening, {"times": list(times), "name": table.regclass})
        for chunk, row in opened.fetchall():
            # From the chunk: a DELETE from the hypertable would wait for every chunk that is being compressed.
            deleted = connection.execute(f"DELETE FROM {chunk} WHERE ctid = '{row}'").rowcount  # noqa: S608
            if deleted != 1:  # a user's trigger kept it: the row must not stay, and the chunk is not worth an error
                raise psycopg.Rollback


def _time_of_us(table: Table) -> sql.SQL:
    """The value of the time column for `us`, microseconds since 1970."""
    moment = timestamptz_sql("us")
    base = table.by_name[table.time or ""].base
    return sql.SQL(moment if base == "timestamptz" else f"({moment} AT TIME ZONE 'UTC')")


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
