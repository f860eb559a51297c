"""Replays entries of the quarantine, each once: into the table, or back into quarantine with the current reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.connections.clients import Clients
from infra.epoch import timestamptz_sql
from tasks.base.artifacts import publish
from tasks.base.collector import collector_paused
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.decode import Fault, TimeWindow
from tasks.columns.entries import UNREAD
from tasks.columns.row_layout import RowLayout
from tasks.ledger.names import is_file_ledger
from tasks.table.insert import InsertRoute
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import Selection
from tasks.table.quarantine_entries import kind, storable
from tasks.table.replayer import Replayer, TakenEntry
from tasks.table.reread_entry import reread_entry

# The layout of a stream or file, by its name in the ledger.
FindLayout = Callable[[psycopg.Connection, str], RowLayout]
# The fields of an entry by its id, or the reason why they cannot be read.
ReadEntry = Callable[[str], list[bytes] | str]
# The limits of one transaction. A single entry may exceed the bytes.
_MAX_ENTRIES, _MAX_BYTES = 20_000, 8 << 20

_WAITING = """
    SELECT s.name, q.entry_id, CASE cardinality(q.fields) WHEN 0 THEN {alone} ELSE pg_column_size(q.fields) END
      FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream
     WHERE {condition}
     ORDER BY s.name, split_part(q.entry_id, '-', 1)::numeric, split_part(q.entry_id, '-', 2)::numeric, q.part"""
# Locks, reads and marks the entries at once, since each pass over them costs as much as their rows. Of two simultaneous
# redrives the second one waits, and then finds them redriven. The ids travel as one text, since psycopg escapes each
# element of an array.
_TAKE = fill_in("""
    UPDATE spillway.quarantine AS q
       SET outcome = 'redriven', replayed = NULL, resolved_by = %(run)s, resolved_at = now()
     WHERE q.stream = {stream_id} AND q.entry_id = ANY(string_to_array(%(entries)s, ' ')) AND q.outcome IS NULL
    RETURNING q.entry_id, q.part, q.fields""")
# The fields of an entry travel as one text in hexadecimal: escaping the text of an array takes ten times as long.
_EDITED = fill_in("""
    UPDATE spillway.quarantine AS q
       SET replayed = ARRAY(SELECT decode(part, 'hex') FROM unnest(string_to_array(one.replayed, '.')) AS part)
      FROM unnest(%(entries)s::text[], %(parts)s::int[], %(replayed)s::text[]) AS one (entry, part, replayed)
     WHERE q.stream = {stream_id} AND q.entry_id = one.entry AND q.part = one.part""")
_STILL_BAD = fill_in("""
    UPDATE spillway.quarantine AS q SET outcome = NULL, resolved_by = NULL, resolved_at = NULL,
           first_kind = coalesce(q.first_kind, q.kind), kind = one.kind, field = one.field, reason = one.reason
      FROM unnest(%(entries)s::text[], %(parts)s::int[], %(kinds)s::text[], %(fields)s::text[], %(reasons)s::text[])
           AS one (entry, part, kind, field, reason)
     WHERE q.stream = {stream_id} AND q.entry_id = one.entry AND q.part = one.part""")

# The rows that a transaction added, for the audit of `maintain`; see spillway.redrives.
_ADDED = fill_in(
    """
    INSERT INTO spillway.redrives (stream, inserted, by_table, min_time, redriven_by)
    VALUES ({stream_id}, %(inserted)s, %(by_table)s, {min_time}, %(run)s)""",
    min_time=timestamptz_sql("%(min_time)s"),
)


@dataclass(frozen=True)
class ReplayBatch:
    """Entries of one stream, replayed in one transaction. `large`: they may exceed its limit of bytes."""

    stream: str
    entries: tuple[str, ...]
    large: bool = False


@dataclass(frozen=True)
class RedriveResult:
    """What happened to the entries of a `ReplayBatch`: tried = inserted + duplicates + still_bad.

    `next_route`: the best route for the batch that follows; see `InsertResult`.
    """

    stream: str
    tried: int
    inserted: int
    duplicates: int
    still_bad: int
    next_route: InsertRoute = field(default=InsertRoute.STRAIGHT, compare=False)


def replay_batches(connection: psycopg.Connection, selection: Selection) -> list[ReplayBatch]:
    """The selected entries in batches, ordered by stream and id. Raises `psycopg.Error`."""
    condition, values = selection.condition()
    query = sql.SQL(_WAITING).format(condition=condition, alone=_MAX_BYTES)
    found: list[ReplayBatch] = []
    entries: list[str] = []
    size, of = 0, ""
    for stream, entry, nbytes in connection.execute(query, values):
        if entries and (stream != of or len(entries) == _MAX_ENTRIES or size + nbytes > _MAX_BYTES):
            found.append(ReplayBatch(of, tuple(entries), size >= _MAX_BYTES))
            entries, size = [], 0
        entries.append(entry)
        size, of = size + nbytes, stream
    if entries:
        found.append(ReplayBatch(of, tuple(entries), size >= _MAX_BYTES))
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


def _no_reader(entry: str) -> str:
    return f"entry {entry} was not read"


def replay(
    connection: psycopg.Connection, waiting: ReplayBatch, layout: RowLayout, window: TimeWindow,
    changes: Mapping[str, str], run: str, new_chunks: NewChunkLimit | None = None, read_entry: ReadEntry = _no_reader,
    route: InsertRoute = InsertRoute.STRAIGHT,
) -> RedriveResult:  # fmt: skip
    """Replay the entries of a batch that still wait, in one transaction. Raises `psycopg.Error` with nothing done.

    `read_entry`: reads an entry that was too large for the drain.

    An element of an entry that was taken apart (`each`) is replayed alone. An entry that could not be taken apart is
    replayed as a whole: all its elements become rows, or none does.
    """
    with collector_paused(), connection.transaction(), connection.cursor(binary=True) as cursor:
        key: dict[str, Any] = {"stream": waiting.stream, "entries": " ".join(waiting.entries), "run": run}
        rows = cursor.execute(_TAKE, key).fetchall()
        if not rows:
            return RedriveResult(waiting.stream, 0, 0, 0, 0, route)
        replayer = Replayer(connection, waiting.stream, window, new_chunks, route)
        rank = {entry: position for position, entry in enumerate(waiting.entries)}
        of_file = is_file_ledger(waiting.stream)
        taken = []
        for entry, part, fields in sorted(rows, key=lambda row: (rank[row[0]], row[1])):
            # Each entry of a stream has fields. One without was not read.
            found = fields if fields or of_file else read_entry(entry)
            if isinstance(found, str):
                replayer.faults[TakenEntry(entry, part, fields, fields)] = Fault(0, UNREAD.decode(), found)
            else:
                taken.append(TakenEntry(entry, part, fields, edit_fields(found, changes) if changes else found))
        if layout.mapping.each is None:
            replayer.replay(taken, layout)
        else:
            replayer.replay([one for one in taken if one.part], layout.of_elements())
            for one in taken:
                if not one.part:
                    replayer.replay_whole(one, layout)
        if rows_added := replayer.added.total():
            added = {"inserted": rows_added, "by_table": Jsonb(replayer.added) if layout.routes else None}
            connection.execute(_ADDED, key | added | {"min_time": replayer.min_time})
        _record(connection, waiting.stream, [one for one in taken if one not in replayer.faults], replayer.faults)
        return RedriveResult(
            waiting.stream, len(rows), replayer.inserted, replayer.duplicates, len(replayer.faults), replayer.route
        )


def _record(
    connection: psycopg.Connection, stream: str, good: Sequence[TakenEntry], faults: Mapping[TakenEntry, Fault]
) -> None:
    """Record what differs from the entries as they were taken: edited fields, and those that are still bad."""
    if edited := [one for one in good if not one.same]:
        texts = [".".join(value.hex() for value in one.replayed) for one in edited]
        connection.execute(_EDITED, {"stream": stream, "replayed": texts} | _keys(edited))
    if faults:
        still_bad = {
            "kinds": [kind(fault) for fault in faults.values()],
            "fields": [storable(fault.field) for fault in faults.values()],
            "reasons": [storable(fault.reason) for fault in faults.values()],
        }
        connection.execute(_STILL_BAD, {"stream": stream} | _keys(faults) | still_bad)


def _keys(taken: Iterable[TakenEntry]) -> dict[str, Any]:
    """The entries and parts as parameters of a statement, one array each."""
    keys = [(one.entry, one.part) for one in taken]
    return {"entries": [entry for entry, _ in keys], "parts": [part for _, part in keys]}


@step("select")
def select(clients: Clients, selection: Selection) -> list[ReplayBatch]:
    """`replay_batches`, as a task."""
    with clients.translate_errors("select entries of the quarantine"), clients.postgres() as connection:
        return replay_batches(connection, selection)


@step("replay")
def replay_entries(
    clients: Clients, waiting: ReplayBatch, find_layout: FindLayout, changes: Mapping[str, str], run: str,
    new_chunks: NewChunkLimit | None = None, route: InsertRoute = InsertRoute.STRAIGHT,
) -> RedriveResult:  # fmt: skip
    """`replay`, as a task. `new_chunks`: limits the chunks that it may create; None means no limit."""
    doing = f"redrive {waiting.stream} {waiting.entries[0]}..{waiting.entries[-1]}"
    with clients.translate_errors(doing), clients.postgres() as connection:
        return replay_in(connection, clients, waiting, find_layout, changes, run, new_chunks, route)


def replay_in(
    connection: psycopg.Connection, clients: Clients, waiting: ReplayBatch, find_layout: FindLayout,
    changes: Mapping[str, str], run: str, new_chunks: NewChunkLimit | None, route: InsertRoute,
) -> RedriveResult:  # fmt: skip
    """`replay`, with the layout and the entries of the stream."""
    config = clients.settings
    window = TimeWindow.around_now(config.max_age_days, config.max_ahead_days)
    layout = find_layout(connection, waiting.stream)

    def read_entry(entry: str) -> list[bytes] | str:
        return reread_entry(clients.redis, connection, waiting.stream, entry, config.max_entry_bytes)

    return replay(connection, waiting, layout, window, changes, run, new_chunks, read_entry, route)


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
