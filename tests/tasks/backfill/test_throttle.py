"""A backfill slows down while a drain is working on the server, and only then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from infra.connections.clients import DRAIN, Clients, postgres_connection
from infra.settings import settings
from tasks.backfill import throttle
from tasks.backfill.throttle import LoadThrottle


@pytest.fixture
def limit(database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadThrottle]:
    """A throttle of three loads that queries the server at every call, and forgets a drain as soon as it idles."""
    monkeypatch.setattr(throttle, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(throttle, "_LINGER_SECONDS", 0.05)
    monkeypatch.setattr(throttle, "_MOST_SECONDS", 10_000)
    with Clients(settings(), "backfill") as clients:
        yield LoadThrottle(clients, 3)


@contextmanager
def working(role: str) -> Iterator[psycopg.Connection]:
    """A session of this role that is in the middle of a transaction until it or the block ends."""
    with postgres_connection(settings(), role) as connection:
        connection.cursor().execute("BEGIN")
        yield connection


def test_all_loads_are_allowed_while_no_drain_works(limit: LoadThrottle) -> None:
    with working("backfill"):
        assert (limit.loads(), limit.is_shared()) == (3, False)
        limit.give_way(10_000)  # it does not wait


def test_one_load_while_a_drain_works(limit: LoadThrottle) -> None:
    with working(DRAIN):
        assert (limit.loads(), limit.is_shared()) == (1, True)


def test_it_waits_as_long_as_it_has_worked_and_not_beyond_the_end_of_the_drain(limit: LoadThrottle) -> None:
    with working(DRAIN) as drain:
        before = time.monotonic()
        limit.give_way(0.5)
        assert time.monotonic() - before >= 0.5
        ending = threading.Timer(0.3, drain.close)
        ending.start()
        limit.give_way(10_000)
        assert drain.closed
        ending.join()


def test_a_query_that_fails_neither_slows_the_backfill_down_nor_raises(
    limit: LoadThrottle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise psycopg.OperationalError("the server is away")

    monkeypatch.setattr(throttle, "is_draining", refused)
    assert limit.loads() == 3
