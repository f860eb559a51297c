"""Retention: drop chunks that are wholly older than the time to keep, in one of three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, Transient
from infra.tables.events import events_name
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, chunk_states
from tasks.maintain.contention import ChunkBusy, ChunkGone, block_writers, retry_on_contention, yield_to_writers
from tasks.maintain.drops import drop_and_record, policy_reached, record_uncounted
from tasks.maintain.jobs import Change, Job, apply_changes, enable_again, format_age, is_community, read_jobs
from tasks.table.chunks import Chunk, count, days_of

Way = Literal["policy", "flow", "archive"]

_ADD = "SELECT add_retention_policy({name}, drop_after => {after}::interval)"
_REMOVE = "SELECT remove_retention_policy({name}, if_exists => true)"


@dataclass(frozen=True)
class DroppedChunk:
    """A chunk that was dropped, or in a dry run would be, and its rows (in a dry run, estimated)."""

    chunk: Chunk
    rows: int
    bytes: int


def retention_changes(found: Sequence[Job], keep: timedelta | None, way: Way) -> list[Change]:
    """The changes that bring the database's own job in line with the settings. It exists only if `way` is policy."""
    remove = _statement(_REMOVE)
    if keep is None or way != "policy":
        why = "SPILLWAY_KEEP is empty, nothing is to be dropped" if keep is None else f"SPILLWAY_RETENTION is {way}"
        return [Change(f"retention policy after {_after(job)}: removed, {why}", remove) for job in found]
    add = Change(f"retention policy added: after {format_age(keep)}", _statement(_ADD, after=keep))
    if not found:
        return [add]
    if len(found) > 1 or found[0].after != keep:
        return [*(Change(f"retention policy after {_after(job)}: removed", remove) for job in found), add]
    return [] if found[0].enabled else [enable_again(found[0])]


def expired_chunks(states: Sequence[ChunkState], keep: timedelta | None, now: datetime) -> list[ChunkState]:
    """The chunks that are wholly older than `keep`, in the given order; none if `keep` is None."""
    return [] if keep is None else [state for state in states if state.chunk.range_end <= now - keep]


def drop_chunk(connection: psycopg.Connection, state: ChunkState) -> int | None:
    """Count and drop one chunk and record it, in a transaction of its own. Returns its rows; None if it is gone.

    Loads go first: they wait at most while the rows of one day are counted, and cannot end in a deadlock with this.
    Raises `ChunkBusy` if the chunk stays in use, and `psycopg.Error`.
    """
    chunk = state.chunk

    def work() -> int:
        block_writers(connection, chunk)
        rows = _count(connection, state)
        drop_and_record(connection, chunk, rows, state.bytes, "maintain")
        return rows

    try:
        return retry_on_contention(connection, work)
    except ChunkGone:
        return None


def _count(connection: psycopg.Connection, state: ChunkState) -> int:
    """Count the rows of a locked chunk, a day at a time unless the columnstore knows the number without reading."""
    if state.state != "rows":
        return count(connection, state.chunk)
    rows = 0
    for start, stop in days_of(state.chunk):
        rows += count(connection, state.chunk, start, stop)
        yield_to_writers(connection, state.chunk)
    return rows


def _after(job: Job) -> str:
    return format_age(job.after) if job.after else "another condition"


def _statement(text: str, **values: object) -> sql.Composed:
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(text).format(name=sql.Literal(events_name()), **literals)


@step("set retention policy")
def set_retention_policy(clients: Clients, dry_run: bool) -> list[str]:
    """Set or remove the database's own job as the settings want. Returns the changes made, or in a dry run needed.

    Raises `Terminal` if the settings want a job that the edition lacks, or an archive without a location.
    """
    config = clients.settings
    if config.keep is not None and config.retention == "archive" and not config.archive_url:
        raise Terminal(
            "SPILLWAY_RETENTION is archive, which needs a location, found none; nothing was dropped; set"
            " SPILLWAY_ARCHIVE_URL to a folder or a URL"
        )
    with clients.translate_errors("set retention policy"), clients.postgres() as connection:
        if config.keep is not None and config.retention == "policy" and not is_community(connection):
            raise Terminal(
                "SPILLWAY_RETENTION is policy, which needs the Community edition of TimescaleDB, found Apache; nothing"
                " was dropped; set SPILLWAY_RETENTION=flow"
            )
        found = read_jobs(connection, "retention")
        todo = retention_changes(found, config.keep, config.retention)
        if not dry_run:
            if (until := policy_reached(found, server_now(connection))) is not None:
                record_uncounted(connection, until, "policy")
            apply_changes(connection, todo)
        return [change.what for change in todo]


@step("chunks to drop")
def find_expired(clients: Clients) -> list[ChunkState]:
    """The chunks that this flow has to drop, the oldest first; none if the database's own job does it."""
    config = clients.settings
    if config.keep is None or config.retention == "policy":
        return []
    with clients.translate_errors("chunks to drop"), clients.postgres() as connection:
        return expired_chunks(chunk_states(connection), config.keep, server_now(connection))


@step("drop", retries=1)
def drop(clients: Clients, state: ChunkState) -> int | None:
    """`drop_chunk`, as a task. Raises `Transient` if the chunk stays in use."""
    name = state.chunk.table
    with clients.translate_errors(f"drop {name}"), clients.postgres() as connection:
        try:
            return drop_chunk(connection, state)
        except ChunkBusy:
            raise Transient(f"drop {name}: it stays in use; nothing was dropped; the next run tries again") from None
