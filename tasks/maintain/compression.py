"""Compression: set the server's policy, and compress again the chunks that got late rows or have another layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import Transient
from infra.tables.events import events_name, events_table
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, chunk_states
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.contention import ChunkBusy, ChunkGone, exclusive_lock, retry_on_contention
from tasks.maintain.jobs import Change, Job, apply_changes, enable_again, format_age, is_community, read_jobs


@dataclass(frozen=True)
class DesiredPolicy:
    """Chunks that are wholly older than `after` are compressed with `layout`."""

    after: timedelta
    layout: CompressionLayout


@dataclass(frozen=True)
class CurrentPolicy:
    """How the server is set. `layout`: None if compression is not enabled on the table."""

    layout: CompressionLayout | None
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class ColumnstoreSql:
    """The SQL for compression. Its names changed in TimescaleDB 2.18; the older ones still work."""

    set_layout: str
    add: str
    remove: str
    convert: str


COLUMNSTORE_NAMES = ColumnstoreSql(
    "ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = {segmentby},"
    " timescaledb.orderby = {orderby})",
    "CALL add_columnstore_policy({name}, after => {after}::interval)",
    "CALL remove_columnstore_policy({name}, if_exists => true)",
    "CALL convert_to_columnstore({chunk}::regclass, recompress => {whole})",
)
COMPRESSION_NAMES = ColumnstoreSql(
    "ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = {segmentby},"
    " timescaledb.compress_orderby = {orderby})",
    "SELECT add_compression_policy({name}, compress_after => {after}::interval)",
    "SELECT remove_compression_policy({name}, if_exists => true)",
    "SELECT compress_chunk({chunk}::regclass, recompress => {whole})",
)

_FOUND = """
    SELECT h.compression_enabled, s.segmentby, s.orderby
      FROM timescaledb_information.hypertables AS h
      JOIN timescaledb_information.hypertable_compression_settings AS s ON s.hypertable = %(table)s::regclass
      JOIN pg_class AS r ON r.oid = s.hypertable AND r.relname = h.hypertable_name
                        AND r.relnamespace = to_regnamespace(quote_ident(h.hypertable_schema))"""


# PostgreSQL compresses the columnstore's data once more: lz4 takes two thirds of the time and gives the same size.
_QUICKLY = """
    SELECT set_config(name, 'lz4', true)
      FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"""


def columnstore_sql(connection: psycopg.Connection) -> ColumnstoreSql:
    """The newest SQL names that the server has. Raises `psycopg.Error`."""
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'add_columnstore_policy')").fetchone()
    return COLUMNSTORE_NAMES if row is not None and row[0] else COMPRESSION_NAMES


def read_current_policy(connection: psycopg.Connection) -> CurrentPolicy:
    """How the server is set. Raises `psycopg.Error`."""
    row = connection.execute(_FOUND, {"table": events_name()}).fetchone()
    enabled, segmentby, orderby = row or (False, None, None)
    layout = CompressionLayout.parse(segmentby or "", orderby) if enabled and orderby else None
    return CurrentPolicy(layout, tuple(read_jobs(connection, "compression")))


def compression_changes(found: CurrentPolicy, wanted: DesiredPolicy | None, words: ColumnstoreSql) -> list[Change]:
    """The changes that set the server to `wanted`, in order; empty if it already is. None means no compression."""
    remove = _statement(words.remove)
    if wanted is None:
        return [Change("compression policy removed: SPILLWAY_COMPRESS_AFTER is empty", remove)] * bool(found.jobs)
    todo = []
    if found.layout != wanted.layout:
        before = f" instead of {found.layout}" if found.layout else ""
        statement = _statement(
            words.set_layout,
            segmentby=", ".join(wanted.layout.segmentby),
            orderby=", ".join(wanted.layout.orderby),
        )
        todo.append(Change(f"compression set: {wanted.layout}{before}", statement))
    add = _statement(words.add, after=wanted.after)
    if not found.jobs:
        todo.append(Change(f"compression policy added: after {format_age(wanted.after)}", add))
    elif len(found.jobs) > 1 or found.jobs[0].after != wanted.after:
        # `if_not_exists` would keep the existing policy.
        before = ", ".join(format_age(job.after) if job.after else "another condition" for job in found.jobs)
        todo += [Change(f"compression policy after {before}: removed", remove)] * len(found.jobs)
        todo.append(Change(f"compression policy added: after {format_age(wanted.after)}", add))
    elif not found.jobs[0].enabled:
        todo.append(enable_again(found.jobs[0]))
    return todo


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
        if state.layout != wanted.layout:
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
            connection.execute(_statement(words.convert, chunk=name, whole=again.whole))

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
        not job.enabled or (job.failed and not job.running and ran_since_due(state, job, wanted)) for job in jobs
    )


def ran_since_due(state: ChunkState, job: Job, wanted: DesiredPolicy) -> bool:
    """Whether the job has started a run since the chunk became due."""
    return job.last_start is not None and job.last_start >= due_since(state, wanted)


def _when(job: Job) -> str:
    return f"at {job.next_start:%Y-%m-%d %H:%M}" if job.next_start else "at any moment"


def _statement(text: str, **values: object) -> sql.Composed:
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(text).format(table=events_table(), name=sql.Literal(events_name()), **literals)


def desired_policy(clients: Clients) -> DesiredPolicy | None:
    """The policy of the settings; None if compression is off. Raises `WrongUse` for an invalid list of columns."""
    config = clients.settings
    if config.compress_after is None:
        return None
    return DesiredPolicy(
        config.compress_after, CompressionLayout.parse(config.compress_segmentby, config.compress_orderby)
    )


@step("set compression policy")
def set_compression_policy(clients: Clients, dry_run: bool) -> list[str]:
    """Set the server's compression policy as the settings want. Returns the changes made, or in a dry run needed."""
    with clients.translate_errors("set compression policy"), clients.postgres() as connection:
        if not is_community(connection):
            return []
        todo = compression_changes(
            read_current_policy(connection), desired_policy(clients), columnstore_sql(connection)
        )
        if not dry_run:
            apply_changes(connection, todo)
        return [change.what for change in todo]


@step("chunks to compress again")
def find_recompressions(clients: Clients) -> list[Recompression]:
    """`chunks_to_recompress`, as a task; empty if compression is off or the edition cannot compress."""
    wanted = desired_policy(clients)
    with clients.translate_errors("chunks to compress again"), clients.postgres() as connection:
        if wanted is None or not is_community(connection):
            return []
        return chunks_to_recompress(chunk_states(connection), wanted, server_now(connection))


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
