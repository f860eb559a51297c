"""A run that ends early waits for what its threads have begun, and not for what would take for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from infra.connections import session
from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError, Transient
from infra.settings import Settings, settings
from tasks.base.progress import ProgressEvent, Stopping, subscribe
from tasks.base.step import step
from tasks.base.workers import Workers
from tests.support.waiting import wait_until


@pytest.fixture
def clients(database: psycopg.Connection, configure: Callable[..., Settings]) -> Iterator[Clients]:
    """Clients whose statements may take an hour."""
    configure(statement_timeout=3600)
    with Clients(settings()) as opened:
        yield opened


class Ended(Exception):
    pass


@contextmanager
def ended_by(error: type[BaseException], clients: Clients, count: int) -> Iterator[Workers]:
    """Workers whose block ends with `error`."""
    with suppress(error), Workers(clients, count) as workers:
        yield workers
        raise error


@pytest.mark.parametrize("error", [Ended, KeyboardInterrupt, SystemExit])
def test_what_has_begun_ends_and_the_rest_does_not_begin(clients: Clients, error: type[BaseException]) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def work(number: int) -> None:
        begun.set()
        go_on.wait()
        done.append(number)

    with ended_by(error, clients, 1) as workers:
        *_, last = [workers.submit(work, number) for number in range(3)]

        def let_go() -> None:
            with suppress(AssertionError):  # then all of them are done
                wait_until(last.cancelled)
            go_on.set()

        begun.wait()
        threading.Thread(target=let_go).start()
    assert done == [0]


def test_an_error_waits_for_a_statement_and_a_signal_cancels_it(
    clients: Clients, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CANCEL_SECONDS", "_LAST_SECONDS"):
        monkeypatch.setattr(session, name, 240)  # a busy server is not given up
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    results: list[str] = []

    def sleep(seconds: float) -> None:
        try:
            with clients.translate_errors("sleep"), clients.postgres() as connection:
                connection.execute("SELECT pg_sleep(%s)", [seconds])
            results.append("slept")
        except SpillwayError as error:
            results.append(str(error))

    def end(seconds: float, error: type[BaseException]) -> None:
        with ended_by(error, clients, 2) as workers:
            running = [workers.submit(sleep, seconds) for _ in range(2)]
            wait_until(lambda: database.execute(sleeps).fetchone() == (2,) or all(one.done() for one in running))

    end(2, Ended)
    assert results == ["slept", "slept"]
    results.clear()
    seen: list[ProgressEvent] = []
    with subscribe(seen.append):
        end(3600, KeyboardInterrupt)
    assert all("canceling statement" in one for one in results)
    assert len(results) == 2
    assert seen == [Stopping(5.0)]
    assert database.execute(sleeps).fetchone() == (0,)


@pytest.mark.parametrize("error", [Ended, KeyboardInterrupt])
def test_nothing_is_tried_again(clients: Clients, error: type[BaseException]) -> None:
    attempts: list[int] = []
    failed = threading.Event()

    @step("fail")
    def fail() -> None:
        attempts.append(1)
        failed.set()
        raise Transient("the server is away")

    fail.delays = [3600.0]
    with ended_by(error, clients, 1) as workers:
        running = workers.submit(fail)
        failed.wait()
    assert attempts == [1]
    with pytest.raises(Transient):
        running.result()
