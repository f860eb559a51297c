"""Events of many days, and which of them are in the table's chunks or recorded as dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from tests.support.oracle import Key, Row
from tests.support.stream_entries import event

DAYS = 60  # before today, each with some events
PER_DAY = 8


def old_events(days: int = DAYS, first: int = 0, per_day: int = PER_DAY) -> list[dict[bytes, bytes]]:
    """Events of the last `days` days, the oldest first."""
    now = datetime.now(UTC)
    return [
        event(first + day * per_day + n, time=(now - timedelta(days=days - day, minutes=n)).isoformat())
        for day in range(days)
        for n in range(per_day)
    ]


def chunk_ends(connection: psycopg.Connection) -> list[tuple[datetime, datetime]]:
    query = """SELECT range_start, range_end FROM timescaledb_information.chunks
                WHERE hypertable_name = 'events' ORDER BY range_start"""
    return connection.execute(query).fetchall()


def rows_within(rows: dict[Key, Row], ranges: list[tuple[datetime, datetime]], keep: timedelta) -> dict[Key, Row]:
    """The rows in chunks that end after the retention horizon."""
    beyond = [(start, end) for start, end in ranges if end > datetime.now(UTC) - keep]
    return {key: row for key, row in rows.items() if any(start <= key[1] < end for start, end in beyond)}


def recorded_drops(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT coalesce(sum(rows), 0)::int FROM spillway.drops").fetchone()
    assert row is not None
    return int(row[0])
