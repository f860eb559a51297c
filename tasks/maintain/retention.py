"""Retention: drop chunks that are wholly older than the time to keep, in one of three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal, Transient
from infra.mapping.table_options import TableOptions
from infra.tables.table import Table
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, chunk_states
from tasks.maintain.contention import ChunkBusy, ChunkGone, block_writers, retry_on_contention, yield_to_writers
from tasks.maintain.drops import drop_and_record, policy_reached, record_uncounted
from tasks.maintain.jobs import Change, Job, apply_changes, enable_again, format_age, is_community, read_jobs
from tasks.maintain.maintained_table import MaintainedTable
from tasks.table.chunks import Chunk, count, days_of, has_chunks

_ADD = "SELECT add_retention_policy({name}, drop_after => {after}::interval)"
_REMOVE = "SELECT remove_retention_policy({name}, if_exists => true)"


@dataclass(frozen=True)
class DroppedChunk:
    """A chunk that was dropped, or in a dry run would be, and its rows (in a dry run, estimated)."""

    chunk: Chunk
    rows: int
    bytes: int


def retention_changes(found: Sequence[Job], one: MaintainedTable) -> list[Change]:
    """The changes that bring the database's own job in line with the options. It exists only if `retention` is policy.

    A job that a user has added to another table than `events` stays if nothing is said about the time to keep.
    """
    options, keep, table = one.options, one.options.keep, one.table
    if not one.is_events and "keep" not in options.configured:
        return []
    remove = _statement(_REMOVE, table)
    if keep is None or options.retention != "policy":
        why = f"{options.source('retention')} is {options.retention}"
        if keep is None:
            why = f"{options.source('keep')} is empty, nothing is to be dropped"
        return [Change(f"retention policy after {_after(job)}: removed, {why}", remove) for job in found]
    add = Change(f"retention policy added: after {format_age(keep)}", _statement(_ADD, table, after=keep))
    if not found:
        return [add]
    if len(found) > 1 or found[0].after != keep:
        return [*(Change(f"retention policy after {_after(job)}: removed", remove) for job in found), add]
    return [] if found[0].enabled else [enable_again(found[0])]


def expired_chunks(states: Sequence[ChunkState], keep: timedelta | None, now: datetime) -> list[ChunkState]:
    """The chunks that are wholly older than `keep`, in the given order; none if `keep` is None."""
    return [] if keep is None else [state for state in states if state.chunk.range_end <= now - keep]


def drop_chunk(connection: psycopg.Connection, table: Table, state: ChunkState) -> int | None:
    """Count and drop one chunk of `table` and record it, in a transaction of its own.

    Returns its rows; None if it is gone.

    Loads go first: they wait at most while the rows of one day are counted, and cannot end in a deadlock with this.
    Raises `ChunkBusy` if the chunk stays in use, and `psycopg.Error`.
    """
    chunk = state.chunk

    def work() -> int:
        block_writers(connection, chunk)
        rows = _count(connection, table, state)
        drop_and_record(connection, table, chunk, rows, state.bytes, "maintain")
        return rows

    try:
        return retry_on_contention(connection, work)
    except ChunkGone:
        return None


def _count(connection: psycopg.Connection, table: Table, state: ChunkState) -> int:
    """Count the rows of a locked chunk, a day at a time unless the columnstore knows the number without reading."""
    if state.state != "rows":
        return count(connection, table, state.chunk)
    rows = 0
    for start, stop in days_of(state.chunk):
        rows += count(connection, table, state.chunk, start, stop)
        yield_to_writers(connection, state.chunk)
    return rows


def _after(job: Job) -> str:
    return format_age(job.after) if job.after else "another condition"


def _statement(text: str, table: Table, **values: object) -> sql.Composed:
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(text).format(name=sql.Literal(table.regclass), **literals)


def why_no_archive(options: TableOptions) -> str | None:
    """Why chunks cannot be archived before they are dropped, if that is wanted; otherwise None."""
    if options.keep is None or options.retention != "archive" or options.archive_url:
        return None
    return (
        f"{options.source('retention')} is archive, which needs a location, found none; nothing was dropped; set"
        f" {options.source('archive_url')} to a folder or a URL"
    )


@step("set retention policy")
def set_retention_policy(clients: Clients, one: MaintainedTable, dry_run: bool) -> list[str]:
    """Set or remove the database's own job as the options want. Returns the changes made, or in a dry run needed.

    Raises `Terminal` if the options want a job that the edition lacks, or an archive without a location.
    """
    options, table = one.options, one.table
    if not has_chunks(table):
        return []
    if (problem := why_no_archive(options)) is not None:
        raise Terminal(f"{one.prefix}{problem}")
    with clients.translate_errors(f"{one.prefix}set retention policy"), clients.postgres() as connection:
        if options.keep is not None and options.retention == "policy" and not is_community(connection):
            way = options.source("retention")
            use = f"set {way}=flow" if way.startswith("SPILLWAY") else 'write retention = "flow"'
            raise Terminal(
                f"{one.prefix}{way} is policy, which needs the Community edition of TimescaleDB, found Apache; nothing"
                f" was dropped; {use}"
            )
        found = read_jobs(connection, table, "retention")
        todo = retention_changes(found, one)
        if not dry_run:
            if (until := policy_reached(found, server_now(connection))) is not None:
                record_uncounted(connection, table, until, "policy")
            apply_changes(connection, todo)
        return [change.what for change in todo]


@step("chunks to drop")
def find_expired(clients: Clients, one: MaintainedTable) -> list[ChunkState]:
    """The chunks that this flow has to drop, the oldest first; none if the database's own job does it."""
    keep = one.options.keep
    if keep is None or one.options.retention == "policy":
        return []
    with clients.translate_errors(f"{one.prefix}chunks to drop"), clients.postgres() as connection:
        return expired_chunks(chunk_states(connection, one.table), keep, server_now(connection))


@step("drop", retries=1)
def drop(clients: Clients, table: Table, state: ChunkState) -> int | None:
    """`drop_chunk`, as a task. Raises `Transient` if the chunk stays in use."""
    name = state.chunk.table
    with clients.translate_errors(f"drop {name}"), clients.postgres() as connection:
        try:
            return drop_chunk(connection, table, state)
        except ChunkBusy:
            raise Transient(f"drop {name}: it stays in use; nothing was dropped; the next run tries again") from None
