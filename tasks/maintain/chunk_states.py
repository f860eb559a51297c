"""What the server knows about each chunk: rows, bytes, and whether and how it is compressed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from infra.errors.exceptions import Transient
from infra.tables.table import Table
from infra.timescaledb import CHUNK_ID, CHUNK_STATUS, COMPRESSED, COMPRESSED_SIZES, FROZEN, PARTIAL
from tasks.maintain.compression_layout import CompressionLayout
from tasks.table.chunks import Chunk, count, has_chunks

State = Literal["rows", "compressed", "partial", "frozen"]


@dataclass(frozen=True)
class ChunkState:
    """A chunk as the server sees it.

    `rows`: an estimate, unless `exact`. `bytes`: on disk, with indexes and the compressed part. `bytes_as_rows`: its
    size before it was compressed. `layout`: how it was compressed. Both are None if it is not compressed. `created`:
    when its first row arrived. The state `partial` means compressed, with rows added later; `frozen` means read-only.
    """

    chunk: Chunk
    rows: int
    bytes: int
    state: State
    created: datetime
    bytes_as_rows: int | None = None
    layout: CompressionLayout | None = None
    exact: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times smaller the chunk is than it was as rows; None if it is not compressed."""
        return self.bytes_as_rows / self.bytes if self.bytes_as_rows and self.bytes else None


def format_chunk_count(number: int) -> str:
    """`1 chunk`, `2 chunks` and so on, for messages."""
    return f"{number:,} chunk{'s' * (number != 1)}"


# The sizes come from functions of the server, which wait for exclusive locks on a chunk.
_STATES = f"""
    SELECT c.chunk_schema, c.chunk_name, c.range_start, c.range_end, {CHUNK_STATUS}(r.oid), c.chunk_creation_time,
           coalesce(d.total_bytes, 0)::bigint, z.before_compression_total_bytes,
           coalesce(n.numrows_pre_compression, 0)::bigint, greatest(r.reltuples, 0)::bigint, s.segmentby, s.orderby
      FROM timescaledb_information.chunks AS c
      JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = c.hypertable_name
                        AND h.relnamespace = to_regnamespace(quote_ident(c.hypertable_schema))
      JOIN pg_class AS r ON r.oid = to_regclass(format('%%I.%%I', c.chunk_schema, c.chunk_name))
      LEFT JOIN chunks_detailed_size(%(table)s::regclass) AS d
             ON d.chunk_schema = c.chunk_schema AND d.chunk_name = c.chunk_name
      LEFT JOIN chunk_columnstore_stats(%(table)s::regclass) AS z
             ON z.chunk_schema = c.chunk_schema AND z.chunk_name = c.chunk_name
      LEFT JOIN {COMPRESSED_SIZES} AS n ON c.is_compressed AND n.chunk_id = {CHUNK_ID}(r.oid)
      LEFT JOIN timescaledb_information.chunk_columnstore_settings AS s ON s.chunk = r.oid
     ORDER BY c.range_start, c.chunk_name"""  # noqa: S608


# Errors of the server's functions if a chunk that a view lists is dropped before they read it.
_DROPPED_MEANWHILE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,  # «chunk not found»
    psycopg.errors.LockNotAvailable,  # «chunk deleted by other transaction», 2.18
    psycopg.errors.DeadlockDetected,
)
_LOOK_SECONDS = 30.0  # of drops that leave no gap for one look
_PAUSE_SECONDS = 0.02


def chunk_states(connection: psycopg.Connection, table: Table) -> list[ChunkState]:
    """All chunks of a table, the oldest first, with estimated rows; empty unless it is a hypertable with times.

    Tries again while other sessions drop chunks. Raises `Transient` if they do so for 30 s, and `psycopg.Error`.
    """
    if not has_chunks(table):
        return []
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            with connection.transaction():  # a savepoint if the caller has a transaction
                rows = connection.execute(_STATES, {"table": table.regclass})
                return [_chunk_state(table.time or "", *row) for row in rows]
        except _DROPPED_MEANWHILE as error:
            there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table.regclass]).fetchone()
            if there is None or not there[0]:
                raise
            if time.monotonic() > deadline:
                raise Transient(
                    f"chunks of {table.regclass}: expected a moment without a drop, found none in"
                    f" {_LOOK_SECONDS:.0f} s; nothing was changed;"
                    " run the command again after the drops (pg_stat_activity shows them)"
                ) from error
            time.sleep(_PAUSE_SECONDS)


def _chunk_state(
    time_column: str, schema: str, table: str, start: datetime, end: datetime, status: int, created: datetime,
    size: int, bytes_as_rows: int | None, compressed_rows: int, loose_rows: int,
    segmentby: str | None, orderby: str | None,
) -> ChunkState:  # fmt: skip
    return ChunkState(
        Chunk(schema, table, start, end),
        rows=compressed_rows + loose_rows,
        bytes=size,
        state=_state(status),
        created=created,
        bytes_as_rows=bytes_as_rows,
        layout=None if bytes_as_rows is None else CompressionLayout.of_server(segmentby, orderby, time_column),
    )


def _state(status: int) -> State:
    if status & FROZEN:
        return "frozen"
    if status & PARTIAL:
        return "partial"
    return "compressed" if status & COMPRESSED else "rows"


# At most the session's own timeout: the client gives up on a server that is silent for longer.
_LIMIT = """
    SELECT set_config('statement_timeout', least(%s, nullif(setting::int, 0)) || 'ms', true)
      FROM pg_settings WHERE name = 'statement_timeout'"""


def count_rows(
    connection: psycopg.Connection, table: Table, chunks: Sequence[Chunk], seconds: float
) -> Iterator[tuple[Chunk, int]]:
    """Count the rows of chunks of `table` in the given order, and stop after `seconds` or at a statement timeout.

    Each chunk has its own statement, which sees what is committed by then and holds no lock afterwards. A chunk that
    was dropped meanwhile has no rows. Raises `psycopg.Error`.
    """
    deadline = time.monotonic() + seconds
    for chunk in chunks:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        try:
            with connection.transaction():
                connection.execute(_LIMIT, [max(1, round(left * 1000))])
                rows = count(connection, table, chunk)
        except psycopg.errors.QueryCanceled:
            return
        except psycopg.errors.UndefinedTable:
            rows = 0
        yield chunk, rows
