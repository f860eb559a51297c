"""Merging keeps the ledger small and leaves its totals unchanged."""

from __future__ import annotations

import random

import psycopg
import pytest
import redis

from tasks.ledger.merge_ranges import merge_ranges
from tasks.ledger.plan import make_plan

MS = 1 << 64  # ids of one millisecond
STREAM = "old"


@pytest.fixture
def ledger(database: psycopg.Connection) -> psycopg.Connection:
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [STREAM])
    return database


def stream_id(ledger: psycopg.Connection) -> int:
    row = ledger.execute("SELECT id FROM spillway.streams WHERE name = %s", [STREAM]).fetchone()
    assert row is not None
    return int(row[0])


def add(ledger: psycopg.Connection, start: int, stop: int, days: float, read: int, rows: int = 3) -> None:
    """A range whose `read` entries became `rows` more rows."""
    ledger.execute(
        "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, duplicates, quarantined, bytes, min_time,"
        " max_time, loaded_by, loaded_at)"
        " VALUES (%s, numrange(%s, %s), %s, %s, %s, 1, 1, %s, to_timestamp(%s), to_timestamp(%s),"
        " 'run', now() - %s * interval '1 day')",
        [stream_id(ledger), start, stop, read, read + rows, read + rows - 2, read * 100, start // MS, stop // MS, days],
    )


def totals(ledger: psycopg.Connection) -> object:
    """The totals of the ledger, however it is divided into rows."""
    return ledger.execute(
        "SELECT range_agg(ids)::text, sum(ranges), sum(read), sum(rows), sum(inserted), sum(duplicates),"
        " sum(quarantined), sum(bytes), min(min_time), max(max_time), max(loaded_at) FROM spillway.ledger"
    ).fetchone()


def rows(ledger: psycopg.Connection) -> list[tuple[int, int, int]]:
    query = "SELECT (lower(ids) / %(ms)s)::int, (upper(ids) / %(ms)s)::int, ranges FROM spillway.ledger ORDER BY ids"
    return ledger.execute(query, {"ms": MS}).fetchall()


def test_adjacent_old_rows_are_merged_and_gaps_and_recent_rows_stay(ledger: psycopg.Connection) -> None:
    for i in [*range(300), *range(310, 500)]:
        add(ledger, i * MS, (i + 1) * MS, days=3 if i < 450 else 0.5, read=10 + i)
    before = totals(ledger)
    merge_ranges(ledger, stream_id(ledger))
    assert totals(ledger) == before
    assert rows(ledger) == [(0, 300, 300), (310, 450, 140), *((i, i + 1, 1) for i in range(450, 500))]
    ledger.execute("UPDATE spillway.ledger SET loaded_at = loaded_at - interval '5 days'")
    for i in range(500, 600):
        add(ledger, i * MS, (i + 1) * MS, days=2, read=10)
    before = totals(ledger)
    merge_ranges(ledger, stream_id(ledger))
    assert totals(ledger) == before
    assert rows(ledger) == [(0, 300, 300), (310, 600, 290)]


def test_rows_are_merged_only_if_that_saves_a_hundred(ledger: psycopg.Connection) -> None:
    for i in range(100):
        add(ledger, i * MS, (i + 1) * MS, days=9, read=10)
    merge_ranges(ledger, stream_id(ledger))
    assert len(rows(ledger)) == 100
    add(ledger, 100 * MS, 101 * MS, days=9, read=10)
    merge_ranges(ledger, stream_id(ledger))
    assert rows(ledger) == [(0, 101, 101)]


@pytest.mark.parametrize("seed", range(5))
def test_merging_does_not_change_the_drain_plan(
    seed: int, ledger: psycopg.Connection, redis_client: redis.Redis
) -> None:
    choose = random.Random(seed)
    at = 0
    for _ in range(400):
        if choose.random() < 0.1:
            at += choose.randrange(1, 3 * MS)
        stop = at + choose.randrange(1, 2 * MS)
        if choose.random() < 0.95:
            add(ledger, at, stop, days=choose.choice([0.1, 5, 5, 5]), read=choose.randrange(2, 50))
        at = stop
    last = f"{at // MS + 5}-7"
    redis_client.xadd(STREAM, {"a": "b"}, id=last)
    redis_client.execute_command("XSETID", STREAM, last, "ENTRIESADDED", 50 * 400)  # as the ledger has it, and more
    before = totals(ledger), make_plan(redis_client, ledger, STREAM)
    merge_ranges(ledger, stream_id(ledger))
    assert (totals(ledger), make_plan(redis_client, ledger, STREAM)) == before
    assert 10 < len(rows(ledger)) < 300


def test_rows_of_other_streams_are_not_merged(ledger: psycopg.Connection) -> None:
    row = ledger.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('other', 0) RETURNING id").fetchone()
    assert row is not None
    for i in range(150):
        add(ledger, i * MS, (i + 1) * MS, days=9, read=10)
    copy = (
        "INSERT INTO spillway.ledger (stream, ids, loaded_by, loaded_at)"
        " SELECT %s, ids, 'x', loaded_at FROM spillway.ledger"
    )
    ledger.execute(copy, [row[0]])
    merge_ranges(ledger, stream_id(ledger))
    found = ledger.execute("SELECT stream, count(*) FROM spillway.ledger GROUP BY stream ORDER BY 1").fetchall()
    assert found == [(stream_id(ledger), 1), (row[0], 150)]
