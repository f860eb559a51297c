"""The clock of the database: what is due is due by it."""

from __future__ import annotations

from datetime import datetime

import psycopg


def server_now(connection: psycopg.Connection) -> datetime:
    """The server's clock: chunks are due by it."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # a SELECT without FROM has one row
    now: datetime = row[0]
    return now
