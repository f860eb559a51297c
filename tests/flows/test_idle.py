"""A drain that finds nothing new: what it costs the servers, as they count it themselves."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.producers.send import send
from tests.support.oracle import ledger_sums
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")


def redis_connections(client: redis.Redis) -> int:
    """Connections ever made to the server."""
    stats: Any = client.info("stats")
    made: int = stats["total_connections_received"]
    return made


def postgres_connections(connection: psycopg.Connection) -> int:
    """Client connections ever made to the database; each is counted when its backend ends or is asked to."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 30
    while connection.execute(others).fetchone() != (0,):
        assert time.monotonic() < deadline, "a connection stays open"
        time.sleep(0.01)
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    made: int = row[0]
    return made


def test_a_drain_of_a_drained_stream_connects_once_to_each_server_and_asks_little(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(50)])
    assert drain(stream)["read"] == 50
    asked: Any = redis_client.info("stats")
    before = (redis_connections(redis_client), postgres_connections(database))
    assert drain(stream)["read"] == 0
    after = (redis_connections(redis_client), postgres_connections(database))
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]
    now: Any = redis_client.info("stats")
    assert (
        now["total_commands_processed"] - asked["total_commands_processed"] <= 3 + 17
    )  # three of them are ours; proofs are transactions of several commands each
    assert ledger_sums(database, stream) == (50, 50, 0, 0)


def test_a_drain_of_many_drained_streams_connects_no_more_often(
    redis_client: redis.Redis, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it ask PostgreSQL more than once for the name of its consumer group."""
    import infra.connections.clients as module

    asked: list[psycopg.Connection] = []
    really_ask = module.group_name

    def ask(connection: psycopg.Connection) -> str:
        asked.append(connection)
        return really_ask(connection)

    for number in range(8):
        send(redis_client, f"idle:{number}", [event(number)])
    assert drain("idle:*")["read"] == 8
    monkeypatch.setattr(module, "group_name", ask)
    before = (redis_connections(redis_client), postgres_connections(database))
    assert drain("idle:*")["read"] == 0
    assert len(asked) == 1
    after = (redis_connections(redis_client), postgres_connections(database))
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]
