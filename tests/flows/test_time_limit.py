"""A drain with a time limit stops after a batch, and the next one continues with the streams that waited longest."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.stream_entries import event

MOMENT = 1e-9  # seconds: over after the first batch


def test_each_run_loads_a_batch_of_the_stream_that_waited_longest(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=10)
    entries = {"a:large": [event(n) for n in range(35)], "b:small": [event(n) for n in range(100, 103)]}
    for name, its in entries.items():
        send(redis_client, name, its)
    read, unfinished = [], []
    for _ in range(6):
        result = drain("*:*", time_limit=MOMENT)
        read.append({one["stream"]: one["read"] for one in result["streams"] if one["read"]})
        assert [one["lost"] for one in result["streams"]] == [0, 0]
        unfinished.append([re.findall(r"before (\d) of", warning) for warning in result["warnings"]])
    assert read == [{"a:large": 10}, {"b:small": 3}, {"a:large": 10}, {"a:large": 10}, {"a:large": 5}, {}]
    assert unfinished == [[["2"]], [["1"]], [["1"]], [["1"]], [], []]
    assert table_rows(database) == flat_rows([*entries["a:large"], *entries["b:small"]])
    for name, its in entries.items():
        assert ledger_sums(database, name) == (len(its), len(its), 0, 0)
        assert ledger_is_whole(database, name)


def test_the_limit_of_a_run_is_not_reached_if_there_is_time(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    configure(batch_rows=10)
    entries = [event(n) for n in range(40)]
    send(redis_client, stream, entries)
    result = drain(stream, time_limit=3600)
    assert (result["read"], result["warnings"]) == (40, [])
    assert table_rows(database) == flat_rows(entries)
