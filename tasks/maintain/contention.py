"""Work on one chunk while nobody else uses it. Writers go first, and no session ends in a deadlock.

Each attempt is one transaction. It blocks writers (`block_writers`), may read the rows, and then locks the chunk
exclusively (`exclusive_lock`) for the work itself. While it holds a lock it waits for no other, and it gives up as soon
as a writer waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import sql

from tasks.base.stopping import pause
from tasks.table.chunks import Chunk

R = TypeVar("R")

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.25  # after the first attempt; doubles after each further one
_WRITERS_SECONDS = 2.0  # for current writers to finish; new ones wait as long
_ALONE_SECONDS = 5.0  # for readers to finish
_LOOK_SECONDS = 0.02

_WRITERS_WAIT = """
    SELECT count(*) FROM pg_locks
     WHERE NOT granted AND locktype = 'relation' AND relation = to_regclass(format('%%I.%%I', %s::text, %s::text))
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode <> 'AccessShareLock'"""
# Inside TimescaleDB a drop and a writer can deadlock (2.19: over the catalog row of the chunk's range). The server
# detects it after `deadlock_timeout` and ends one of the two sessions; the work here gives up well before that.
_SHORTEN = """
    SELECT set_config('lock_timeout', greatest(1, setting::int / 5) || 'ms', true)
      FROM pg_settings WHERE name = 'deadlock_timeout'"""


class ChunkBusy(Exception):
    """Another session reads or writes the chunk, or waits to write."""


class ChunkGone(Exception):
    """The chunk no longer exists."""


def retry_on_contention(connection: psycopg.Connection, work: Callable[[], R]) -> R:
    """Run `work` in a transaction of its own, and try again a few times while the chunk is in use.

    Raises `ChunkBusy` after the last attempt, or if the run is being stopped, and whatever else `work` raises.
    """
    for attempt in range(_ATTEMPTS):
        if attempt and pause(_PAUSE_SECONDS * 2 ** (attempt - 1)):
            break
        try:
            with connection.transaction():
                return work()
        except (ChunkBusy, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
    raise ChunkBusy


def block_writers(connection: psycopg.Connection, chunk: Chunk) -> None:
    """Keep other sessions from writing to `chunk` or dropping it until the transaction ends; readers continue.

    The caller's transaction must hold no lock that others need: this is the only lock that is waited for, up to 2 s.
    Raises `LockNotAvailable` and `ChunkGone`.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{round(_WRITERS_SECONDS * 1000)}ms"])
    lock(connection, chunk, "SHARE ROW EXCLUSIVE MODE")


def yield_to_writers(connection: psycopg.Connection, chunk: Chunk) -> None:
    """Raise `ChunkBusy`, which releases all locks, if a session waits to write to the chunk."""
    row = connection.execute(_WRITERS_WAIT, [chunk.schema, chunk.table]).fetchone()
    assert row is not None  # an aggregate has one row
    if row[0]:
        raise ChunkBusy


@contextmanager
def exclusive_lock(connection: psycopg.Connection, chunk: Chunk) -> Iterator[None]:
    """Keep other sessions from reading or writing `chunk` until the caller's transaction ends; they wait.

    Readers are polled and never waited for, since a session that waits while it holds a lock can end in a deadlock.
    Within the block, every wait for a lock is shorter than `deadlock_timeout`. Raises `ChunkBusy` if readers stay for
    5 s or a writer waits, and `ChunkGone`.
    """
    deadline = time.monotonic() + _ALONE_SECONDS
    while not _lock_at_once(connection, chunk):
        yield_to_writers(connection, chunk)
        if pause(_LOOK_SECONDS) or time.monotonic() > deadline:
            raise ChunkBusy
    yield_to_writers(connection, chunk)
    connection.execute(_SHORTEN)
    yield


def _lock_at_once(connection: psycopg.Connection, chunk: Chunk) -> bool:
    try:
        with connection.transaction():
            lock(connection, chunk, "ACCESS EXCLUSIVE MODE NOWAIT")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def lock(connection: psycopg.Connection, chunk: Chunk, mode: str) -> None:
    """Lock the table of a chunk in the caller's transaction. Raises `ChunkGone` and `psycopg.Error`."""
    statement = sql.SQL("LOCK TABLE ONLY {} IN {}").format(sql.Identifier(chunk.schema, chunk.table), sql.SQL(mode))
    try:
        connection.execute(statement)
    except psycopg.errors.UndefinedTable:
        raise ChunkGone from None
