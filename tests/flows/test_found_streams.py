"""Drains of patterns in a Redis with many keys: the names of the last scan are used for a while."""

from __future__ import annotations

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from tasks.streams import find
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.stream_entries import event

PATTERNS = ["names:*", "more:*"]


@pytest.fixture
def many_keys(monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> None:
    """A keyspace so large that its stream names are kept in the database."""
    monkeypatch.setattr(find, "_KEYS_PER_SCAN", 100)
    monkeypatch.setattr(find, "_MANY_SCANS", 10)
    redis_client.mset({f"other:{number}": "" for number in range(3_000)})


def scans(client: redis.Redis, patterns: list[str]) -> int:
    """Drain, and count the SCANs."""
    client.config_resetstat()
    drain(patterns)
    found = client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"]
    assert isinstance(found, int)
    return found


def kept(connection: psycopg.Connection) -> list[list[bytes]]:
    rows = connection.execute("SELECT names FROM spillway.found_streams", binary=True).fetchall()
    return [sorted(names) for (names,) in rows]


def expire(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE spillway.found_streams SET scanned_at = scanned_at - INTERVAL '6 minutes'")


def test_a_small_keyspace_is_scanned_by_every_drain(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    send(redis_client, "names:a", [event(1)])
    assert scans(redis_client, PATTERNS) == 1
    send(redis_client, "names:b", [event(2)])
    assert scans(redis_client, PATTERNS) == 1
    assert table_rows(database) == flat_rows([event(1), event(2)])
    assert kept(database) == []


@pytest.mark.usefixtures("many_keys")
def test_a_large_keyspace_is_scanned_now_and_then(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    send(redis_client, "names:a", [event(1)])
    redis_client.xadd(b"more:\xff", {"a": "b"})
    assert scans(redis_client, PATTERNS) >= 10
    assert kept(database) == [[b"more:\xff", b"names:a"]]
    send(redis_client, "names:a", [event(2)])
    send(redis_client, "more:new", [event(3)])
    assert scans(redis_client, PATTERNS) == 0
    assert table_rows(database) == flat_rows([event(1), event(2)])
    expire(database)
    assert scans(redis_client, PATTERNS) >= 10
    assert table_rows(database) == flat_rows([event(1), event(2), event(3)])
    assert scans(redis_client, PATTERNS) == 0
    assert len(kept(database)) == 1
    assert all(ledger_is_whole(database, name) for name in ("names:a", "more:new"))


@pytest.mark.usefixtures("many_keys")
def test_names_of_the_ledger_are_included_and_streams_that_are_gone_are_not(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    send(redis_client, "names:a", [event(1)])
    send(redis_client, "names:gone", [event(2)])
    assert scans(redis_client, PATTERNS) >= 10
    redis_client.delete("names:gone")
    send(redis_client, "names:named", [event(3)])
    assert scans(redis_client, ["names:named"]) == 0
    send(redis_client, "names:named", [event(4)])
    redis_client.config_resetstat()
    found = drain(PATTERNS)
    assert "cmdstat_scan" not in redis_client.info("commandstats")
    assert [one["stream"] for one in found["streams"]] == ["names:a", "names:named"]
    assert table_rows(database) == flat_rows([event(n) for n in (1, 2, 3, 4)])


@pytest.mark.usefixtures("many_keys")
def test_other_patterns_and_a_clock_that_was_set_back_need_a_scan(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    assert scans(redis_client, PATTERNS) >= 10
    assert scans(redis_client, ["names:*"]) >= 10
    assert scans(redis_client, PATTERNS[::-1]) == 0
    database.execute("UPDATE spillway.found_streams SET scanned_at = scanned_at + INTERVAL '1 hour'")
    assert scans(redis_client, PATTERNS) >= 10


@pytest.mark.usefixtures("many_keys")
def test_the_setting_can_be_off(
    redis_client: redis.Redis, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra.settings import settings

    monkeypatch.setenv("SPILLWAY_SCAN_EVERY", "")
    settings.cache_clear()
    assert scans(redis_client, PATTERNS) >= 10
    assert scans(redis_client, PATTERNS) >= 10
    assert kept(database) == []
