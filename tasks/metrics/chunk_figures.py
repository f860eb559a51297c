"""The chunks and the size of the tables that streams are drained into, from the catalog: no row is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from infra.timescaledb import CHUNK_ID, CHUNK_STATUS, COMPRESSED_SIZES
from tasks.maintain.chunk_states import State, state_of_status


@dataclass(frozen=True)
class ChunkFigures:
    """The chunks of one table in one state. `chunks`: None for a table without chunks. `bytes`: with indexes."""

    schema: str
    table: str
    state: State
    chunks: int | None
    bytes: int


_HYPERTABLES = "SELECT hypertable_schema, hypertable_name FROM timescaledb_information.hypertables"
_HAS_TIMESCALEDB = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
# Functions of the extension's own schema would need a right on it. The size of the compressed rows is that of the
# moment of their compression.
_CHUNKS = f"""
    SELECT c.hypertable_schema, c.hypertable_name, {CHUNK_STATUS}(r.oid), count(*),
           sum(pg_total_relation_size(r.oid) + coalesce(n.compressed_heap_size + n.compressed_toast_size
                                                        + n.compressed_index_size, 0))::bigint
      FROM timescaledb_information.chunks AS c
      JOIN unnest(%s::text[], %s::text[]) AS w (schema, name)
           ON (w.schema, w.name) = (c.hypertable_schema, c.hypertable_name)
      JOIN pg_namespace AS s ON s.nspname = c.chunk_schema
      JOIN pg_class AS r ON r.relnamespace = s.oid AND r.relname = c.chunk_name
      LEFT JOIN {COMPRESSED_SIZES} AS n ON c.is_compressed AND n.chunk_id = {CHUNK_ID}(r.oid)
     GROUP BY 1, 2, 3"""  # noqa: S608
_PLAIN = """
    SELECT n.nspname, c.relname, sum(pg_total_relation_size(coalesce(p.relid, c.oid)))::bigint
      FROM unnest(%s::text[], %s::text[]) AS w (schema, name)
      JOIN pg_namespace AS n ON n.nspname = w.schema
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
      LEFT JOIN LATERAL pg_partition_tree(c.oid) AS p ON p.isleaf
     GROUP BY 1, 2"""


def read_chunk_figures(connection: psycopg.Connection, tables: Iterable[tuple[str, str]]) -> list[ChunkFigures]:
    """The figures of each table, by its schema and name, that exists. Raises `psycopg.Error`."""
    wanted = set(tables)
    hypertables: set[tuple[str, str]] = set()
    if connection.execute(_HAS_TIMESCALEDB).fetchone() == (True,):
        hypertables = wanted & {(schema, name) for schema, name in connection.execute(_HYPERTABLES)}
    found: dict[tuple[str, str, State], tuple[int | None, int]] = {}
    for schema, name, status, chunks, size in connection.execute(_CHUNKS, _columns(hypertables)) if hypertables else ():
        key = (schema, name, state_of_status(status))
        before = found.get(key, (0, 0))
        found[key] = ((before[0] or 0) + chunks, before[1] + size)
    for schema, name, size in connection.execute(_PLAIN, _columns(wanted - hypertables)):
        found[schema, name, "rows"] = (None, size)
    return [ChunkFigures(*key, *numbers) for key, numbers in sorted(found.items(), key=lambda item: item[0])]


def _columns(tables: Iterable[tuple[str, str]]) -> list[list[str]]:
    ordered = sorted(tables)
    return [[schema for schema, _ in ordered], [name for _, name in ordered]]
