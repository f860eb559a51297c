"""Two databases that drain the same Redis, and trim it, keep what the other has not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.connections.group_name import group_name
from infra.producers.send import send
from infra.schema.migrate import apply_schema
from infra.settings import Settings
from tasks.streams.consumer_group import FIRST_RELEASE
from tests.support.oracle import flat_rows, table_rows
from tests.support.servers import Servers
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def second(servers: Servers, database: psycopg.Connection) -> Iterator[str]:
    """The URL of a second database with the schema, on the same server."""
    database.execute("DROP DATABASE IF EXISTS second WITH (FORCE)")
    database.execute("CREATE DATABASE second TEMPLATE template0")
    url = urlunsplit(urlsplit(servers.settings.database)._replace(path="/second"))
    apply_schema(url)
    yield url
    database.execute("DROP DATABASE second WITH (FORCE)")


def test_neither_trims_what_the_other_has_not_drained(
    servers: Servers,
    second: str,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    configure: Callable[..., Settings],
) -> None:
    entries = [event(n) for n in range(600)]
    redis_client.config_set("stream-node-max-entries", 1)  # so that trimming is exact
    try:
        send(redis_client, stream, entries[:200])
        configure(database_url=second)
        drain(stream, max_events=50)  # it has begun, and is behind from now on
        configure(database_url=servers.settings.database, trim_keep="0s")
        drain(stream)
        assert redis_client.xlen(stream) == 150  # what the second has drained may go
        send(redis_client, stream, entries[200:])
        drain(stream)
        configure(database_url=second)
        drain(stream)
        drain(stream)
        assert redis_client.xlen(stream) == 0
    finally:
        redis_client.config_set("stream-node-max-entries", 100)
    assert table_rows(database) == flat_rows(entries)
    with psycopg.connect(second, autocommit=True) as connection:
        assert table_rows(connection) == flat_rows(entries)
        assert group_name(connection) != group_name(database)
        assert connection.execute("SELECT lost FROM spillway.streams").fetchall() == [(0,)]


def test_the_group_of_the_first_release_does_not_stop_trimming_forever(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    send(redis_client, stream, [event(n) for n in range(20)])
    drain(stream)
    last = redis_client.xrevrange(stream, count=1)[0][0]
    redis_client.xgroup_create(stream, FIRST_RELEASE, id=last)  # as the first release left it
    redis_client.xgroup_create(stream, "of-another-program", id=last)
    drain(stream)
    names = {group["name"] for group in redis_client.xinfo_groups(stream)}
    assert names == {group_name(database).encode(), b"of-another-program"}


def test_a_group_of_that_name_with_readers_of_its_own_stays(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(20)])
    redis_client.xgroup_create(stream, FIRST_RELEASE, id="0")
    redis_client.xreadgroup(FIRST_RELEASE, "me", {stream: ">"}, count=20)
    redis_client.xack(stream, FIRST_RELEASE, *(entry for entry, _ in redis_client.xrange(stream)))
    drain(stream)
    names = {group["name"] for group in redis_client.xinfo_groups(stream)}
    assert names == {group_name(database).encode(), FIRST_RELEASE.encode()}


def test_the_first_drain_after_an_upgrade_replaces_the_group_of_the_first_release(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(20)])
    drain(stream)
    last = redis_client.xrevrange(stream, count=1)[0][0]
    redis_client.xgroup_destroy(stream, group_name(database))
    redis_client.xgroup_create(stream, FIRST_RELEASE, id=last)
    drain(stream)
    assert {group["name"] for group in redis_client.xinfo_groups(stream)} == {group_name(database).encode()}
