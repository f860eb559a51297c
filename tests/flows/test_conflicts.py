"""A repeated key with other content is a conflict: the first stays, the later one is quarantined, on every route."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")

Entry = dict[bytes, bytes]
Configure = Callable[..., Settings]


@pytest.fixture(autouse=True)
def one_load_at_a_time(configure: Configure) -> None:
    """Of ranges that are copied at the same time the first is the one that commits first; so it is the first one."""
    configure(parallel_loads=1)


def kept(connection: psycopg.Connection) -> list[tuple[str, str, Mapping[bytes, bytes]]]:
    """Kind, field and fields of what is in quarantine, in the order of the stream."""
    query = "SELECT kind, field, fields FROM spillway.quarantine ORDER BY split_part(entry_id, '-', 1)::numeric, split_part(entry_id, '-', 2)::numeric"  # fmt: skip  # noqa: E501
    return [
        (kind, field, dict(zip(fields[::2], fields[1::2], strict=True)))
        for kind, field, fields in connection.execute(query)
    ]


FIRST = event(1)
OTHERS = {
    "event_type": event(1, event_type="other"),
    "user_id": event(1, user_id="other"),
    "properties": event(1, properties='{"n": 2}'),
}


@pytest.mark.parametrize("column", OTHERS)
@pytest.mark.parametrize("path", ["in a batch", "straight", "merge"])
def test_the_first_stays_and_the_later_one_is_kept_as_a_conflict(
    column: str, path: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    other = OTHERS[column]
    around = [event(n) for n in range(2, 6)]
    if path == "in a batch":
        send(redis_client, stream, [around[0], FIRST, around[1], other, FIRST, *around[2:]])
        assert drain_counts(drain(stream)) == (7, 5, 1, 1, 0)
    elif path == "straight":  # the key is met by a COPY into the table itself
        send(redis_client, stream, [FIRST, *around[:2]])
        drain(stream)
        send(redis_client, stream, [other, *around[2:], FIRST])
        assert drain_counts(drain(stream)) == (4, 2, 1, 1, 0)
    else:  # the batch before met a duplicate, so this one goes through the temporary table at once
        configure(batch_rows=3, parallel_loads=1)
        send(redis_client, stream, [FIRST, around[0], around[1], FIRST, around[2], around[3], other, FIRST, around[0]])
        assert drain_counts(drain(stream)) == (9, 5, 3, 1, 0)
    assert table_rows(database) == flat_rows([FIRST, *around])
    assert kept(database) == [("conflict", column, other)]
    assert ledger_is_whole(database, stream)


def test_the_same_content_in_another_spelling_is_a_duplicate(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """As the server compares jsonb: the order of keys, white space and 1 or 1.0 make no difference."""
    spellings = ['{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1.0}', ' { "a" : 1e0, "b":[ true,null ] } ']
    send(redis_client, stream, [event(1, properties=spelling) for spelling in spellings])
    assert drain_counts(drain(stream)) == (3, 1, 2, 0, 0)
    send(redis_client, stream, [event(1, properties=spelling) for spelling in reversed(spellings)])
    assert drain_counts(drain(stream)) == (3, 0, 3, 0, 0)
    assert kept(database) == []


@pytest.mark.parametrize("batch_rows", [1, 2, 50])
def test_absent_properties_differ_from_empty_ones(
    batch_rows: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(batch_rows=batch_rows)
    without, empty = event(1, properties=""), event(1, properties="{}")
    send(redis_client, stream, [without, empty, without, empty])
    assert drain_counts(drain(stream)) == (4, 1, 1, 2, 0)
    assert [row[2] for row in table_rows(database).values()] == [None]
    assert kept(database) == [("conflict", "properties", empty)] * 2


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 50])
def test_if_the_server_rejects_the_first_a_later_good_one_becomes_the_row(
    batch_rows: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(batch_rows=batch_rows)
    bad, good, third = event(1, properties='"\\u0000"'), event(1), event(1, user_id="third")
    send(redis_client, stream, [event(2), bad, bad, good, third, good, bad])
    assert drain_counts(drain(stream)) == (7, 2, 1, 4, 0)
    assert table_rows(database) == flat_rows([event(2), good])
    refused = ("refused", "properties", bad)
    assert kept(database) == [refused, refused, ("conflict", "user_id", third), refused]


def test_the_same_key_from_two_streams_is_a_conflict_of_the_later_one(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, f"{stream}-a", [FIRST])
    send(redis_client, f"{stream}-b", [OTHERS["user_id"], event(3)])
    drain(f"{stream}-a")
    assert drain_counts(drain(f"{stream}-b")) == (2, 1, 0, 1, 0)
    assert table_rows(database) == flat_rows([FIRST, event(3)])


def test_a_conflict_that_comes_twice_in_a_batch_is_kept_twice(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [FIRST])
    drain(stream)
    other = OTHERS["user_id"]
    send(redis_client, stream, [event(2), other, other])
    assert drain_counts(drain(stream)) == (3, 1, 0, 2, 0)
    assert kept(database) == [("conflict", "user_id", other)] * 2
