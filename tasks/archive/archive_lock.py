"""Only one run at a time works on the archives of a chunk."""

from __future__ import annotations

import psycopg

from infra.errors.exceptions import Transient
from infra.tables.read_table import is_default
from infra.tables.table import Table
from tasks.archive.manifest import range_name
from tasks.table.chunks import Chunk

_TRY = "SELECT pg_try_advisory_xact_lock(hashtext('spillway archive'), hashtext(%s))"


def lock_archives(connection: psycopg.Connection, table: Table, chunk: Chunk) -> None:
    """Keep other runs from archiving or dropping this chunk of `table` until the transaction ends.

    Raises `Transient` if another run is doing so now.
    """
    key = range_name(chunk) + ("" if is_default(table) else f" {table.regclass}")
    row = connection.execute(_TRY, [key]).fetchone()
    if row is None or not row[0]:
        raise Transient(
            f"archive {chunk.schema}.{chunk.table}: another run is working on its archives; nothing was changed;"
            " wait until that run ends, then run `spillway maintain` again"
        )
