"""Many streams in one drain: read one after the other, loaded at the same time, each with its own totals."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.connections.group_name import group_name
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.settings import Settings, settings
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event
from tests.support.triggers import failing_at, trigger

pytestmark = pytest.mark.usefixtures("prefect_server")


def filled(client: redis.Redis, sizes: dict[str, int]) -> dict[str, list[dict[bytes, bytes]]]:
    """Streams of generated events, and what is in them."""
    entries = {
        name: [entry for batch in batches(size, seed=seed) for entry in batch.entries]
        for seed, (name, size) in enumerate(sizes.items())
    }
    for name, found in entries.items():
        send(client, name, found)
    return entries


def test_streams_of_all_sizes_are_drained_concurrently(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=500, parallel_loads=3)
    sizes = {f"events:{i:02}": size for i, size in enumerate([1, 4_000, 499, 500, 501, 7, 1_600, 1, 1, 2_000])}
    entries = filled(redis_client, sizes)
    result = drain("events:*")
    assert {s["stream"]: s["read"] for s in result["streams"]} == sizes
    assert all(s["read"] == s["inserted"] and s["lag"] == s["lost"] == 0 for s in result["streams"])
    assert table_rows(database) == flat_rows(entry for found in entries.values() for entry in found)
    for name, size in sizes.items():
        assert ledger_is_whole(database, name)
        assert ledger_sums(database, name) == (size, size, 0, 0)
    settled = database.execute("SELECT name, settled_entries_added FROM spillway.streams").fetchall()
    assert dict(settled) == sizes


def test_a_stream_whose_loads_fail_does_not_stop_the_others(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=300, parallel_loads=2)
    entries = filled(redis_client, {"events:a": 200, "events:b": 1_500, "events:c": 900})
    poison = entries["events:b"][700]
    with (
        trigger(database, failing_at(poison[b"event_id"].decode())),
        pytest.raises(Terminal, match=r"load events:b .*untouched"),
    ):
        drain("events:*")
    assert ledger_sums(database, "events:a") == (200, 200, 0, 0)
    assert ledger_sums(database, "events:c") == (900, 900, 0, 0)
    assert ledger_is_whole(database, "events:c")
    good = entries["events:a"] + entries["events:c"]
    assert flat_rows(good).items() <= table_rows(database).items()
    assert drain("events:*")["lag"] == 0
    assert table_rows(database) == flat_rows(entry for found in entries.values() for entry in found)
    assert ledger_sums(database, "events:b") == (1_500, 1_500, 0, 0)


def test_the_ledger_does_not_grow_with_age(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], stream: str
) -> None:
    configure(batch_rows=10)
    entries = [entry for batch in batches(1_510, seed=3) for entry in batch.entries]
    send(redis_client, stream, entries[:1_500])
    drain(stream)
    assert database.execute("SELECT count(*) FROM spillway.ledger").fetchone() == (150,)
    database.execute("UPDATE spillway.ledger SET loaded_at = loaded_at - interval '2 days'")
    send(redis_client, stream, entries[1_500:])
    drain(stream)
    rows = database.execute("SELECT ranges, read FROM spillway.ledger ORDER BY ids").fetchall()
    assert rows == [(150, 1_500), (1, 10)]
    assert drain(stream)["read"] == 0
    assert ledger_is_whole(database, stream)
    assert table_rows(database) == flat_rows(entries)


def test_a_drain_uses_up_no_number_of_a_stream_that_is_known(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    filled(redis_client, {"events:a": 1})
    for _ in range(3):
        drain("events:a")
    filled(redis_client, {"events:b": 1})
    drain("events:*")
    numbers = dict(database.execute("SELECT name, id FROM spillway.streams").fetchall())
    assert numbers["events:b"] == numbers["events:a"] + 1


def test_a_redis_that_forbids_publishing_and_trimming_is_a_warning_and_not_a_failure(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    send(redis_client, stream, [event(n) for n in range(10)])
    redis_client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-xgroup", "-xtrim"])
    try:
        url = urlsplit(settings().redis)
        limited = urlunsplit(url._replace(netloc=f"reader:anything@{url.hostname}:{url.port}"))
        configure(redis_url=limited, trim_keep="0s")
        result = drain(stream)
        assert result["inserted"] == 10
        short, published, trimmed = result["warnings"]
        assert "SPILLWAY_TRIM_KEEP is" in short
        assert f"progress not published as consumer group '{group_name(database)}'" in published
        assert f"{stream}: not trimmed" in trimmed
        assert "anything" not in published + trimmed
    finally:
        redis_client.acl_deluser("reader")
    assert table_rows(database) == flat_rows(event(n) for n in range(10))


def test_a_stream_whose_name_is_not_text_is_skipped_with_a_warning(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    redis_client.xadd(b"odd:\xff", event(1))  # type: ignore[arg-type]
    send(redis_client, "odd:good", [event(2)])
    result = drain("odd:*")
    assert result["warnings"] == ["stream 'odd:\\xff' is skipped: expected a name in UTF-8; rename it (RENAME)"]
    assert table_rows(database) == flat_rows([event(2)])
