"""A drain can be paused at each of its steps, and killed there."""

from __future__ import annotations

import psycopg
import pytest
import redis

from infra.producers.generate import batches
from infra.producers.send import send
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.pause_points import POINTS, Point
from tests.support.processes import Drain, Harness


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_killed_at_any_of_its_steps_is_completed_by_the_next_one(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    produced = []
    for seed, where in enumerate(POINTS):
        fresh = [entry for batch in batches(300, seed=seed) for entry in batch.entries]
        send(redis_client, stream, fresh)
        produced += fresh
        drain = Drain(stream, env | {"SPILLWAY_BATCH_ROWS": "100"}, Harness(Point(where), delays=[0.1]))
        try:
            assert drain.reached(), f"it never came by «{where}»"
        finally:
            drain.kill()
    assert "error" not in Drain(stream, env).finished()
    assert table_rows(database) == flat_rows(produced)
    assert ledger_is_whole(database, stream)
