"""Small streams share a transaction. Whatever is unusual about one of them stays its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.errors.exceptions import Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event

STREAMS = 60
Entry = dict[bytes, bytes]


class Streams:
    """Streams `small:0` and so on, each with one drained entry. `sent`: all entries that must be rows."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.names = [f"small:{at}" for at in range(STREAMS)]
        self.sent: list[Entry] = []
        for at, name in enumerate(self.names):
            self.send(name, [event(at * 1000)])
        drain("small:*")

    def send(self, name: str, entries: list[Any]) -> None:
        """Send entries that must be rows."""
        send(self.client, name, entries)
        self.sent += entries

    def send_some(self, leave_out: frozenset[int] = frozenset()) -> None:
        """Ten more entries to each."""
        for at, name in enumerate(self.names):
            if at not in leave_out:
                self.send(name, [event(at * 1000 + n) for n in range(1, 11)])


@pytest.fixture
def streams(redis_client: redis.Redis, database: psycopg.Connection) -> Iterator[Streams]:
    del database  # empty tables first
    return Streams(redis_client)


def transactions_of(database: psycopg.Connection) -> int:
    """How many transactions have loaded the ranges of more than one entry."""
    row = database.execute("SELECT count(DISTINCT xmin::text) FROM spillway.ledger WHERE read > 1").fetchone()
    assert row is not None
    count: int = row[0]
    return count


def positions(client: redis.Redis, name: str) -> tuple[Any, Any]:
    """What a monitor of Redis sees: the lag of our group, and how many entries it has read."""
    (group,) = client.xinfo_groups(name)
    return group["lag"], group["entries-read"]


def test_they_are_exact_and_share_a_transaction(streams: Streams, database: psycopg.Connection) -> None:
    streams.send_some()
    result = drain("small:*")
    assert [(one["read"], one["inserted"]) for one in result["streams"]] == [(10, 10)] * STREAMS
    assert (result["read"], result["warnings"]) == (10 * STREAMS, [])
    assert table_rows(database) == flat_rows(streams.sent)
    assert transactions_of(database) == 1
    for name in streams.names:
        assert ledger_is_whole(database, name)
        assert ledger_sums(database, name) == (11, 11, 0, 0)
        assert positions(streams.client, name) == (0, 11)
    assert drain("small:*")["read"] == 0


def test_what_is_unusual_about_one_stays_its_own(
    streams: Streams, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(max_bad_share=1)
    client = streams.client
    streams.send_some(leave_out=frozenset(range(10)))
    send(client, "small:0", [event(0)])  # a duplicate
    send(client, "small:1", [event(1001, user_id="")])  # undecodable
    streams.send("small:2", [event(2001)])
    send(client, "small:2", [event(2001)])  # a repeat within the batch
    send(client, "small:3", [event(3000, event_type="another")])  # a conflict
    streams.send("small:4", [event(100_000 + n) for n in range(1, 1500)])  # not small
    streams.send("small:5", [event(5001)])
    client.xadd("small:5", {b"x": b"y"})
    client.xtrim("small:5", maxlen=0)  # all three are lost, one of them was drained
    streams.sent.remove(event(5001))
    client.delete("small:6")  # went back
    send(client, "small:6", [event(6001)])
    client.delete("small:7")
    with pytest.raises(Unsuccessful) as failed:
        drain("small:*")
    by_name = {one["stream"]: one for one in failed.value.result["streams"]}
    assert table_rows(database) == flat_rows(streams.sent)
    expected = {
        0: (2, 1, 1, 0),
        1: (2, 1, 0, 1),
        2: (3, 2, 1, 0),
        3: (2, 1, 0, 1),
        4: (1500, 1500, 0, 0),
        9: (1, 1, 0, 0),
    }
    assert {at: ledger_sums(database, f"small:{at}") for at in expected} == expected
    assert by_name["small:5"]["lost"] == 2
    assert "went back" in by_name["small:6"]["error"]
    assert all(ledger_sums(database, name) == (11, 11, 0, 0) for name in streams.names[10:])
    assert all(by_name[name]["read"] == 10 for name in streams.names[10:])


def test_a_row_that_the_server_rejects_leaves_the_others_whole(
    streams: Streams, database: psycopg.Connection, alter: Callable[[str], None]
) -> None:
    alter("ALTER TABLE events ADD CONSTRAINT no_buyers CHECK (event_type <> 'never')")
    streams.send_some()
    send(streams.client, "small:9", [event(9100, event_type="never")])
    result = drain("small:*")
    assert (result["read"], result["quarantined"]) == (10 * STREAMS + 1, 1)
    assert table_rows(database) == flat_rows(streams.sent)
    assert ledger_sums(database, "small:9") == (12, 11, 0, 1)
    assert all(ledger_is_whole(database, name) for name in streams.names)


def test_several_drains_at_the_same_time(streams: Streams, database: psycopg.Connection) -> None:
    streams.send_some()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: drain("small:*"), range(3)))
    assert sum(result["read"] for result in results) == 10 * STREAMS
    assert table_rows(database) == flat_rows(streams.sent)
    assert all(ledger_sums(database, name) == (11, 11, 0, 0) for name in streams.names)


def test_trimming(streams: Streams, database: psycopg.Connection, configure: Callable[..., Settings]) -> None:
    configure(trim_keep="0s")
    streams.send_some()
    result = drain("small:*")
    assert result["read"] == 10 * STREAMS
    assert sum(one["trimmed"] for one in result["streams"]) == sum(
        11 - streams.client.xlen(name) for name in streams.names
    )
    assert table_rows(database) == flat_rows(streams.sent)
    streams.client.xgroup_create("small:0", "another", "0")
    streams.sent += [event(500)]
    send(streams.client, "small:0", [event(500)])
    send(streams.client, "small:1", [event(1500)])
    assert drain("small:*")["read"] == 2
    assert streams.client.xlen("small:0") >= 1
