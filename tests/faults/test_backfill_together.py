"""Backfills that meet each other and a drain, in the same events and in the same file: every event once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from flows.reconcile import reconcile
from infra.producers.generate import batches
from infra.producers.send import send
from tests.faults.histories import books, events_of, shuffled_days, write
from tests.faults.processes import Drain, Harness
from tests.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.tasks.maintain.chunked import statuses

EVENTS = 24_000
LATEST = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 30

_BACKFILL = Harness(flow="backfill")
_COMPRESSED = "ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time DESC')"


def test_two_of_files_that_share_half_of_their_events_beside_a_drain_of_them_all(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    _meet(env, redis_client, database, stream, tmp_path)


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_the_same_in_chunks_that_are_compressed(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    database.execute(_COMPRESSED)
    first = write(tmp_path / "before.csv", shuffled_days(_produced()[::20], 1))
    before = Drain(str(first), env, _BACKFILL).finished()
    assert "error" not in before, before
    assert set(statuses(database)) == {1}
    _meet(env, redis_client, database, stream, tmp_path, before["inserted"], before["read"])


def _produced() -> list[dict[bytes, bytes]]:
    span = batches(EVENTS, seed=21, duplicates=0.01, start=LATEST, span_hours=24 * DAYS)
    return [entry for batch in span for entry in batch.entries]


def _meet(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, folder: Path,
    there: int = 0, read_before: int = 0,
) -> None:  # fmt: skip
    """All at once; `there`: rows that the table has beforehand, `read_before`: what the ledger says of them."""
    produced = _produced()
    quarter = EVENTS // 4
    parts = {"a.parquet": produced[: 3 * quarter], "b.ndjson.gz": produced[quarter:]}
    files = [write(folder / name, shuffled_days(entries, 5)) for name, entries in parts.items()]
    send(redis_client, stream, reversed(produced))  # so that the drain comes from the other end of the time
    runs = {str(file): Drain(str(file), env | {"SPILLWAY_BATCH_ROWS": "200"}, _BACKFILL) for file in files}
    _stop_in_the_midst(database, runs)
    drain = Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "300"})
    _stop_in_the_midst(database, {stream: drain})
    for run in (*runs.values(), drain):
        run.go_on()
    results = [run.finished(240) for run in (*runs.values(), drain)]
    assert [result.get("error") for result in results] == [None] * 3
    expected = flat_rows(produced)
    assert table_rows(database) == expected
    total = sum(map(len, parts.values())) + EVENTS
    read, inserted, duplicates, quarantined = books(database)
    assert (read - read_before, inserted, quarantined) == (total, len(expected), 0)
    assert (inserted, duplicates) == (events_of(database), read - inserted)
    assert sum(result["read"] for result in results) == total
    assert sum(result["inserted"] for result in results) == len(expected) - there
    assert all(result["inserted"] for result in results), "they did not meet"
    assert ledger_is_whole(database, stream)
    assert reconcile([stream, "file:*"], deep=True)["balanced"]


def _stop_in_the_midst(database: psycopg.Connection, runs: Mapping[str, Drain]) -> None:
    """Let each run stand still as soon as it has put something into the table; by path or stream."""
    query = """
        SELECT coalesce(f.path, s.name) FROM spillway.ledger AS l JOIN spillway.streams AS s ON s.id = l.stream
          LEFT JOIN spillway.files AS f ON f.stream = s.id WHERE l.inserted > 0"""
    deadline = time.monotonic() + 60
    waiting = dict(runs)
    while waiting:
        for name in {name for (name,) in database.execute(query)} & waiting.keys():
            waiting.pop(name).stop()
        assert all(run.process.is_alive() for run in waiting.values()), "one has ended before another began"
        assert time.monotonic() < deadline, "they do not get going"
        time.sleep(0.01)


def test_the_same_file_twice_at_once_is_shared_between_the_two_and_a_drain(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    produced = _produced()
    file = write(tmp_path / "history.parquet", shuffled_days(produced, 5))
    copy = write(tmp_path / "copy.parquet", shuffled_days(produced, 5))
    send(redis_client, stream, reversed(produced))  # so that the drain comes from the other end of the time
    runs = [
        Drain(str(file), env | {"SPILLWAY_BATCH_ROWS": "700"}, _BACKFILL),
        Drain(str(copy), env | {"SPILLWAY_BATCH_ROWS": "900"}, _BACKFILL),
        Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "500"}),
    ]
    results = [run.finished(240) for run in runs]
    assert [result.get("error") for result in results] == [None] * len(runs)
    expected = flat_rows(produced)
    assert table_rows(database) == expected
    assert books(database) == (2 * EVENTS, len(expected), 2 * EVENTS - len(expected), 0)
    # Both had all of it before them; together they have read it once.
    shared = [result["read"] for result in results[:2]]
    print(f"read by each: {shared}")
    assert sum(shared) == EVENTS
    assert sum(result["inserted"] for result in results) == len(expected)
    name = results[0]["sources"][0]["books"]
    assert results[1]["sources"][0]["books"] == name
    assert ledger_is_whole(database, name)
    assert ledger_sums(database, name)[0] == EVENTS
    assert reconcile([stream, "file:*"], deep=True)["balanced"]
    again = Drain(str(copy), env, _BACKFILL).finished()
    assert (again["read"], again["left"], again["sources"][0]["state"]) == (0, 0, "known")
