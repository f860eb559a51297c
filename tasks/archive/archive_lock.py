"""One run at a time works on the archives of a chunk's range."""

from __future__ import annotations

import psycopg

from infra.errors.exceptions import Transient
from tasks.archive.manifest import range_name
from tasks.table.chunks import Chunk

_TRY = "SELECT pg_try_advisory_xact_lock(hashtext('spillway archive'), hashtext(%s))"


def lock_archives(connection: psycopg.Connection, chunk: Chunk) -> None:
    """Until the end of the transaction no other run archives or drops this chunk. Raises `Transient` where one does."""
    row = connection.execute(_TRY, [range_name(chunk)]).fetchone()
    if row is None or not row[0]:
        raise Transient(f"archive {chunk.schema}.{chunk.table}: another run is at it; wait for that one")
