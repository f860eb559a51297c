"""What merged rows of the ledger no longer show is kept by the hour: when loads took place and how long they took."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tasks.ledger.load_seconds import LOAD_SECONDS
from tasks.ledger.merge_ranges import merge_ranges

NOW = datetime.now(UTC)
COUNTS = ("loads", "read", "inserted", "duplicates", "quarantined", "bytes")


@pytest.fixture
def stream_id(database: psycopg.Connection) -> int:
    row = database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('old', 0) RETURNING id").fetchone()
    assert row is not None
    return int(row[0])


class Oracle:
    """Adds loads to the ledger, and sums them by the hour in Python."""

    def __init__(self, database: psycopg.Connection, stream_id: int) -> None:
        self.database = database
        self.stream_id = stream_id
        self.loads: list[tuple[datetime, float | None, tuple[int, ...]]] = []

    def add(self, at: datetime, seconds: float | None, read: int) -> None:
        number = len(self.loads)
        counts = (1, read, read - 3, 2, 1, read * 100)
        self.database.execute(
            "INSERT INTO spillway.ledger (stream, ids, rows, loaded_by, loaded_at, seconds, read, inserted, duplicates,"
            " quarantined, bytes) VALUES (%s, numrange(%s, %s), %s, 'run', %s, %s, %s, %s, %s, %s, %s)",
            [self.stream_id, number, number + 1, read, at, seconds, *counts[1:]],
        )
        self.loads.append((at, seconds, counts))

    def hours(self) -> dict[datetime, tuple[int, ...]]:
        """The counts of each hour."""
        found: dict[datetime, tuple[int, ...]] = {}
        for at, _, counts in self.loads:
            hour = at.replace(minute=0, second=0, microsecond=0)
            found[hour] = tuple(map(sum, zip(found.get(hour, (0,) * 6), counts, strict=True)))
        return found

    def buckets(self) -> Counter[int]:
        """How many loads are in each bucket of the histogram, by its number."""
        return Counter(
            next((n for n, bound in enumerate(LOAD_SECONDS) if seconds <= bound), len(LOAD_SECONDS))
            for _, seconds, _ in self.loads
            if seconds is not None
        )


@pytest.fixture
def oracle(database: psycopg.Connection, stream_id: int) -> Oracle:
    return Oracle(database, stream_id)


def stored(database: psycopg.Connection) -> dict[datetime | None, tuple[int, ...]]:
    """The counts of each hour, in the table and in the ledger together; by None what is before all hours."""
    names = ", ".join(f"sum({name})::bigint" for name in COUNTS)
    query = f"""
        SELECT nullif(hour, '-infinity'), {names} FROM (
               SELECT hour, {", ".join(COUNTS)} FROM spillway.load_hours
               UNION ALL SELECT date_trunc('hour', loaded_at, 'UTC'), 1, read, inserted, duplicates, quarantined, bytes
                 FROM spillway.ledger WHERE ranges = 1) AS loads
         GROUP BY 1"""
    return {hour: tuple(counts) for hour, *counts in database.execute(query.encode())}


def stored_buckets(database: psycopg.Connection) -> Counter[int]:
    found: Counter[int] = Counter()
    for (buckets,) in database.execute("SELECT buckets FROM spillway.load_hours"):
        assert len(buckets) == len(LOAD_SECONDS) + 1
        found.update({number: count for number, count in enumerate(buckets) if count})
    return found


@pytest.mark.parametrize("seed", range(3))
def test_no_load_is_missing_or_counted_twice_however_often_rows_are_merged(
    seed: int, database: psycopg.Connection, stream_id: int, oracle: Oracle
) -> None:
    choose = random.Random(seed)
    for _ in range(3):
        for _ in range(150):
            at = NOW - timedelta(days=choose.uniform(1.1, 3))
            seconds = choose.choice([None, *LOAD_SECONDS, choose.uniform(0, 2), 400.0])
            oracle.add(at, seconds, read=choose.randrange(3, 50))
        merge_ranges(database, stream_id)
    oracle.add(NOW, 1.0, read=5)
    merge_ranges(database, stream_id)
    assert database.execute("SELECT ranges FROM spillway.ledger ORDER BY ids").fetchall() == [(450,), (1,)]
    assert stored(database) == oracle.hours()
    oracle.loads.pop()  # it is in the ledger only
    assert stored_buckets(database) == oracle.buckets()
    row = database.execute("SELECT sum(seconds), max(max_seconds) FROM spillway.load_hours").fetchone()
    assert row is not None
    known = [seconds for _, seconds, _ in oracle.loads if seconds is not None]
    assert row[0] == pytest.approx(sum(known), rel=1e-5)
    assert row[1] == max(known)


def test_hours_older_than_ninety_days_become_one_row_and_no_load_is_missing(
    database: psycopg.Connection, stream_id: int, oracle: Oracle
) -> None:
    for n in range(300):
        oracle.add(NOW - timedelta(days=100 - n / 10), 0.2, read=10)
    merge_ranges(database, stream_id)
    database.execute("UPDATE spillway.load_hours SET hour = hour - interval '20 days' WHERE hour > '-infinity'")
    for _ in range(150):
        oracle.add(NOW - timedelta(days=2), 0.2, read=10)
    merge_ranges(database, stream_id)
    found = stored(database)
    assert sum(counts[0] for counts in found.values()) == 450
    assert found.pop(None)[0] > 250
    assert all(hour is not None and hour > NOW - timedelta(days=90, hours=1) for hour in found)
    assert stored_buckets(database) == oracle.buckets()


def test_a_range_with_a_loss_stays_in_the_ledger(database: psycopg.Connection, stream_id: int, oracle: Oracle) -> None:
    for _ in range(150):
        oracle.add(NOW - timedelta(days=2), 0.2, read=10)
    database.execute("UPDATE spillway.ledger SET lost = 1 WHERE ids @> 70::numeric")
    merge_ranges(database, stream_id)
    assert database.execute("SELECT ranges FROM spillway.ledger ORDER BY ids").fetchall() == [(70,), (1,), (79,)]
    assert stored(database) == oracle.hours()
