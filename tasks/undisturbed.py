"""Work on one chunk with nobody else in it, and without a deadlock for those who come meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import sql

from tasks.chunks import Chunk

R = TypeVar("R")

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.25  # after the first attempt, then twice as long each
# Of the server's `deadlock_timeout`, after which it would end either of two that wait for each other.
_PATIENCE = 0.2

_WAITERS = """
    SELECT count(*), max((SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout')) FROM pg_locks
     WHERE NOT granted AND locktype = 'relation' AND relation = %s::regclass
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Busy(Exception):
    """Somebody else reads or writes the chunk, or waits to."""


def patiently(connection: psycopg.Connection, work: Callable[[], R]) -> R:
    """Do `work` in a transaction of its own, again a few times while the chunk is in use. Raises `Busy` in the end."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with connection.transaction():
                return work()
        except (Busy, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
    raise Busy


@contextmanager
def alone(connection: psycopg.Connection, chunk: Chunk) -> Iterator[None]:
    """In the caller's transaction: nobody reads or writes `chunk` from here on, and whoever wants to may wait.

    The lock is not waited for, so that nobody waits behind this: `LockNotAvailable` where it is not to be had at once.
    Inside, no lock is waited for as long as the server's search for deadlocks takes to begin: a writer that waits for
    this chunk may hold what the work needs, and the server would end one of the two.
    """
    lock(connection, chunk, "ACCESS EXCLUSIVE")
    name = f"{sql.Identifier(chunk.schema, chunk.table).as_string(connection)}"
    row = connection.execute(_WAITERS, [name]).fetchone()
    assert row is not None  # an aggregate has one row
    waiting, deadlock_timeout = row
    if waiting:
        raise Busy
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true)", [f"{max(1, round((deadlock_timeout or 1000) * _PATIENCE))}ms"]
    )
    yield


def lock(connection: psycopg.Connection, chunk: Chunk, mode: str) -> None:
    """Lock the table of a chunk, or raise `LockNotAvailable` at once; `UndefinedTable` where it is gone."""
    statement = "LOCK TABLE ONLY {} IN {} MODE NOWAIT"
    table = sql.Identifier(chunk.schema, chunk.table)
    connection.execute(sql.SQL(statement).format(table, sql.SQL(mode)))
