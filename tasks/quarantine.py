"""Keep every entry that cannot become a row: as it came, with the field at fault and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tasks.columns.decode import Fault

if TYPE_CHECKING:
    from tasks.read import Batch

_KEEP = """
    INSERT INTO spillway.quarantine (stream, entry_id, fields, field, reason)
    SELECT id, %s, %s, %s, %s FROM spillway.streams WHERE name = %s"""


def keep(connection: psycopg.Connection, batch: Batch, refused: list[Fault]) -> None:
    """Insert the faults of `batch` and the `refused` entries into the quarantine, in the caller's transaction."""
    if not batch.faults and not refused:
        return
    rows = []
    for fault in (*batch.faults, *refused):
        entry_id, fields = batch.raw(fault.entry)
        # NUL cannot be stored in a text column, and a reason may quote one.
        rows.append((entry_id, fields, fault.field, fault.reason.replace("\0", "\\0"), batch.stream))
    with connection.cursor() as cursor:
        cursor.executemany(_KEEP, rows)
