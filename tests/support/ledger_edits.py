"""Edits of the ledger that stand for another past. An edit by hand alone would not reach the progress in `streams`."""

from __future__ import annotations

from typing import Any

import psycopg

from tasks.ledger.stream_progress import refresh_progress


def edit_ledger(database: psycopg.Connection, statement: str, values: Any = None) -> psycopg.Cursor:
    """Execute a statement that changes `spillway.ledger`, and compute the progress of every stream again."""
    done = database.execute(statement.encode(), values)
    for (stream_id,) in database.execute("SELECT id FROM spillway.streams").fetchall():
        refresh_progress(database, stream_id)
    return done
