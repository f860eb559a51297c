"""The clock of the database, which decides when a chunk is due."""

from __future__ import annotations

from datetime import datetime

import psycopg


def server_now(connection: psycopg.Connection) -> datetime:
    """The server's time, with an offset. Raises `psycopg.Error`."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # a SELECT without FROM has one row
    now: datetime = row[0]
    return now
