"""Drop a chunk whose rows are all in a verified archive, beside drains that run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import sql

from infra.errors import Terminal, Transient
from tasks.archive.content import Content, day_bounds, on_server, total
from tasks.archive.lock import demand_alone
from tasks.archive.manifest import ADVICE, HYPERTABLE, BadArchive, Manifest, load
from tasks.archive.root import Root, explained
from tasks.archive.supersede import remove_contained
from tasks.archive.verify import verify
from tasks.chunks import Chunk
from tasks.drops import record_drop
from tasks.progress import Reached, announce

# dropped: by this call. changed: it holds other rows than the archive, and stays. gone: it was not there any more.
Outcome = Literal["dropped", "changed", "gone"]

_ATTEMPTS = 6
_PAUSE_SECONDS = 0.5  # after the first attempt, then twice as long each
_LOCK_TIMEOUT_MS = 2_000  # in which those who write to the chunk finish; others who want to write wait as long
_ALONE_SECONDS = 5.0  # in which those who read the chunk finish
_LOOK_SECONDS = 0.02

_WAITERS = """
    SELECT count(*) FROM pg_locks
     WHERE NOT granted AND locktype = 'relation' AND relation = to_regclass(format('%%I.%%I', %s::text, %s::text))
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode <> 'AccessShareLock'"""
# A writer that meets a drop inside TimescaleDB can be in a deadlock with it (2.19, by the row of the chunk's range in
# its catalog). The server looks for one when a lock was waited for as long as `deadlock_timeout`, and ends either of
# the two; the drop gives up well before that.
_SHORTEN = """
    SELECT set_config('lock_timeout', greatest(1, setting::int / 5) || 'ms', true)
      FROM pg_settings WHERE name = 'deadlock_timeout'"""
_DROP = """
    SELECT parse_ident(dropped::text)
      FROM drop_chunks(%s::regclass, older_than => %s::timestamptz, newer_than => %s::timestamptz) AS dropped"""


class _Busy(Exception):
    """Somebody who reads or writes goes first."""


def drop_archived(connection: psycopg.Connection, chunk: Chunk, manifest: Manifest, root: Root) -> Outcome:
    """Verify the archive, compare the chunk with it under a lock, and drop the chunk, in one transaction.

    Rows that came since stay, and with them the chunk: archive it again. Older archives all of whose rows are in this
    one are removed. Drains go first: whoever wants to write to the
    chunk waits no longer than a day's rows are compared, and none is brought into a deadlock. Raises `BadArchive` and
    `psycopg.Error` with nothing dropped, `Transient` where others used the chunk all the time.
    """
    if (chunk.range_start, chunk.range_end) != (manifest.chunk.range_start, manifest.chunk.range_end):
        raise Terminal(
            f"drop {chunk.schema}.{chunk.table}: the archive {manifest.name} is of another range of times; archive this"
            " chunk first"
        )
    verify(root, manifest)
    announce(Reached(manifest.name, "verified"))
    with explained(f"drop {chunk.schema}.{chunk.table}", root), connection.transaction():
        demand_alone(connection, chunk)
        for name in remove_contained(root, manifest):
            announce(Reached(name, "removed"))
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with explained(f"drop {chunk.schema}.{chunk.table}", root), connection.transaction():
                outcome = _drop_if_same(connection, chunk, manifest, root)
        except psycopg.errors.UndefinedTable:
            outcome = "gone"
        except (_Busy, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
        announce(Reached(manifest.name, outcome))
        return outcome
    raise Transient(
        f"drop {chunk.schema}.{chunk.table}: others read or wrote it at each of {_ATTEMPTS} attempts; it is archived"
        " and stays until the next run"
    )


def _drop_if_same(connection: psycopg.Connection, chunk: Chunk, manifest: Manifest, root: Root) -> Outcome:
    name = manifest.name
    # Every statement sees what was committed before it began: after the lock, all rows there are.
    connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.execute("SET LOCAL client_encoding = 'UTF8'")
    connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_MS}ms'")
    table = sql.Identifier(chunk.schema, chunk.table)
    demand_alone(connection, chunk)
    if load(root, name) != manifest:  # nobody changes archives of this chunk any more
        raise BadArchive(f"archive {name}: its manifest was replaced while it was verified; {ADVICE}")
    # Writers, other droppers among them, are kept out from here on, readers are not. This is the only lock that is
    # waited for, and without another one in hand that anybody could want.
    connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE").format(table))
    announce(Reached(name, "locked"))
    for start, stop, expected in _slices(chunk, manifest):
        found = total(on_server(connection, start, stop).values())
        if (found.rows, found.hash) != expected:
            return "changed"
        _let_others_go_first(connection, chunk)
    announce(Reached(name, "compared"))
    _be_alone(connection, chunk, table)
    _let_others_go_first(connection, chunk)
    connection.execute(_SHORTEN)
    record_drop(connection, chunk, manifest.rows, None, "archive")
    dropped = [tuple(names) for (names,) in connection.execute(_DROP, [HYPERTABLE, chunk.range_end, chunk.range_start])]
    if dropped != [(chunk.schema, chunk.table)]:
        raise Terminal(
            f"drop {chunk.schema}.{chunk.table}: expected to drop this chunk alone, found {dropped}; nothing was"
            " dropped: list the chunks anew"
        )
    announce(Reached(name, "dropping"))
    return "dropped"


def _slices(chunk: Chunk, manifest: Manifest) -> Iterator[tuple[datetime, datetime, tuple[int, str]]]:
    """The range of a chunk, a day with rows or a gap at a time, each with the rows and the hash that it must have."""
    at, nothing = chunk.range_start, (0, Content().hash)
    for file in manifest.files:
        start, stop = day_bounds(chunk, file.day)
        if at < start:
            yield at, start, nothing
        yield start, stop, (file.rows, file.content_hash)
        at = stop
    if at < chunk.range_end:
        yield at, chunk.range_end, nothing


def _be_alone(connection: psycopg.Connection, chunk: Chunk, table: sql.Identifier) -> None:
    """Lock readers out too, without ever waiting for them: who waits with a lock in hand can be in a deadlock."""
    deadline = time.monotonic() + _ALONE_SECONDS
    while True:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(table))
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise _Busy from None
        _let_others_go_first(connection, chunk)
        time.sleep(_LOOK_SECONDS)


def _let_others_go_first(connection: psycopg.Connection, chunk: Chunk) -> None:
    """Raise `_Busy`, which lets go of the lock, where somebody waits to write to the chunk: it will have other rows."""
    row = connection.execute(_WAITERS, [chunk.schema, chunk.table]).fetchone()
    if row is None or row[0]:
        raise _Busy
