"""Another stream of the same name is never trimmed: before each XTRIM, the stream is proven to be the planned one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis

from infra.connections.clients import redis_client as connect
from infra.settings import Settings
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle
from tasks.streams.pages import AbsenceRecord, StreamAway
from tasks.streams.tail import read_tail
from tasks.streams.trim import trim
from tests.support.interrupted import OTHER_DB, Interrupted
from tests.support.old_releases import record_as_settled
from tests.support.stream_entries import add_entries

NOTHING = timedelta(0)
ENTRIES = 250  # with one entry in each node Redis trims 100 at a time


@pytest.fixture
def exact(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis that keeps each entry in a node of its own."""
    redis_client.config_set("stream-node-max-entries", 1)
    yield redis_client
    redis_client.config_set("stream-node-max-entries", 100)


class Others:
    """Replacements for the planned stream, with the same ids. Each method replaces it and returns the new length."""

    def __init__(self, client: redis.Redis, stream: str) -> None:
        self.client = client
        self.stream = stream
        add_entries(client, stream, 0, ENTRIES // 2)
        self.older: Any = client.dump(stream)
        client.delete(stream)
        add_entries(client, stream, 0, ENTRIES, offset=1_000)
        self.foreign: Any = client.dump(stream)
        client.delete(stream)
        add_entries(client, stream, 0, ENTRIES)

    def foreign_stream(self) -> int:
        self.client.restore(self.stream, 0, self.foreign, replace=True)
        return ENTRIES

    def older_copy(self) -> int:
        self.client.restore(self.stream, 0, self.older, replace=True)
        return ENTRIES // 2

    def other_database(self) -> int:
        self.client.restore(f"{self.stream}-other", 0, self.foreign)
        self.client.copy(f"{self.stream}-other", self.stream, destination_db=OTHER_DB)
        self.client.swapdb(0, OTHER_DB)
        return ENTRIES

    def nothing(self) -> int:
        self.client.delete(self.stream)
        return 0


@pytest.mark.parametrize("harm", ["foreign_stream", "older_copy", "other_database", "nothing"])
@pytest.mark.parametrize(("at", "trimmed"), [(1, 0), (3, 100), (5, 200)])  # proof, XTRIM, proof, XTRIM, …
def test_another_stream_of_the_same_name_is_not_trimmed(
    harm: str, at: int, trimmed: int, exact: redis.Redis, stream: str, configure: Callable[..., Settings]
) -> None:
    others = Others(exact, stream)
    tail = read_tail(exact, stream)
    found: list[int] = []

    def replace_stream() -> None:
        found.extend((ENTRIES - int(exact.xlen(stream)), getattr(others, harm)()))  # type: ignore[arg-type]

    with connect(configure()) as client:
        Interrupted(client, at, 1_000_000, replace_stream, lambda: None)
        with pytest.raises(StreamAway, match=rf"^trim: stream {stream}: "):
            trim(client, stream, tail, tail.last + 1, NOTHING, "own")
    assert found[0] == trimmed
    assert exact.xlen(stream) == found[1]
    exact.flushall()


def test_a_settlement_that_cannot_trim_warns_and_removes_nothing(
    exact: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    others = Others(exact, stream)
    exact.xtrim(stream, minid=f"{1_700_000_000_000 + ENTRIES - 50}-0", approximate=False)
    plan = make_plan(exact, database, stream)
    record_as_settled(database, plan, 50)
    whole: Any = exact.dump(stream)
    with connect(configure()) as client:
        watch = Interrupted(client, -1, -2, lambda: None, lambda: None)
        assert settle(client, database, plan, NOTHING).trimmed == 50
    exact.restore(stream, 0, whole, replace=True)
    absence = AbsenceRecord()
    with connect(configure()) as client:  # the end of it is proof, XTRIM, proof, XTRIM that finds nothing
        Interrupted(client, watch.sent - 3, 1_000_000, others.foreign_stream, lambda: None)
        settled = settle(client, database, plan, NOTHING, absence)
    assert (settled.trimmed, settled.lost) == (0, 0)
    assert f"{stream}: not trimmed: trim: stream {stream}: it is not the stream that was planned" in settled.warnings[0]
    assert absence.any
    assert exact.xlen(stream) == ENTRIES
