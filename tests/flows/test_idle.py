"""A drain that finds nothing new: what it costs the servers, as they count it themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.errors.exceptions import Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tasks.base import task_run
from tasks.base.step import Step
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("prefect_server")


def redis_connections(client: redis.Redis) -> int:
    """Connections ever made to the server."""
    stats: Any = client.info("stats")
    made: int = stats["total_connections_received"]
    return made


def postgres_connections(connection: psycopg.Connection) -> int:
    """Client connections ever made to the database; each is counted when its backend ends or is asked to."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    wait_until(lambda: connection.execute(others).fetchone() == (0,), every=0.01)
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


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that become task runs from now on."""
    names: list[str] = []
    run_as_task = task_run.run_as_task

    def run(step: Step[..., Any], *values: Any, **options: Any) -> Any:
        names.append(step.name)
        return run_as_task(step, *values, **options)

    monkeypatch.setattr(task_run, "run_as_task", run)
    return names


def test_streams_with_nothing_new_cost_no_task_run_and_no_write(
    redis_client: redis.Redis, database: psycopg.Connection, steps: list[str]
) -> None:
    rows = "SELECT xmin, to_jsonb(s) FROM spillway.streams AS s ORDER BY id"
    for number in range(20):
        send(redis_client, f"idle:{number:02}", [event(number)])
    assert drain("idle:*")["read"] == 20
    before = database.execute(rows).fetchall()
    steps.clear()
    result = drain("idle:*")
    assert steps == ["preflight", "find idle streams"]
    assert database.execute(rows).fetchall() == before
    assert [(one["stream"], one["read"], one["lag"], one["error"]) for one in result["streams"]] == [
        (f"idle:{number:02}", 0, 0, None) for number in range(20)
    ]
    send(redis_client, "idle:07", [event(100), event(101)])
    steps.clear()
    result = drain("idle:*")
    assert [one["read"] for one in result["streams"]] == [2 if number == 7 else 0 for number in range(20)]
    assert steps == ["preflight", "find idle streams", "drain streams", "report"]
    assert table_rows(database) == flat_rows(event(number) for number in [*range(20), 100, 101])
    assert ledger_sums(database, "idle:07") == (3, 3, 0, 0)
    assert all(ledger_is_whole(database, f"idle:{number:02}") for number in range(20))


def test_a_stream_that_went_back_among_idle_ones_is_an_error_and_the_others_are_drained(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    for number in range(5):
        send(redis_client, f"idle:{number}", [event(number), event(10 + number)])
    drain("idle:*")
    redis_client.delete("idle:2")
    send(redis_client, "idle:2", [event(50)])
    send(redis_client, "idle:4", [event(60)])
    with pytest.raises(Unsuccessful, match="stream idle:2 went back") as raised:
        drain("idle:*")
    assert [one["read"] for one in raised.value.result["streams"]] == [0, 0, 0, 0, 1]
    assert table_rows(database) == flat_rows(event(number) for number in [*range(5), *range(10, 15), 60])


def test_idle_streams_are_trimmed_without_a_task_run(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], steps: list[str]
) -> None:
    for number in range(5):
        redis_client.xadd(f"idle:{number}", event(number), id=f"{1_700_000_000_000 + number}-0")  # type: ignore[arg-type]
    drain("idle:*")
    configure(trim_keep="7d")
    steps.clear()
    result = drain("idle:*")
    assert [one["trimmed"] for one in result["streams"]] == [1] * 5
    assert steps == ["preflight", "find idle streams"]
    assert [redis_client.xlen(f"idle:{number}") for number in range(5)] == [0] * 5
    assert drain("idle:*")["read"] == 0
    assert table_rows(database) == flat_rows(event(number) for number in range(5))
