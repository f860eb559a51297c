"""The drain flow on real servers: what it puts into the tables, against an oracle of its own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

import flows.plain.drain as plain
from flows.drain import drain
from infra.connections.group_name import group_name
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.settings import Settings
from tasks.preflight.layouts import read_stream_layouts
from tasks.preflight.preflight import preflight
from tests.support.oracle import crossref_rows, flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.real_data import large_file
from tests.support.results import drain_counts
from tests.support.runs import drain_with_loss
from tests.support.stream_entries import event
from tests.support.triggers import trigger

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.parametrize("flow", [drain, plain.drain], ids=["in Prefect", "without it"])
def test_a_connection_that_the_server_ends_after_the_preflight_is_replaced(
    flow: Callable[..., dict[str, Any]],
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def preflight_and_terminate(*args: Any, **options: Any) -> tuple[list[str], list[str]]:
        found = preflight(*args, **options)
        of_drain = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spillway drain'"
        assert (True,) in database.execute(of_drain).fetchall()  # one of an earlier drain may just end
        return found

    monkeypatch.setattr(plain, "preflight", preflight_and_terminate)
    monkeypatch.setattr(read_stream_layouts, "delays", [0.1])
    send(redis_client, stream, [event(n) for n in range(10)])
    assert drain_counts(flow(stream)) == (10, 10, 0, 0, 0)
    assert table_rows(database) == flat_rows(event(n) for n in range(10))


def test_real_events_arrive_field_by_field_and_a_second_drain_reads_nothing(
    sample: Path, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref-test", ({b"data": line} for line in lines))
    result = drain("crossref-test")
    assert drain_counts(result) == (2737, 2654, 83, 0, 0)
    assert table_rows(database) == crossref_rows(lines)
    assert ledger_is_whole(database, "crossref-test")
    again = drain("crossref-test")
    assert drain_counts(again) == (0, 0, 0, 0, 0)
    assert len(table_rows(database)) == 2654


def test_a_real_feed_of_118_162_events_balances(redis_client: redis.Redis, database: psycopg.Connection) -> None:
    path = large_file("bench_arrival_2019-08_2019-12.ndjson.gz")
    with gzip.open(path) as file:
        send(redis_client, "crossref-feed", ({b"data": line.rstrip(b"\n")} for line in file))
    result = drain("crossref-feed")
    assert drain_counts(result) == (118_162, 115_946, 2_216, 0, 0)
    with gzip.open(path) as file:
        assert table_rows(database) == crossref_rows(file)
    assert ledger_sums(database, "crossref-feed") == (118_162, 115_946, 2_216, 0)


@pytest.mark.parametrize("batch_rows", [700, 50_000])
def test_duplicates_and_bad_entries_are_distinguished_whatever_the_batches(
    batch_rows: int,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    configure: Callable[..., Settings],
) -> None:
    configure(batch_rows=batch_rows)
    produced = list(batches(6_000, seed=5, duplicates=0.03, bad=0.01, late=0.05))
    entries = [(e, bad) for batch in produced for e, bad in zip(batch.entries, batch.bad, strict=True)]
    send(redis_client, stream, (e for e, _ in entries))
    expected = flat_rows(e for e, bad in entries if not bad)
    bad = sum(bad for _, bad in entries)
    result = drain(stream)
    assert drain_counts(result) == (6_000, len(expected), 6_000 - bad - len(expected), bad, 0)
    assert table_rows(database) == expected
    ids = [entry_id for entry_id, _ in redis_client.xrange(stream)]
    expected_ids = {ids[i].decode() for i, (_, is_bad) in enumerate(entries) if is_bad}
    assert {row[0] for row in database.execute("SELECT entry_id FROM spillway.quarantine")} == expected_ids
    assert ledger_is_whole(database, stream)


def test_max_events_and_until_stop_the_drain_and_the_next_one_continues(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = [event(n) for n in range(500)]
    send(redis_client, stream, entries)
    first = drain(stream, max_events=120)
    assert (first["read"], first["lag"]) == (120, 380)
    assert table_rows(database) == flat_rows(entries[:120])
    until = redis_client.xrange(stream)[299][0].decode()
    second = drain(stream, until=until)
    assert (second["read"], second["lag"]) == (180, 200)
    third = drain(stream)
    assert (third["read"], third["lag"], third["lost"]) == (200, 0, 0)
    assert table_rows(database) == flat_rows(entries)
    assert ledger_is_whole(database, stream)


def test_a_pattern_and_a_list_drain_every_matching_stream(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    for number, name in enumerate(["events:a", "events:b", "other", "left-alone"]):
        send(redis_client, name, [event(1000 * number + n) for n in range(10)])
    redis_client.set("events:no-stream", "x")
    result = drain(["events:*", "other"])
    assert [(s["stream"], s["read"]) for s in result["streams"]] == [("events:a", 10), ("events:b", 10), ("other", 10)]
    assert len(table_rows(database)) == 30
    assert drain("nothing-here*")["streams"] == []


def test_entries_deleted_before_they_were_drained_are_counted_as_lost(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(100)])
    redis_client.xtrim(stream, maxlen=90, approximate=False)  # before Spillway ever saw the stream: not its loss
    assert drain_counts(drain(stream)) == (90, 90, 0, 0, 0)
    send(redis_client, stream, [event(n) for n in range(100, 200)])
    redis_client.xtrim(stream, maxlen=70, approximate=False)
    middle = redis_client.xrange(stream)[40][0]
    redis_client.xdel(stream, middle)
    assert drain_counts(drain_with_loss(stream)) == (69, 69, 0, 0, 31)
    assert drain_counts(drain(stream)) == (0, 0, 0, 0, 0)
    row = database.execute("SELECT lost, settled_entries_added - baseline FROM spillway.streams").fetchone()
    assert row == (31, 190)
    assert ledger_is_whole(database, stream)


def test_a_stream_that_went_back_is_not_read_and_the_others_are(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    for name in ("events:a", "events:b"):
        send(redis_client, name, [event(n) for n in range(5)])
    drain("events:*")
    redis_client.delete("events:a")
    redis_client.xadd("events:a", event(77), id="5-1")
    send(redis_client, "events:b", [event(78)])
    with pytest.raises(Terminal, match=r"stream events:a went back: its last id is 5-1, expected .* nothing was read"):
        drain("events:*")
    assert ledger_sums(database, "events:a")[0] == 5
    assert ledger_sums(database, "events:b")[0] == 6


def test_ordinary_redis_tools_see_the_progress(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(50)])
    drain(stream, max_events=30)
    (group,) = redis_client.xinfo_groups(stream)
    assert (group["name"], group["lag"], group["entries-read"]) == (group_name(database).encode(), 20, 30)
    drain(stream)
    (group,) = redis_client.xinfo_groups(stream)
    assert (group["lag"], group["last-delivered-id"]) == (0, redis_client.xrevrange(stream, count=1)[0][0])


def test_entries_added_while_the_drain_runs_are_left_for_the_next(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.loads.drain_loads as module

    send(redis_client, stream, [event(n) for n in range(40)])
    really_read = module.read

    def read_and_add(*args: Any) -> Any:
        send(redis_client, stream, [event(int(redis_client.xlen(stream)) + 1000)])
        return really_read(*args)

    monkeypatch.setattr(module, "read", read_and_add)
    result = drain(stream)
    assert result["read"] == 40
    assert result["lag"] == redis_client.xlen(stream) - 40 > 0
    monkeypatch.undo()
    drain(stream)
    assert len(table_rows(database)) == redis_client.xlen(stream)


def test_the_totals_are_published_as_a_table_artifact(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    from prefect.artifacts import Artifact

    send(redis_client, stream, [event(n) for n in range(12)])
    drain(stream)
    artifact = Artifact.get("drain")
    assert artifact is not None
    (row,) = json.loads(str(artifact.data))
    assert (row["stream"], row["read"], row["inserted"], row["lag"]) == (stream, 12, 12, 0)


def test_rows_that_vanish_in_a_merge_are_not_duplicates_and_the_range_is_not_recorded(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """A trigger that deletes existing rows stands for a server that loses rows: what is neither inserted nor present
    cannot balance. (A row that a trigger skips is in quarantine: see tests/tasks/table/test_rejections.py.)"""
    send(redis_client, stream, [event(1)])
    drain(stream)
    lose = "DELETE FROM events WHERE user_id = 'user-1'; RETURN NULL;"
    with trigger(database, lose, "AFTER INSERT", each="STATEMENT"):
        send(redis_client, stream, [event(n) for n in range(1, 10)])  # the first is a duplicate: it takes the merge
        with pytest.raises(Terminal, match="ledger_balances"):
            drain(stream)
        assert len(table_rows(database)) == 1
        assert ledger_sums(database, stream) == (1, 1, 0, 0)
    drain(stream)
    assert table_rows(database) == flat_rows(event(n) for n in range(1, 10))
