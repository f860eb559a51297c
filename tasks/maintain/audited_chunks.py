"""The parts of a table whose rows are counted: the chunks of a hypertable, partitions, or the whole table."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from infra.tables.table import Table, TableKind
from tasks.base.clock import server_now
from tasks.maintain.drops import policy_reached
from tasks.maintain.jobs import read_jobs
from tasks.table.chunks import Chunk, chunks, has_chunks

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)

# The first column of the partition key is the time. A bound of MINVALUE or MAXVALUE and a default partition have no
# text in quotes. Times are cut to what Python can represent.
_PARTITIONS = """
    SELECT n.nspname, c.relname,
           greatest(coalesce(substring(bound FROM $$FROM \\('([^']*)'$$)::timestamptz, '-infinity'), %(earliest)s),
           least(coalesce(substring(bound FROM $$TO \\('([^']*)'$$)::timestamptz, 'infinity'), %(latest)s)
      FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
           LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
     WHERE i.inhparent = %(table)s::regclass ORDER BY 3, 2"""


def audited_chunks(connection: psycopg.Connection, table: Table) -> tuple[Chunk, ...]:
    """The parts of a table with their ranges of time, the oldest first. Together they have all its rows.

    A table whose parts have no times is one part. Raises `psycopg.Error`.
    """
    if has_chunks(table):
        return tuple(chunks(connection, table))
    if table.kind is TableKind.PARTITIONED and table.time is not None:
        values = {"table": table.regclass, "earliest": EARLIEST, "latest": LATEST}
        return tuple(Chunk(*row) for row in connection.execute(_PARTITIONS, values))
    return (Chunk(table.schema, table.name, EARLIEST, LATEST),)


def may_be_dropped_until(connection: psycopg.Connection, table: Table) -> datetime | None:
    """The time before which chunks may be gone or go at any moment without being counted; None if there are none.

    The database's own jobs drop chunks of a hypertable. The partitions of a partitioned table are dropped by its owner:
    those before the oldest that exists. Raises `psycopg.Error`.
    """
    if table.kind is TableKind.PARTITIONED and table.time is not None:
        oldest = min((part.range_start for part in audited_chunks(connection, table)), default=LATEST)
        return None if oldest == EARLIEST else oldest
    if not has_chunks(table):
        return None
    return policy_reached(read_jobs(connection, table, "retention"), server_now(connection))
