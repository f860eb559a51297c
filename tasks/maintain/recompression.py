"""Compress chunks again that got late rows or have another layout, and say why a chunk is not compressed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import Transient
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, chunk_states
from tasks.maintain.compression import (
    ColumnstoreSql,
    DesiredPolicy,
    columnstore_sql,
    desired_policy,
    read_current_policy,
)
from tasks.maintain.contention import ChunkBusy, ChunkGone, exclusive_lock, retry_on_contention
from tasks.maintain.jobs import Job, is_community
from tasks.maintain.maintained_table import MaintainedTable
from tasks.table.chunks import has_chunks

# PostgreSQL compresses the columnstore's data once more: lz4 takes two thirds of the time and gives the same size.
_QUICKLY = """
    SELECT set_config(name, 'lz4', true)
      FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"""


@dataclass(frozen=True)
class Recompression:
    """A chunk to be compressed again, and why. `whole`: all of it, not only its late rows."""

    state: ChunkState
    why: str
    whole: bool


def chunks_to_recompress(states: Sequence[ChunkState], wanted: DesiredPolicy, now: datetime) -> list[Recompression]:
    """The compressed chunks past the age that have late rows or another layout than wanted."""
    found = []
    for state in states:
        if state.chunk.range_end > now - wanted.after or state.state not in ("compressed", "partial"):
            continue
        if wanted.layout is not None and state.layout != wanted.layout:
            found.append(Recompression(state, f"it had {state.layout}", whole=True))
        elif state.state == "partial":
            found.append(Recompression(state, "late rows", whole=False))
    return found


def recompress_chunk(connection: psycopg.Connection, again: Recompression, words: ColumnstoreSql) -> None:
    """Compress one chunk, in a transaction of its own. Raises `ChunkBusy` if it stays in use, and `psycopg.Error`.

    Readers are locked out from the start. The server's own job locks them out only at the end, and such a lock upgrade
    can end in a deadlock with a load that has read the chunk and wants to write.
    """
    chunk = again.state.chunk
    name = sql.Identifier(chunk.schema, chunk.table).as_string(connection)

    def work() -> None:
        with exclusive_lock(connection, chunk):
            connection.execute(_QUICKLY)
            connection.execute(_convert(words, name, again.whole))

    retry_on_contention(connection, work)
    if again.state.state != "rows":  # from rows, the server leaves the chunk's table empty
        _give_back(connection, again.state)


def _give_back(connection: psycopg.Connection, state: ChunkState) -> None:
    """Return the space of the rows that were moved into the columnstore. It can exceed the rest of the chunk.

    If the chunk is in use, autovacuum and the next run do it.
    """
    table = sql.Identifier(state.chunk.schema, state.chunk.table)

    def work() -> None:
        with exclusive_lock(connection, state.chunk):
            connection.execute(sql.SQL("REINDEX TABLE {}").format(table))

    with suppress(ChunkBusy, psycopg.errors.UndefinedTable):
        # Through a cursor: `execute` would start a transaction, in which VACUUM is not allowed.
        connection.cursor().execute(sql.SQL("VACUUM (SKIP_LOCKED) {}").format(table))
        retry_on_contention(connection, work)


def why_not_compressed(state: ChunkState, jobs: Sequence[Job], wanted: DesiredPolicy, now: datetime) -> str | None:
    """Why a chunk past the age is not fully compressed; None if it is, or is not due yet."""
    if state.chunk.range_end + wanted.after > now or state.state == "compressed":
        return None
    if state.state == "frozen":
        return "it is frozen, so that nobody may write to it"
    if not jobs:
        return "there is no policy yet; run `spillway maintain`"
    job = jobs[0]
    if not job.enabled:
        return f"job {job.id} is disabled"
    if job.running:
        return str(job)
    if not ran_since_due(state, job, wanted):
        return f"job {job.id} has not run since it is due; it will {_when(job)}"
    if job.failed:
        return str(job)
    if state.state == "partial":
        return f"it got late rows; job {job.id} compresses them {_when(job)}"
    return f"job {job.id} has run and left it: see the log of the database server"


def due_since(state: ChunkState, wanted: DesiredPolicy) -> datetime:
    """Since when the chunk is due for compression. Late events create old chunks again, so it may be younger."""
    return max(state.chunk.range_end + wanted.after, state.created)


def failed_by_job(state: ChunkState, jobs: Sequence[Job], wanted: DesiredPolicy) -> bool:
    """Whether the chunk is still rows because a job failed or is disabled. Late rows are the flow's task."""
    return state.state == "rows" and any(
        not job.enabled or (job.failed and not job.met_a_drop and not job.running and ran_since_due(state, job, wanted))
        for job in jobs
    )


def ran_since_due(state: ChunkState, job: Job, wanted: DesiredPolicy) -> bool:
    """Whether the job has started a run since the chunk became due."""
    return job.last_start is not None and job.last_start >= due_since(state, wanted)


def _when(job: Job) -> str:
    return f"at {job.next_start:%Y-%m-%d %H:%M}" if job.next_start else "at any moment"


def _convert(words: ColumnstoreSql, chunk: str, whole: bool) -> sql.Composed:
    return sql.SQL(words.convert).format(chunk=sql.Literal(chunk), whole=sql.Literal(whole))


@step("chunks to compress again")
def find_recompressions(clients: Clients, one: MaintainedTable) -> list[Recompression]:
    """`chunks_to_recompress`, as a task; empty if compression is off or the edition cannot compress."""
    with clients.translate_errors(f"{one.prefix}chunks to compress again"), clients.postgres() as connection:
        if not has_chunks(one.table) or not is_community(connection):
            return []
        wanted = desired_policy(one, read_current_policy(connection, one.table))
        if wanted is None:
            return []
        return chunks_to_recompress(chunk_states(connection, one.table), wanted, server_now(connection))


@step("compress again", retries=1)
def recompress(clients: Clients, again: Recompression) -> None:
    """`recompress_chunk`, as a task. A dropped chunk is skipped. Raises `Transient` if the chunk stays in use."""
    doing = f"compress {again.state.chunk.table} again ({again.why})"
    with clients.translate_errors(doing), clients.postgres() as connection:
        try:
            recompress_chunk(connection, again, columnstore_sql(connection))
        except ChunkBusy:
            raise Transient(f"{doing}: it stays in use; nothing was changed; the next run tries again") from None
        except ChunkGone:
            return
