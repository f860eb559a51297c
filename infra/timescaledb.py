"""What Spillway uses of TimescaleDB that has no documented form: all private names are here, and nowhere else.

Tested on 2.18.1 (PostgreSQL 15), 2.19.3 (17, Apache), 2.28.3 (15) and 2.29.2 (16 and 18). The shape of the catalog
decides, not a list of versions: a newer version that still fits works, with a warning; one that changed these names is
refused before any event is written.
"""

from __future__ import annotations

from typing import Any

import psycopg

from infra.errors.exceptions import Terminal

NEWEST_TESTED = (2, 29, 2)

# The status bits of a chunk, an integer, by its regclass. No view shows which chunks are partial or frozen. Partial:
# rows were written to the chunk since it was compressed.
CHUNK_STATUS = "_timescaledb_functions.chunk_status"
COMPRESSED, FROZEN, PARTIAL = 1, 4, 8
# The rows that a chunk had when it was compressed, by the chunk's id. The documented `approximate_row_count` is 0 until
# somebody analyzes the chunk.
CHUNK_ID = "_timescaledb_functions.chunk_id_from_relid"
COMPRESSED_SIZES = "_timescaledb_catalog.compression_chunk_size"
# Where the functions of the extension's own triggers are: a name more or less does no harm.
TRIGGER_SCHEMAS = "('_timescaledb_functions', '_timescaledb_internal')"

_SHAPE = f"""
    SELECT extversion, array_remove(ARRAY[
           CASE WHEN (SELECT prorettype FROM pg_proc WHERE oid = to_regprocedure('{CHUNK_STATUS}(regclass)'))
                     IS DISTINCT FROM 'integer'::regtype THEN '{CHUNK_STATUS}(regclass)' END,
           CASE WHEN (SELECT prorettype FROM pg_proc WHERE oid = to_regprocedure('{CHUNK_ID}(oid)'))
                     IS DISTINCT FROM 'integer'::regtype THEN '{CHUNK_ID}(oid)' END,
           CASE WHEN (SELECT count(*) FROM pg_attribute
                       WHERE attrelid = to_regclass('{COMPRESSED_SIZES}') AND NOT attisdropped
                         AND (attname, atttypid) IN (('chunk_id', 'integer'::regtype),
                                                     ('numrows_pre_compression', 'bigint'::regtype))) <> 2
                THEN '{COMPRESSED_SIZES} (chunk_id, numrows_pre_compression)' END], NULL),
           to_regprocedure('{CHUNK_STATUS}_text(integer)') IS NOT NULL
      FROM pg_extension WHERE extname = 'timescaledb'"""  # noqa: S608
# From 2.28 on the server itself says what the bits mean.
_BITS = f"SELECT {CHUNK_STATUS}_text(%s::integer) @> ARRAY['COMPRESSED', 'FROZEN', 'PARTIAL']"


def check_catalog(connection: psycopg.Connection[Any]) -> list[str]:
    """Warnings about the version of TimescaleDB; the extension is there. Raises `Terminal` if what Spillway uses of the
    private catalog is not as expected, `psycopg.Error`."""
    row = connection.execute(_SHAPE).fetchone()
    if row is None:
        return []
    version, missing, has_words = row
    if has_words and not missing:
        words = connection.execute(_BITS, [COMPRESSED | FROZEN | PARTIAL]).fetchone()
        missing = [] if words is not None and words[0] else [f"the bits of {CHUNK_STATUS}(regclass)"]
    newest = ".".join(map(str, NEWEST_TESTED))
    if missing:
        raise Terminal(
            f"TimescaleDB {version} changed its catalog: expected {', '.join(missing)} as up to {newest}, found"
            " otherwise; no event was read or written: upgrade Spillway, or use a tested version of TimescaleDB"
        )
    if tuple(int(part) for part in version.split("-")[0].split(".")) > NEWEST_TESTED:
        return [
            f"TimescaleDB {version} is newer than {newest}, the newest that Spillway was tested on; its catalog fits"
        ]
    return []
