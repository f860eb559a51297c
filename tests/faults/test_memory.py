"""Memory does not grow with the backlog."""

from __future__ import annotations

import psycopg
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.processes import Drain

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
