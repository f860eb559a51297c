"""Backfills and a drain of the same events, and of the same file, at the same time: every event once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from flows.reconcile import reconcile
from infra.producers.generate import batches
from infra.producers.send import send
from tests.faults.histories import events_of, ledger_totals, shuffled_days, write
from tests.support.chunk_states import chunk_statuses
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness

EVENTS = 24_000
LATEST = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 30

_BACKFILL = Harness(flow="backfill")
_BEGUN = Point("after load", 2)
_COMPRESSED = "ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time DESC')"


def test_two_backfills_that_share_half_of_their_events_run_alongside_a_drain_of_all(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    _meet(env, redis_client, database, stream, tmp_path)


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_the_same_in_compressed_chunks(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    database.execute(_COMPRESSED)
    first = write(tmp_path / "before.csv", shuffled_days(_produced()[::20], 1))
    before = Drain(str(first), env, _BACKFILL).finished()
    assert "error" not in before, before
    assert set(chunk_statuses(database)) == {1}
    _meet(env, redis_client, database, stream, tmp_path, before["inserted"], before["read"])


def _produced() -> list[dict[bytes, bytes]]:
    span = batches(EVENTS, seed=21, duplicates=0.01, start=LATEST, span_hours=24 * DAYS)
    return [entry for batch in span for entry in batch.entries]


def _meet(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, folder: Path,
    there: int = 0, read_before: int = 0,
) -> None:  # fmt: skip
    """Run all at once. `there`: rows that the table already has. `read_before`: rows read in the ledger before."""
    produced = _produced()
    quarter = EVENTS // 4
    parts = {"a.parquet": produced[: 3 * quarter], "b.ndjson.gz": produced[quarter:]}
    files = [write(folder / name, shuffled_days(entries, 5)) for name, entries in parts.items()]
    send(redis_client, stream, reversed(produced))  # so that the drain starts at the other end of the time range
    # Each pauses between two of its loads, with no transaction open, until all have started.
    small = env | {"SPILLWAY_BATCH_ROWS": "200", "SPILLWAY_PARALLEL_LOADS": "1"}
    runs = [Drain(str(file), small, Harness(_BEGUN, flow="backfill")) for file in files]
    assert all(run.reached() for run in runs), "they do not get going"
    runs.append(Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "300"}, Harness(_BEGUN)))
    assert runs[-1].reached(), "the drain does not get going"
    for run in runs:
        run.go_on()
    results = [run.finished(240) for run in runs]
    assert [result.get("error") for result in results] == [None] * 3
    expected = flat_rows(produced)
    assert table_rows(database) == expected
    total = sum(map(len, parts.values())) + EVENTS
    read, inserted, duplicates, quarantined = ledger_totals(database)
    assert (read - read_before, inserted, quarantined) == (total, len(expected), 0)
    assert (inserted, duplicates) == (events_of(database), read - inserted)
    assert sum(result["read"] for result in results) == total
    assert sum(result["inserted"] for result in results) == len(expected) - there
    assert all(result["inserted"] for result in results), "they did not meet"
    assert ledger_is_whole(database, stream)
    assert reconcile([stream, "file:*"], deep=True)["balanced"]


def test_two_backfills_of_the_same_file_share_it_alongside_a_drain(
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
    assert ledger_totals(database) == (2 * EVENTS, len(expected), 2 * EVENTS - len(expected), 0)
    # Both planned to read the whole file; together they read it once.
    shared = [result["read"] for result in results[:2]]
    print(f"read by each: {shared}")
    assert sum(shared) == EVENTS
    assert sum(result["inserted"] for result in results) == len(expected)
    name = results[0]["sources"][0]["ledger_name"]
    assert results[1]["sources"][0]["ledger_name"] == name
    assert ledger_is_whole(database, name)
    assert ledger_sums(database, name)[0] == EVENTS
    assert reconcile([stream, "file:*"], deep=True)["balanced"]
    again = Drain(str(copy), env, _BACKFILL).finished()
    assert (again["read"], again["remaining"], again["sources"][0]["state"]) == (0, 0, "known")
