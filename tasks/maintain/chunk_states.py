"""What the server knows about each chunk: rows, bytes, and whether and how it is compressed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from infra.display import count_of
from infra.errors.exceptions import Transient
from infra.tables.table import Table
from infra.timescaledb import CHUNK_ID, CHUNK_STATUS, COMPRESSED, COMPRESSED_SIZES, FROZEN, PARTIAL
from tasks.maintain.compression_layout import CompressionLayout
from tasks.table.chunks import Chunk, count_each, has_chunks

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
    return count_of(number, "chunk")


_STATES = f"""
    SELECT r.oid, c.chunk_schema, c.chunk_name, c.range_start, c.range_end, {CHUNK_STATUS}(r.oid),
           c.chunk_creation_time, coalesce(n.numrows_pre_compression, 0)::bigint + greatest(r.reltuples, 0)::bigint
      FROM timescaledb_information.chunks AS c
      JOIN pg_class AS h ON h.oid = %(table)s::regclass AND h.relname = c.hypertable_name
                        AND h.relnamespace = to_regnamespace(quote_ident(c.hypertable_schema))
      JOIN pg_class AS r ON r.oid = to_regclass(format('%%I.%%I', c.chunk_schema, c.chunk_name))
      LEFT JOIN {COMPRESSED_SIZES} AS n ON c.is_compressed AND n.chunk_id = {CHUNK_ID}(r.oid)
     ORDER BY c.range_start, c.chunk_name"""  # noqa: S608
# Each by chunk. They are joined in Python: the server expects one row of the view, and would read the whole result of a
# function once for each chunk. The functions wait for exclusive locks on a chunk.
_SIZES = "SELECT chunk_schema, chunk_name, total_bytes FROM chunks_detailed_size(%(table)s::regclass)"
_SIZES_AS_ROWS = """
    SELECT chunk_schema, chunk_name, before_compression_total_bytes FROM chunk_columnstore_stats(%(table)s::regclass)
     WHERE before_compression_total_bytes IS NOT NULL"""
_LAYOUTS = """
    SELECT chunk::oid, segmentby, orderby FROM timescaledb_information.chunk_columnstore_settings
     WHERE hypertable = %(table)s::regclass"""


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
                return _read_states(connection, table)
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


def _read_states(connection: psycopg.Connection, table: Table) -> list[ChunkState]:
    values = {"table": table.regclass}
    found = connection.execute(_STATES, values).fetchall()
    sizes = {(schema, name): size for schema, name, size in connection.execute(_SIZES, values)}
    as_rows = {(schema, name): size for schema, name, size in connection.execute(_SIZES_AS_ROWS, values)}
    layouts = {chunk: columns for chunk, *columns in connection.execute(_LAYOUTS, values)}
    states = []
    for oid, schema, name, start, end, status, created, rows in found:
        bytes_as_rows = as_rows.get((schema, name))
        segmentby, orderby = layouts.get(oid, (None, None))
        states.append(
            ChunkState(
                Chunk(schema, name, start, end),
                rows=rows,
                bytes=sizes.get((schema, name)) or 0,
                state=state_of_status(status),
                created=created,
                bytes_as_rows=bytes_as_rows,
                layout=None
                if bytes_as_rows is None
                else CompressionLayout.of_server(segmentby, orderby, table.time or ""),
            )
        )
    return states


def state_of_status(status: int) -> State:
    """The state of a chunk by its status bits."""
    if status & FROZEN:
        return "frozen"
    if status & PARTIAL:
        return "partial"
    return "compressed" if status & COMPRESSED else "rows"


# At most the session's own timeout: the client gives up on a server that is silent for longer.
_LIMIT = """
    SELECT set_config('statement_timeout', least(%s, nullif(extract(epoch FROM setting) * 1000, 0)::int) || 'ms', true)
      FROM CAST(current_setting('statement_timeout') AS interval) AS setting"""
# Small chunks are counted together, in half of the processor time: at most so many, and about as many as take so long,
# since the locks of all last as long as the statement. Neither number changes a result.
_MOST_AT_ONCE = 32
_STATEMENT_SECONDS = 0.05
# Errors that may concern one chunk only: of several, each is tried alone.
_OF_ONE_CHUNK = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.OutOfMemory,  # also of memory for locks
)


def count_rows(connection: psycopg.Connection, chunks: Sequence[Chunk], seconds: float) -> Iterator[tuple[Chunk, int]]:
    """Count the rows of chunks in the given order, and stop after `seconds` or at a statement timeout.

    Each statement counts one chunk or a few small ones. It sees what is committed by then and holds no lock afterwards.
    A chunk that was dropped meanwhile has no rows. Raises `psycopg.Error`.
    """
    deadline = time.monotonic() + seconds
    start, size = 0, 1
    while start < len(chunks):
        began = time.monotonic()
        if began >= deadline:
            return
        together = chunks[start : start + size]
        try:
            with connection.transaction():
                connection.execute(_LIMIT, [max(1, round((deadline - began) * 1000))])
                counted = _count_together(connection, together)
        except _OF_ONE_CHUNK as error:
            if len(together) > 1:
                size = 1
                continue
            if isinstance(error, psycopg.errors.QueryCanceled):
                return
            if not isinstance(error, psycopg.errors.UndefinedTable):
                raise
            counted = [0]
        fitting = int(len(together) * _STATEMENT_SECONDS / (time.monotonic() - began))
        size = max(1, min(2 * size, fitting, _MOST_AT_ONCE))
        start += len(together)
        yield from zip(together, counted, strict=True)


def _count_together(connection: psycopg.Connection, chunks: Sequence[Chunk]) -> list[int]:
    """The rows of each chunk. They are locked in the order of time, as by a drop of several, so that neither waits for
    the other while the other waits for it."""
    ordered = sorted(chunks, key=lambda chunk: chunk.range_start)
    rows = dict(zip(ordered, count_each(connection, ordered), strict=True))
    return [rows[chunk] for chunk in chunks]
