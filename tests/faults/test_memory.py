"""Memory does not grow with the backlog, nor with the size of entries beyond a few times the largest one."""

from __future__ import annotations

import json

import psycopg
import pytest
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.processes import Drain
from tests.support.stream_entries import event

LIMIT_BYTES = 500 * 1024 * 1024


def test_a_backlog_of_many_batches_stays_under_500_mb(
    prefect_server: str, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """`benchmarks/memory.py` shows the same with 2,000,000 events."""
    events = 250_000
    for batch in batches(events, seed=2):
        send(redis_client, stream, batch.entries)
    result = Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "25000"}).finished()
    print(f"peak {result['peak_bytes'] / 1e6:.0f} MB")
    assert result["read"] == events
    assert result["peak_bytes"] < LIMIT_BYTES


@pytest.mark.parametrize("sizes", [[100] * 2_000 + [4_000_000] * 60, [60_000_000] * 4], ids=["a jump", "huge"])
def test_large_entries_stay_under_500_mb(
    sizes: list[int], prefect_server: str, env: dict[str, str], redis_client: redis.Redis,
    database: psycopg.Connection, stream: str,
) -> None:  # fmt: skip
    """`benchmarks/large_entries.py` shows the same with 250 entries of 4 MB and 10 of 60 MB."""
    for number, size in enumerate(sizes):
        text = f"{number:08}" * (size // 8)
        redis_client.xadd(stream, event(number, properties=json.dumps({"text": text})))  # type: ignore[arg-type]
    result = Drain(stream, env).finished()
    print(f"peak {result['peak_bytes'] / 1e6:.0f} MB")
    found = database.execute("SELECT length(properties ->> 'text') FROM events ORDER BY event_id").fetchall()
    assert [length for (length,) in found] == [size // 8 * 8 for size in sizes]
    assert result["peak_bytes"] < LIMIT_BYTES
