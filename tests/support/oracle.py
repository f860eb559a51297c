"""What the tables must hold, computed from the produced entries without Spillway's code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg

Row = tuple[str, str, Any]
Key = tuple[str, datetime]


def crossref_rows(lines: Iterable[bytes]) -> dict[Key, Row]:
    """Key → `(event_type, user_id, properties)` of real events, by the mapping in tests/data/README.md. The first event
    of a key wins."""
    rows: dict[Key, Row] = {}
    for line in lines:
        event = json.loads(line)
        key = (event["id"], datetime.fromisoformat(event["occurred_at"]).astimezone(UTC))
        kind = f"{event['source_id']}.{event['relation_type_id']}"
        rows.setdefault(key, (kind, event.get("subj_id") or "unknown", event))
    return rows


def flat_rows(entries: Iterable[Mapping[bytes, bytes]]) -> dict[Key, Row]:
    """Key → `(event_type, user_id, properties)` of good flat entries."""
    rows: dict[Key, Row] = {}
    for entry in entries:
        text = {name.decode(): value.decode() for name, value in entry.items()}
        key = (text["event_id"], datetime.fromisoformat(text["time"]).astimezone(UTC))
        rows.setdefault(key, (text["event_type"], text["user_id"], json.loads(text["properties"])))
    return rows


def table_rows(connection: psycopg.Connection) -> dict[Key, Row]:
    """Key → `(event_type, user_id, properties)` of the table `events`, which cannot hold a key twice."""
    connection.execute("SET TimeZone = 'UTC'")
    query = "SELECT event_id::text, time, event_type, user_id, properties FROM events"
    return {
        (event_id, moment): (kind, user, properties)
        for event_id, moment, kind, user, properties in connection.execute(query)
    }


def table_digest(connection: psycopg.Connection) -> str:
    """A hash of all rows of the table, in the order of their keys."""
    digest = hashlib.sha256()
    connection.execute("SET TimeZone = 'UTC'")
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY (SELECT * FROM events ORDER BY event_id, time) TO STDOUT") as copy,
    ):
        for data in copy:
            digest.update(data)
    return digest.hexdigest()


def ledger_is_whole(connection: psycopg.Connection, stream: str) -> bool:
    """Whether the ranges of `stream` in the ledger join without a gap from 0 on, checked one by one, and its row in
    `spillway.streams` has the same progress."""
    query = """
        SELECT lower(ids), upper(ids), read, inserted, loaded_at FROM spillway.ledger
         WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s) ORDER BY ids"""
    reached = read = inserted = 0
    latest = None
    for lower, upper, *counts, loaded_at in connection.execute(query, [stream]):
        if lower != reached:
            return False
        reached = upper
        read, inserted = read + counts[0], inserted + counts[1]
        latest = loaded_at if latest is None else max(latest, loaded_at)
    progress = "SELECT drained::text, read, inserted, loaded_at FROM spillway.streams WHERE name = %s"
    expected = (f"{{[0,{reached})}}", read, inserted, latest)
    return reached > 0 and connection.execute(progress, [stream]).fetchone() == expected


def ledger_sums(connection: psycopg.Connection, stream: str) -> tuple[int, int, int, int]:
    """The sums of read, inserted, duplicates and quarantined over all ranges of `stream`."""
    query = """
        SELECT sum(read)::int, sum(inserted)::int, sum(duplicates)::int, sum(quarantined)::int FROM spillway.ledger
         WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""
    row = connection.execute(query, [stream]).fetchone()
    assert row is not None
    return row
