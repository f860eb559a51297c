"""The undocumented parts of TimescaleDB that Spillway uses. All private names are in this module.

Tested on 2.18.1 (PostgreSQL 15), 2.19.3 (17, Apache), 2.28.3 (15) and 2.29.2 (16 and 18). The catalog's shape decides,
not a list of versions: a newer version that still fits works with a warning. One that changed these names is refused
before any event is written.
"""

from __future__ import annotations

from typing import Any

import psycopg
from packaging.version import Version

from infra.errors.exceptions import Terminal
from infra.versions import NEWEST_TESTED_TIMESCALEDB, parse_version

# The status bits of a chunk (integer) by its regclass. No view shows which chunks are partial or frozen. Partial: rows
# were written to the chunk after it was compressed.
CHUNK_STATUS = "_timescaledb_functions.chunk_status"
COMPRESSED, FROZEN, PARTIAL = 1, 4, 8
# The number of rows that a chunk had when it was compressed, by the chunk's id. The documented `approximate_row_count`
# is 0 until the chunk is analyzed.
CHUNK_ID = "_timescaledb_functions.chunk_id_from_relid"
COMPRESSED_SIZES = "_timescaledb_catalog.compression_chunk_size"
# The schema of chunks, unless their hypertable was created with another one.
CHUNK_SCHEMA = "_timescaledb_internal"
# The schemas of the functions of TimescaleDB's own triggers. A missing name does no harm.
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
# Since 2.28 the server names the bits itself.
_BITS = f"SELECT {CHUNK_STATUS}_text(%s::integer) @> ARRAY['COMPRESSED', 'FROZEN', 'PARTIAL']"


def check_catalog(connection: psycopg.Connection[Any], newest_tested: Version = NEWEST_TESTED_TIMESCALEDB) -> list[str]:
    """Warnings about the installed version of TimescaleDB; none if the extension is not installed.

    Raises `Terminal` if the private catalog is not as expected, and `psycopg.Error`.
    """
    row = connection.execute(_SHAPE).fetchone()
    if row is None:
        return []
    version, missing, names_bits = row
    if names_bits and not missing:
        as_expected = connection.execute(_BITS, [COMPRESSED | FROZEN | PARTIAL]).fetchone()
        missing = [] if as_expected is not None and as_expected[0] else [f"the bits of {CHUNK_STATUS}(regclass)"]
    if missing:
        raise Terminal(
            f"TimescaleDB {version} changed its catalog: expected {', '.join(missing)} as in {newest_tested}, found"
            " something else; no event was read or written; upgrade Spillway or use a tested version of TimescaleDB"
        )
    if parse_version(version) > newest_tested:
        return [
            f"TimescaleDB {version} is newer than {newest_tested}, the newest version that Spillway was tested on; its"
            " catalog fits"
        ]
    return []
