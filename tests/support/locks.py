"""Sessions of PostgreSQL that wait for a lock."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.support.waiting import wait_until

_WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"


def await_waiting(observer: psycopg.Connection[Any], holder: int, sessions: int = 1) -> None:
    """Wait until so many sessions wait for a lock that the session with the process id `holder` has."""
    wait_until(lambda: observer.execute(_WAITING, [holder]).fetchone() == (sessions,))
