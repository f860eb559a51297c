"""The chunks and the size of the tables that streams are drained into, from the catalog: no row is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg

from infra.mapping.toml import load_table_sections
from infra.settings import Settings
from infra.tables.read_table import default_table_name, parse_table_name
from infra.timescaledb import CHUNK_ID, CHUNK_STATUS, COMPRESSED_SIZES
from tasks.ledger.register_stream import TABLES_OF_ROUTES, TABLES_OF_STREAMS
from tasks.maintain.chunk_states import State, state_of_status


@dataclass(frozen=True)
class ChunkFigures:
    """The chunks of one table in one state. `chunks`: None for a table without chunks. `bytes`: with indexes.

    `to_compress`, `to_drop`: how many of them should have been compressed, or dropped, by now. `to_recompress`: how
    many have late rows, and are of an age at which `maintain` and the policy compress these.
    """

    schema: str
    table: str
    state: State
    chunks: int | None
    bytes: int
    to_compress: int = 0
    to_recompress: int = 0
    to_drop: int = 0


@dataclass(frozen=True)
class WantedTable:
    """A table, and the ages at which its chunks are compressed and dropped; None for never."""

    schema: str
    name: str
    compress_after: timedelta | None = None
    keep: timedelta | None = None


# Beyond the age of the settings. Jobs of the database run every 12 hours, and `maintain` once a day.
OVERDUE_AFTER = timedelta(hours=26)

_HYPERTABLES = "SELECT hypertable_schema, hypertable_name FROM timescaledb_information.hypertables"
# The edition; no row without TimescaleDB. Only the Community edition compresses.
_EDITION = "SELECT current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'"
# Functions of the extension's own schema would need a right on it. The size of the compressed rows is that of the
# moment of their compression.
_CHUNKS = f"""
    SELECT c.hypertable_schema, c.hypertable_name, {CHUNK_STATUS}(r.oid), count(*),
           sum(pg_total_relation_size(r.oid) + coalesce(n.compressed_heap_size + n.compressed_toast_size
                                                        + n.compressed_index_size, 0))::bigint,
           count(*) FILTER (WHERE NOT c.is_compressed AND c.range_end < now() - w.compress_after - %s),
           count(*) FILTER (WHERE c.is_compressed AND c.range_end < now() - w.compress_after - %s),
           count(*) FILTER (WHERE c.range_end < now() - w.keep - %s)
      FROM timescaledb_information.chunks AS c
      JOIN unnest(%s::text[], %s::text[], %s::interval[], %s::interval[]) AS w (schema, name, compress_after, keep)
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


def read_chunk_figures(connection: psycopg.Connection, tables: Iterable[WantedTable]) -> list[ChunkFigures]:
    """The figures of each table that exists. Raises `psycopg.Error`."""
    wanted = {(one.schema, one.name): one for one in tables}
    edition = connection.execute(_EDITION).fetchone()
    hypertables: list[WantedTable] = []
    if edition is not None:
        names = {(schema, name) for schema, name in connection.execute(_HYPERTABLES)}
        hypertables = [wanted.pop(name) for name in sorted(names & wanted.keys())]
    found: dict[tuple[str, str, State], ChunkFigures] = {}
    values = [
        *[OVERDUE_AFTER] * 3,
        [one.schema for one in hypertables],
        [one.name for one in hypertables],
        [one.compress_after if edition == ("timescale",) else None for one in hypertables],
        [one.keep for one in hypertables],
    ]
    for schema, name, status, *counts in connection.execute(_CHUNKS, values) if hypertables else ():
        one = ChunkFigures(schema, name, state_of_status(status), *counts)
        if one.state != "partial":
            one = replace(one, to_recompress=0)
        before = found.get((schema, name, one.state))
        found[schema, name, one.state] = one if before is None else _sum(before, one)
    for schema, name, size in connection.execute(_PLAIN, [[key[at] for key in wanted] for at in (0, 1)]):
        found[schema, name, "rows"] = ChunkFigures(schema, name, "rows", None, size)
    return [found[key] for key in sorted(found)]


def wanted_tables(connection: psycopg.Connection, config: Settings) -> list[WantedTable]:
    """The tables that streams are drained into, and `events`, with the ages of their chunks by the settings."""
    sections = load_table_sections(config.mappings)
    drained = [name for (name,) in connection.execute(f"{TABLES_OF_STREAMS} UNION {TABLES_OF_ROUTES}")]
    found = []
    for schema, name in dict.fromkeys(map(parse_table_name, [default_table_name(), *drained])):
        options = sections.options_of(config, schema, name)
        found.append(WantedTable(schema, name, options.compress_after, options.keep))
    return found


def _sum(one: ChunkFigures, other: ChunkFigures) -> ChunkFigures:
    """Of two statuses that are one state."""
    return replace(
        one,
        chunks=(one.chunks or 0) + (other.chunks or 0),
        bytes=one.bytes + other.bytes,
        to_compress=one.to_compress + other.to_compress,
        to_recompress=one.to_recompress + other.to_recompress,
        to_drop=one.to_drop + other.to_drop,
    )
