"""If a server restarts in the middle of a drain, the drain waits, retries and completes."""

from __future__ import annotations

import time

import psycopg
import pytest
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.engine import Service, StopMode
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.processes import Drain
from tests.support.redis_server import await_written
from tests.support.servers import Servers
from tests.support.waiting import wait_until

EVENTS = 60_000


@pytest.mark.parametrize(
    ("service", "how"),
    [
        ("redis", "fast"),
        ("redis", "kill"),
        ("timescaledb", "fast"),
        ("timescaledb", "immediate"),
        ("timescaledb", "kill"),
    ],
)
def test_a_drain_survives_a_restart_of_a_server(
    service: Service, how: StopMode, prefect_server: str, servers: Servers, env: dict[str, str],
    redis_client: redis.Redis, database: psycopg.Connection, stream: str,
) -> None:  # fmt: skip
    if servers.engine is None:
        pytest.skip("the servers were given by URL: they cannot be stopped here")
    produced = [entry for batch in batches(EVENTS, seed=11) for entry in batch.entries]
    send(redis_client, stream, produced)
    await_written(redis_client)
    drain = Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "2000"})
    wait_until(lambda: (ledger_sums(database, stream)[0] or 0) >= EVENTS // 10, every=0.05)
    servers.engine.stop(service, how)
    time.sleep(1.5)
    servers.engine.start(service)
    result = drain.finished()
    assert "error" not in result, result
    with psycopg.connect(servers.settings.database, autocommit=True) as again:
        assert table_rows(again) == flat_rows(produced)
        assert ledger_is_whole(again, stream)
        assert ledger_sums(again, stream) == (EVENTS, EVENTS, 0, 0)
