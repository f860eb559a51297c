"""Which columns the table has, and whether an archive can hold all of them."""

from __future__ import annotations

import psycopg

from infra.errors import Terminal
from tasks.chunks import Chunk

_ARCHIVED = {
    "time": "timestamp with time zone",
    "event_id": "uuid",
    "event_type": "text",
    "user_id": "text",
    "properties": "jsonb",
}
# Of the chunk, which is locked by then: ALTER TABLE on the hypertable waits for that lock.
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
     WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum"""


def demand_all_archived(connection: psycopg.Connection, chunk: Chunk, doing: str) -> None:
    """In the caller's transaction, which has locked the chunk: every column of it goes into an archive.

    Raises `Terminal` if one would be left out, or has a type that an archive does not hold: a chunk that is archived is
    dropped next, and with it what is nowhere else.
    """
    found: dict[str, str] = dict(connection.execute(_COLUMNS, [chunk.schema, chunk.table]).fetchall())
    if found == _ARCHIVED or not found:  # a chunk that is gone has none: the caller's next statement says so
        return
    more = [f"{name} {kind}" for name, kind in found.items() if _ARCHIVED.get(name) != kind]
    missing = ", ".join(sorted(_ARCHIVED.keys() - found.keys()))
    what = f"the columns {', '.join(more)}" if more else f"no column {missing}"
    raise Terminal(
        f"{doing}: expected the columns of schema.sql, the only ones that an archive holds, found {what}; the chunk"
        " stays with all its rows: keep it (SPILLWAY_KEEP=), or let it go without an archive (SPILLWAY_RETENTION=flow)"
    )
