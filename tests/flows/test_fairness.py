"""No stream waits behind the backlog of another one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")
BATCH = 10


@pytest.fixture
def one_at_a_time(configure: Callable[..., Settings]) -> None:
    """One load at a time, so that the ledger shows their order."""
    configure(batch_rows=BATCH, parallel_loads=1)


def loads(database: psycopg.Connection) -> str:
    """The streams of all ranges, in the order in which these were loaded, each by the last letter of its name."""
    query = """
        SELECT right(s.name, 1) FROM spillway.ledger AS l JOIN spillway.streams AS s ON s.id = l.stream
         ORDER BY l.loaded_at"""
    return "".join(name for (name,) in database.execute(query))


def fill(client: redis.Redis, **sizes: int) -> int:
    """Send that many entries to each stream, and return their number. No two have the same event."""
    first = 0
    for name, size in sizes.items():
        send(client, f"fair:{name}", [event(n) for n in range(first, first + size)])
        first += size
    return first


@pytest.mark.usefixtures("one_at_a_time")
def test_small_streams_do_not_wait_for_a_large_one(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    sent = fill(redis_client, a=12 * BATCH + 3, b=4, c=BATCH + 1, d=1)
    result = drain("fair:*")
    assert [one["read"] for one in result["streams"]] == [12 * BATCH + 3, 4, BATCH + 1, 1]
    assert loads(database) == "abcdac" + "a" * 11
    assert table_rows(database) == flat_rows(event(n) for n in range(sent))
    assert all(ledger_is_whole(database, f"fair:{name}") for name in "abcd")
    assert drain("fair:*")["read"] == 0


@pytest.mark.usefixtures("one_at_a_time")
def test_large_streams_take_turns(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    sent = fill(redis_client, a=5 * BATCH, b=3 * BATCH, c=4 * BATCH)
    drain("fair:*")
    assert [name for name, _ in groupby(loads(database))] == list("abcabcabcaca")
    assert table_rows(database) == flat_rows(event(n) for n in range(sent))
    assert [ledger_sums(database, f"fair:{name}")[0] for name in "abc"] == [5 * BATCH, 3 * BATCH, 4 * BATCH]


def test_a_stream_that_fails_in_its_second_turn_does_not_stop_the_others(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=BATCH, parallel_loads=1, max_bad_share=0.5)
    good = [event(n) for n in range(BATCH)]
    send(redis_client, "fair:a", [*good, *(event(n, user_id="") for n in range(BATCH, 4 * BATCH))])
    send(redis_client, "fair:b", [event(n) for n in range(100, 100 + 5 * BATCH)])
    with pytest.raises(Exception, match="entries went to quarantine"):
        drain("fair:*")
    assert table_rows(database) == flat_rows([*good, *(event(n) for n in range(100, 100 + 5 * BATCH))])
    assert ledger_is_whole(database, "fair:b")
    assert ledger_sums(database, "fair:b")[0] == 5 * BATCH


def test_two_drains_that_meet_in_their_turns_load_everything_once(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=BATCH)
    sent = fill(redis_client, a=30 * BATCH, b=7, c=20 * BATCH, d=25 * BATCH)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: drain("fair:*"), range(2)))
    assert sum(one["read"] for one in results) == sent
    assert table_rows(database) == flat_rows(event(n) for n in range(sent))
    assert all(ledger_is_whole(database, f"fair:{name}") for name in "abcd")
    assert drain("fair:*")["read"] == 0
