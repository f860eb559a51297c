"""Work on one chunk while nobody else is in it: writers go first, and nobody is brought into a deadlock.

One attempt is one transaction. It blocks writers (`block_writers`), may look at the rows, and then keeps everybody out
(`exclusive_lock`) for the work itself. While it has a lock it waits for nothing, and where a writer comes it lets go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import sql

from tasks.table.chunks import Chunk

R = TypeVar("R")

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.25  # after the first attempt, then twice as long each
_WRITERS_SECONDS = 2.0  # in which those who write to the chunk finish; others who want to write wait as long
_ALONE_SECONDS = 5.0  # in which those who read the chunk finish
_LOOK_SECONDS = 0.02

_WRITERS_WAIT = """
    SELECT count(*) FROM pg_locks
     WHERE NOT granted AND locktype = 'relation' AND relation = to_regclass(format('%%I.%%I', %s::text, %s::text))
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode <> 'AccessShareLock'"""
# A writer that meets a drop inside TimescaleDB can be in a deadlock with it (2.19, by the row of the chunk's range in
# its catalog). The server looks for one when a lock was waited for as long as `deadlock_timeout`, and ends either of
# the two; the work gives up well before that.
_SHORTEN = """
    SELECT set_config('lock_timeout', greatest(1, setting::int / 5) || 'ms', true)
      FROM pg_settings WHERE name = 'deadlock_timeout'"""


class ChunkBusy(Exception):
    """Somebody else reads or writes the chunk, or waits to."""


class ChunkGone(Exception):
    """The chunk is not there any more."""


def retry_on_contention(connection: psycopg.Connection, work: Callable[[], R]) -> R:
    """Do `work` in a transaction of its own, again a few times while the chunk is in use. Raises `ChunkBusy`
    in the end.

    Raises what else `work` raises.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with connection.transaction():
                return work()
        except (ChunkBusy, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
    raise ChunkBusy


def block_writers(connection: psycopg.Connection, chunk: Chunk) -> None:
    """In the caller's transaction, which has no lock yet that anybody could want: from here on nobody writes to
    `chunk`, nor drops it; readers go on.

    This lock alone is waited for, a little. Raises `LockNotAvailable`, and `ChunkGone`.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{round(_WRITERS_SECONDS * 1000)}ms"])
    lock(connection, chunk, "SHARE ROW EXCLUSIVE MODE")


def yield_to_writers(connection: psycopg.Connection, chunk: Chunk) -> None:
    """Raise `ChunkBusy`, so that the locks are let go, where somebody waits to write to the chunk."""
    row = connection.execute(_WRITERS_WAIT, [chunk.schema, chunk.table]).fetchone()
    assert row is not None  # an aggregate has one row
    if row[0]:
        raise ChunkBusy


@contextmanager
def exclusive_lock(connection: psycopg.Connection, chunk: Chunk) -> Iterator[None]:
    """In the caller's transaction: nobody reads or writes `chunk` from here on, and whoever wants to waits for its end.

    Readers are never waited for, only looked at again and again, since who waits with a lock in hand can be in a
    deadlock; and inside no lock is waited for as long as the server's search for deadlocks takes to begin. Raises
    `ChunkBusy` where readers stay or a writer comes, and `ChunkGone`.
    """
    deadline = time.monotonic() + _ALONE_SECONDS
    while not _lock_at_once(connection, chunk):
        if time.monotonic() > deadline:
            raise ChunkBusy
        yield_to_writers(connection, chunk)
        time.sleep(_LOOK_SECONDS)
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
    """Lock the table of a chunk in the caller's transaction. Raises `ChunkGone`, and `psycopg.Error`."""
    statement = sql.SQL("LOCK TABLE ONLY {} IN {}").format(sql.Identifier(chunk.schema, chunk.table), sql.SQL(mode))
    try:
        connection.execute(statement)
    except psycopg.errors.UndefinedTable:
        raise ChunkGone from None
