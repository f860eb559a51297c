"""A stream that is away, or an older copy of itself, for a moment just as a drain begins: it is checked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tasks.ledger import plan
from tasks.streams import find
from tests.support.interrupted import OTHER_DB
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts
from tests.support.stream_entries import FIRST_MS, add_entries, event

pytestmark = pytest.mark.usefixtures("prefect_server")

MOST_SECONDS = 5  # of waiting for a stream


@pytest.fixture
def grown(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> Iterator[bytes]:
    """A copy of a stream, made when it had 20 entries. The stream now has 50 drained and 30 new entries. Each entry
    has its own node, so that trimming by nodes is trimming by entries."""
    redis_client.config_set("stream-node-max-entries", 1)
    add_entries(redis_client, stream, 0, 20)
    older: Any = redis_client.dump(stream)
    add_entries(redis_client, stream, 20, 50)
    drain(stream)
    add_entries(redis_client, stream, 50, 80)
    yield older
    redis_client.config_set("stream-node-max-entries", 100)


class Waits:
    """The waits of a drain for a stream that is away, in seconds. What is `planned` happens during the first one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.planned: list[Callable[[], object]] = []

    def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        while self.planned:
            self.planned.pop()()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    found = Waits()
    for module in (plan, find):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=found.sleep))
    return found


def older_copy(client: redis.Redis, stream: str, older: bytes) -> Callable[[], object]:
    whole: Any = client.dump(stream)
    client.restore(stream, 0, older, replace=True)
    return lambda: client.restore(stream, 0, whole, replace=True)


def renamed(client: redis.Redis, stream: str, older: bytes) -> Callable[[], object]:
    client.rename(stream, f"{stream}-away")
    return lambda: client.rename(f"{stream}-away", stream)


def swapped(client: redis.Redis, stream: str, older: bytes) -> Callable[[], object]:
    client.restore(f"{stream}-older", 0, older)
    client.copy(f"{stream}-older", stream, destination_db=OTHER_DB)
    client.delete(f"{stream}-older")
    client.swapdb(0, OTHER_DB)
    return lambda: client.swapdb(0, OTHER_DB)


@pytest.mark.parametrize("harm", [older_copy, renamed, swapped])
def test_it_is_drained_when_it_is_back_and_that_run_trims_nothing(
    harm: Callable[..., Callable[[], object]], grown: bytes, redis_client: redis.Redis, database: psycopg.Connection,
    stream: str, configure: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, waits: Waits,
) -> None:  # fmt: skip
    import flows.plain.drain as module

    configure(trim_keep="0s", retries=0)
    really_preflight = module.preflight

    def preflight_and_harm(*args: Any, **options: Any) -> Any:
        found = really_preflight(*args, **options)
        waits.planned.append(harm(redis_client, stream, grown))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(module, "preflight", preflight_and_harm)
        assert drain_counts(drain(stream)) == (30, 30, 0, 0, 0)
    assert waits.seconds
    assert redis_client.xlen(stream) == 80
    assert drain(stream)["streams"][0]["trimmed"] == 80
    assert table_rows(database) == flat_rows(event(n) for n in range(80))
    assert ledger_is_whole(database, stream)
    assert reconcile(stream, deep=True)["balanced"]
    redis_client.flushall()


def test_a_named_stream_that_comes_back_during_the_preflight_is_drained(
    grown: bytes, redis_client: redis.Redis, database: psycopg.Connection, stream: str, waits: Waits
) -> None:
    waits.planned.append(renamed(redis_client, stream, grown))
    assert drain_counts(drain(stream)) == (30, 30, 0, 0, 0)
    assert waits.seconds
    assert table_rows(database) == flat_rows(event(n) for n in range(80))


def test_an_older_copy_that_stays_is_refused_within_seconds(
    grown: bytes, redis_client: redis.Redis, database: psycopg.Connection, stream: str, waits: Waits
) -> None:
    older_copy(redis_client, stream, grown)
    with pytest.raises(Terminal, match=rf"its last id is {FIRST_MS + 19}-0.*nothing was read.*accept-rewind"):
        drain(stream)
    assert 0 < sum(waits.seconds) < MOST_SECONDS
    assert table_rows(database) == flat_rows(event(n) for n in range(50))
