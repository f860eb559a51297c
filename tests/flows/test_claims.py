"""Several runs at the same time take different streams, and different parts of a large one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tasks.ledger import claims
from tests.support.locks import claim_holders
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

BATCH = 100


@pytest.fixture(autouse=True)
def small_parts(configure: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    configure(batch_rows=BATCH, parallel_loads=2)
    monkeypatch.setattr(claims, "_LEAST_ENTRIES", 1)


def drain_together(database: psycopg.Connection, count: int) -> list[dict[str, Any]]:
    """The results of drains. None can load anything before each has claimed something."""
    with ThreadPoolExecutor(count) as pool, database.transaction():  # the lock is released first
        database.execute("LOCK TABLE events IN SHARE MODE")
        running = [pool.submit(drain, "claims:*") for _ in range(count)]
        wait_until(lambda: claim_holders(database) == count, shown=lambda: running)
    return [one.result() for one in running]


def read_by(results: list[dict[str, Any]], stream: str) -> list[int]:
    return [one["read"] for result in results for one in result["streams"] if one["stream"] == stream]


@pytest.mark.parametrize("count", [2, 4])
def test_runs_share_a_large_stream(redis_client: redis.Redis, database: psycopg.Connection, count: int) -> None:
    entries = [event(n) for n in range(160 * BATCH)]
    pipeline = redis_client.pipeline(transaction=False)
    for n, entry in enumerate(entries):
        pipeline.xadd("claims:a", dict(entry), id=f"{1_700_000_000_000 + n // 3}-{n % 3}")
    pipeline.execute()
    results = drain_together(database, count)
    shares = read_by(results, "claims:a")
    assert sum(shares) == len(entries)
    assert all(shares), "a run has loaded nothing"
    assert table_rows(database) == flat_rows(entries)
    assert ledger_is_whole(database, "claims:a")
    assert ledger_sums(database, "claims:a") == (len(entries), len(entries), 0, 0)
    assert drain("claims:*")["read"] == 0


def test_runs_take_different_streams(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    names = [f"claims:{n}" for n in range(12)]
    for at, name in enumerate(names):
        send(redis_client, name, [event(n) for n in range(at * 1000, at * 1000 + 5 * BATCH)])
    results = drain_together(database, 2)
    shares = {name: read_by(results, name) for name in names}
    assert all(sum(reads) == 5 * BATCH for reads in shares.values())
    assert sum(0 in reads for reads in shares.values()) >= 6, "most streams were drained by one run alone"
    assert sum(result["read"] > 0 for result in results) == 2
    assert table_rows(database) == flat_rows(event(at * 1000 + n) for at in range(12) for n in range(5 * BATCH))
    assert all(ledger_is_whole(database, name) for name in names)


def test_a_run_with_a_time_limit_leaves_a_stream_to_the_run_that_has_it(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    send(redis_client, "claims:a", [event(n) for n in range(BATCH)])
    send(redis_client, "claims:b", [event(n) for n in range(BATCH, 2 * BATCH)])
    with psycopg.connect(database.info.dsn, password=database.info.password) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('spillway drain claims:a', 0))")
        result = drain("claims:*", time_limit=3600)
        assert {one["stream"]: one["read"] for one in result["streams"]} == {"claims:a": 0, "claims:b": BATCH}
    assert drain("claims:*", time_limit=3600)["read"] == BATCH
    assert table_rows(database) == flat_rows(event(n) for n in range(2 * BATCH))
    assert ledger_is_whole(database, "claims:a")


def test_a_run_without_a_time_limit_waits_for_the_run_that_has_the_stream(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    send(redis_client, "claims:a", [event(n) for n in range(BATCH)])
    with (
        ThreadPoolExecutor(1) as pool,  # the claim is released first
        psycopg.connect(database.info.dsn, password=database.info.password) as other,
    ):
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('spillway drain claims:a', 0))")
        waiting = pool.submit(drain, "claims:*")
        asked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory%%' AND pid <> %s)"
        wait_until(lambda: database.execute(asked, [other.info.backend_pid]).fetchone() == (True,))
        time.sleep(0.5)  # for a load, if it did not wait
        assert table_rows(database) == {}
        other.rollback()
        assert waiting.result()["read"] == BATCH
    assert ledger_is_whole(database, "claims:a")
