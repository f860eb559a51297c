"""Replays entries of the quarantine, each once: into the table, or back into quarantine with the current reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.mapping.mapping import Mapping as EntryMapping
from tasks.base.addresses import IdRange, parse_id
from tasks.base.artifacts import publish
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.table.insert import InsertRoute, insert
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import Selection, kind, storable

# The mapping of a stream or file, by its name in the ledger; None for the two known layouts.
FindMapping = Callable[[psycopg.Connection, str], EntryMapping | None]
# The limits of one transaction. A single entry may exceed the bytes.
_MAX_ENTRIES, _MAX_BYTES = 1_000, 8 << 20

_WAITING = """
    SELECT s.name, q.entry_id, pg_column_size(q.fields)
      FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream
     WHERE {condition}
     ORDER BY s.name, split_part(q.entry_id, '-', 1)::numeric, split_part(q.entry_id, '-', 2)::numeric"""
# Locks the entries: of two simultaneous redrives the second one waits, and then finds them redriven.
_TAKE = fill_in("""
    SELECT q.entry_id, q.fields FROM spillway.quarantine AS q
     WHERE q.stream = {stream_id}
       AND q.entry_id = ANY(%(entries)s) AND q.outcome IS NULL
     ORDER BY q.entry_id FOR UPDATE""")
_REDRIVEN = fill_in("""
    UPDATE spillway.quarantine SET outcome = 'redriven', replayed = %(replayed)s, resolved_by = %(run)s,
           resolved_at = now()
     WHERE stream = {stream_id} AND entry_id = %(entry)s""")
_STILL_BAD = fill_in("""
    UPDATE spillway.quarantine SET kind = %(kind)s, field = %(field)s, reason = %(reason)s
     WHERE stream = {stream_id} AND entry_id = %(entry)s""")


@dataclass(frozen=True)
class ReplayBatch:
    """Entries of one stream, by their ids, that are replayed in one transaction."""

    stream: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class RedriveResult:
    """What happened to the entries of a `ReplayBatch`: tried = inserted + duplicates + still_bad."""

    stream: str
    tried: int
    inserted: int
    duplicates: int
    still_bad: int


def replay_batches(connection: psycopg.Connection, selection: Selection) -> list[ReplayBatch]:
    """The selected entries in batches, ordered by stream and id. Raises `psycopg.Error`."""
    condition, values = selection.condition()
    query = sql.SQL(_WAITING).format(condition=condition)
    found: list[ReplayBatch] = []
    entries: list[str] = []
    size, of = 0, ""
    for stream, entry, nbytes in connection.execute(query, values):
        if entries and (stream != of or len(entries) == _MAX_ENTRIES or size + nbytes > _MAX_BYTES):
            found.append(ReplayBatch(of, tuple(entries)))
            entries, size = [], 0
        entries.append(entry)
        size, of = size + nbytes, stream
    if entries:
        found.append(ReplayBatch(of, tuple(entries)))
    return found


def edit_fields(fields: Sequence[bytes], changes: Mapping[str, str]) -> list[bytes]:
    """`fields` (names and values in turn) with `changes` applied; new names are appended.

    If a name is repeated, its last value changes, since that one counts.
    """
    result = list(fields)
    for name, value in changes.items():
        at = next((i for i in range(len(result) - 2, -1, -2) if result[i] == name.encode()), None)
        if at is None:
            result += [name.encode(), value.encode()]
        else:
            result[at + 1] = value.encode()
    return result


def replay(
    connection: psycopg.Connection, waiting: ReplayBatch, mapping: EntryMapping | None, window: TimeWindow,
    changes: Mapping[str, str], run: str, new_chunks: NewChunkLimit | None = None,
) -> RedriveResult:  # fmt: skip
    """Replay the entries of a batch that still wait, in one transaction. Raises `psycopg.Error` with nothing done."""
    with connection.transaction():
        key = {"stream": waiting.stream, "entries": list(waiting.entries), "run": run}
        taken = sorted(connection.execute(_TAKE, key).fetchall(), key=lambda row: parse_id(row[0]))
        if not taken:
            return RedriveResult(waiting.stream, 0, 0, 0, 0)
        page = [(entry.encode(), edit_fields(fields, changes)) for entry, fields in taken]
        ids = IdRange(parse_id(page[0][0]), parse_id(page[-1][0]) + 1)
        batch = Batch(waiting.stream, ids, page_to_columns(page), mapping, window)
        if new_chunks is not None:
            batch = new_chunks.admit(connection, batch)
        outcome = insert(connection, batch, InsertRoute.MERGE)
        faults = {batch.raw(fault.entry)[0]: fault for fault in (*batch.encoded.faults, *outcome.faults)}
        replayed = {entry.decode(): fields for entry, fields in page}
        with connection.cursor() as cursor:
            good = [(entry, before, replayed[entry]) for entry, before in taken if entry not in faults]
            cursor.executemany(
                _REDRIVEN,
                [key | {"entry": e, "replayed": None if fields == list(old) else fields} for e, old, fields in good],
            )
            cursor.executemany(
                _STILL_BAD,
                [
                    key | {"entry": e, "kind": kind(f), "field": storable(f.field), "reason": storable(f.reason)}
                    for e, f in faults.items()
                ],
            )
        return RedriveResult(waiting.stream, len(taken), outcome.inserted, outcome.duplicates, len(faults))


@step("select")
def select(clients: Clients, selection: Selection) -> list[ReplayBatch]:
    """`replay_batches`, as a task."""
    with clients.translate_errors("select entries of the quarantine"), clients.postgres() as connection:
        return replay_batches(connection, selection)


@step("replay")
def replay_entries(
    clients: Clients, waiting: ReplayBatch, find_mapping: FindMapping, changes: Mapping[str, str], run: str,
    new_chunks: NewChunkLimit | None = None,
) -> RedriveResult:  # fmt: skip
    """`replay`, as a task. `new_chunks`: limits the chunks that it may create; None means no limit."""
    window = TimeWindow.around_now(clients.settings.max_age_days, clients.settings.max_ahead_days)
    doing = f"redrive {waiting.stream} {waiting.entries[0]}..{waiting.entries[-1]}"
    with clients.translate_errors(doing), clients.postgres() as connection:
        mapping = find_mapping(connection, waiting.stream)
        return replay(connection, waiting, mapping, window, changes, run, new_chunks)


@step("report")
def report_redrive(done: list[RedriveResult]) -> None:
    """Publish the results as the Prefect table artifact `redrive`, one row per stream."""
    names = ("tried", "inserted", "duplicates", "still_bad")
    streams = dict.fromkeys(part.stream for part in done)
    rows = [
        {"stream": stream} | {name: sum(getattr(p, name) for p in done if p.stream == stream) for name in names}
        for stream in streams
    ]
    publish("redrive", rows, "tried = inserted + duplicates + still_bad")
