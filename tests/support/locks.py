"""Sessions of PostgreSQL that wait for a lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.support.waiting import wait_until

_WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"
_CLAIMS = """
    SELECT count(DISTINCT pid) FROM pg_locks
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def await_waiting(observer: psycopg.Connection[Any], holder: int, sessions: int = 1) -> None:
    """Wait until so many sessions wait for a lock that the session with the process id `holder` has."""
    wait_until(lambda: observer.execute(_WAITING, [holder]).fetchone() == (sessions,))


def claim_holders(observer: psycopg.Connection[Any]) -> int:
    """The sessions of this database that hold a claim: one of each run or share."""
    (row,) = observer.execute(_CLAIMS).fetchall()
    return int(row[0])


@contextmanager
def loads_held(database: psycopg.Connection[Any], sessions: int = 1) -> Iterator[None]:
    """Nothing is loaded into `events` in the block, which begins when `sessions` loads wait for that."""
    with database.transaction():
        database.execute("LOCK TABLE events IN SHARE MODE")
        await_waiting(database, database.info.backend_pid, sessions)
        yield
