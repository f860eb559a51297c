"""Spillway's tables as a whole."""

from __future__ import annotations

import psycopg


def nothing_was_written(database: psycopg.Connection) -> bool:
    query = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM spillway.ledger)"
    return database.execute(query).fetchone() == (0,)


def redrive_outcomes(connection: psycopg.Connection) -> dict[str, int]:
    query = "SELECT coalesce(outcome, 'waits'), count(*) FROM spillway.quarantine GROUP BY 1"
    return dict(connection.execute(query).fetchall())
