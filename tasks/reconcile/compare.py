"""Compare every entry that is still in a stream with the table: content, and not only count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.epoch import micros_sql
from infra.mapping import Mapping
from infra.table import on_events
from tasks.base.addresses import IdRange, id_text, parse_id
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch
from tasks.columns.decode import Fault, TimeWindow
from tasks.ledger.plan import check_stream
from tasks.maintain.dropped_rows import dropped_rows
from tasks.reconcile.balance import Finding
from tasks.streams.pages import stream_away
from tasks.streams.reader import BatchLimits, Reader
from tasks.streams.tail import Tail
from tasks.table.isolate import insert_each
from tasks.table.stage import SAME_KEY, STAGING_TABLE, RejectedRow, StagingTable
from tasks.table.triggers import dry_run, has_row_triggers

EVERY_TIME = TimeWindow(-(2**62), 2**62)  # what is too old or too new for a drain today may have been loaded before

# Numbers of the staged rows that the table does not have just as they are.
_DIFFERENT: LiteralString = """
    SELECT s.number, count(e.event_id) AS found,
           min(CASE WHEN s.event_type <> e.event_type THEN 'event_type' WHEN s.user_id <> e.user_id THEN 'user_id'
                    WHEN s.properties IS DISTINCT FROM e.properties THEN 'properties' {own} END) AS differs
      FROM {stage} AS s
      LEFT JOIN {events} AS e ON {same_key}
     GROUP BY s.number
    HAVING count(e.event_id) <> 1
        OR bool_or(s.event_type <> e.event_type OR s.user_id <> e.user_id OR s.properties IS DISTINCT FROM e.properties
                   OR CASE WHEN false THEN NULL {own} END IS NOT NULL)
    """
_STAGED = sql.SQL("SELECT number, {} FROM {}").format(sql.SQL(micros_sql("time")), STAGING_TABLE)
# Entries whose absence from the table is on record. One that was redriven as it came must be in the table.
_ON_RECORD = fill_in("""
    SELECT entry_id, kind FROM spillway.quarantine
     WHERE stream = {stream_id} AND entry_id = ANY(%(entries)s)
       AND (outcome IS DISTINCT FROM 'redriven' OR replayed IS NOT NULL)""")
_DRAINED = fill_in("""
    SELECT lower(part)::text, upper(part)::text
      FROM (SELECT unnest(range_agg(ids) * nummultirange(numrange(%(start)s, %(stop)s))) AS part FROM spillway.ledger
             WHERE stream = {stream_id}) AS parts ORDER BY part""")

_SHOWN = 20  # ids of one kind that a report names; the rest is counted


@dataclass
class Comparison:
    """What was compared, up to now: `wrong` by what is wrong, as (entry id, detail), the first few, and how many.

    `dropped_rows`: entries that are not in the table because retention dropped their chunks.
    """

    compared: int = 0
    repaired: int = 0
    dropped: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def note(self, what: str, entry: int, detail: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        shown = self.wrong.setdefault(what, [])
        if len(shown) < _SHOWN:
            shown.append((entry, detail))

    def findings(self, stream: str) -> Iterator[Finding]:
        """One for each kind of wrong."""
        for what, number in self.counts.items():
            shown = sorted(self.wrong[what])
            ids = ", ".join(id_text(entry) for entry, _ in shown) + (" …" if number > len(shown) else "")
            yield Finding(stream, what, ids, number, shown[0][1], _repair(what, stream, shown))


def _repair(what: str, stream: str, shown: list[tuple[int, str]]) -> str:
    span = f"--from {id_text(shown[0][0])} --to {id_text(shown[-1][0])}" if len(shown) < _SHOWN else ""
    deep = " ".join(f"spillway reconcile --stream {stream} --deep {span} --repair".split())
    return {
        "missing": deep,
        "different": f"where the stream is right, delete the row from events, then {deep}",
        "doubled": "delete all but one of the rows (ctid tells them apart), then REINDEX TABLE events",
    }.get(what, f"mend the mapping of {stream} (spillway.toml); it read the entry when it was drained")


def drained(connection: psycopg.Connection, stream: str, start: int, stop: int) -> list[IdRange]:
    """The parts of the ids from `start` to before `stop` that the ledger has, in order."""
    rows = connection.execute(_DRAINED, {"stream": stream, "start": start, "stop": stop}).fetchall()
    return [IdRange(int(a), int(b)) for a, b in rows]


@dataclass(frozen=True)
class _Suspect:
    """What seems wrong with an entry. `row`: its row in the batch; `time_us`: of its event, since 1970."""

    what: str
    detail: str
    row: int | None = None
    time_us: int | None = None


def compare(connection: psycopg.Connection, batch: Batch, so_far: Comparison, repair: bool) -> None:
    """Compare one batch with the table, in a transaction of its own. With `repair`, missing rows are put in.

    What retention dropped is not missing. Raises `psycopg.Error`, with `so_far` as it was.
    """
    with connection.transaction():
        stage = StagingTable(connection, batch)
        stage.fill(0, len(batch.rows))
        suspects = _suspects(connection, batch, stage)
        for fault in (*batch.faults, *stage.refused.values()):
            suspects[fault.entry] = _Suspect("unreadable", _told(fault))
        for row, entry in batch.repeats:
            if (first := suspects.get(int(batch.row_entry[row]))) is not None:
                suspects[entry] = first
        wrong = _not_on_record(connection, batch, suspects)
        gone = _dropped(connection, batch, wrong)
        wrong = {entry: suspect for entry, suspect in wrong.items() if entry not in gone}
        missing = {suspect.row for suspect in wrong.values() if suspect.what == "missing" and suspect.row is not None}
        refused = _put_back(connection, stage, sorted(missing)) if repair and missing else {}
    so_far.compared += batch.read
    so_far.dropped += len(gone)
    for entry, suspect in wrong.items():
        if repair and suspect.what == "missing" and suspect.row not in refused:
            so_far.repaired += 1
        else:
            detail = refused.get(suspect.row, suspect.detail) if suspect.row is not None else suspect.detail
            so_far.note(suspect.what, parse_id(batch.raw(entry)[0]), detail)


def _suspects(connection: psycopg.Connection, batch: Batch, stage: StagingTable) -> dict[int, _Suspect]:
    """By entry, what seems wrong with the staged rows. Triggers of the user's may have changed a row before it went in:
    so what they make of it today is compared."""
    if not len(stage):
        return {}
    times: dict[int, int] = dict(connection.execute(_STAGED).fetchall())
    made = dry_run(connection, stage.columns, list(times)) if has_row_triggers(connection) else None
    if made is None:
        values = {"first": batch.min_time, "last": batch.max_time}
        own = stage.columns.own_differs("s", "e")
        found = connection.execute(
            on_events(_DIFFERENT, stage=STAGING_TABLE, own=own, same_key=SAME_KEY), values
        ).fetchall()
    else:
        found = [(n, made.present.get(n, 0), made.different.get(n)) for n in times]
        found = [(n, count, differs) for n, count, differs in found if count != 1 or differs]
    suspects = {}
    for number, count, differs in found:
        what = "missing" if not count else "different" if differs else "doubled"
        detail = {"missing": "no row has its key", "different": f"its row has another {differs}"}.get(
            what, f"{count} rows have its key"
        )
        suspects[stage.entry(number)] = _Suspect(what, detail, stage.row(number), times[number])
    return suspects


def _told(fault: Fault) -> str:
    """Why an entry is no row. The server's words may quote it, so they are not shown."""
    if isinstance(fault, RejectedRow):
        return f"the server refuses it{f', column {fault.field}' if fault.field else ''} [{fault.state}]"
    return f"{fault.field}: {fault.reason}"


def _not_on_record(connection: psycopg.Connection, batch: Batch, suspects: dict[int, _Suspect]) -> dict[int, _Suspect]:
    """The suspects of whose absence the quarantine does not tell."""
    if not suspects:
        return {}
    ids = {batch.raw(entry)[0]: entry for entry in suspects}
    kept = {ids[entry] for entry, _ in connection.execute(_ON_RECORD, {"stream": batch.stream, "entries": list(ids)})}
    return {entry: suspect for entry, suspect in suspects.items() if entry not in kept or suspect.what == "doubled"}


def _dropped(connection: psycopg.Connection, batch: Batch, suspects: dict[int, _Suspect]) -> set[int]:
    """Those of the missing that went with their chunks."""
    missing = {entry: s.time_us for entry, s in suspects.items() if s.what == "missing" and s.time_us is not None}
    ids = [batch.raw(entry)[0] for entry in missing]
    gone = dropped_rows(connection, batch.stream, batch.ids, [(parse_id(i), i) for i in ids], list(missing.values()))
    return set(compress(missing, gone))


def _put_back(connection: psycopg.Connection, stage: StagingTable, rows: list[int]) -> dict[int, str]:
    """Insert the rows that are missing. Returns why one did not go in, by row."""
    done = insert_each(connection, stage, stage.numbers(rows))
    left = {stage.row(number): "a trigger on events skips its row" for number in done.left}
    return left | {stage.row(number): _told(fault) for number, fault in done.refused.items()}


def reader(clients: Clients, ranges: list[IdRange], stream: str, mapping: Mapping | None) -> Reader:
    """Reads the drained ranges again, in the batches of a drain. Raises `SpillwayError`; see `drained_tail`."""
    limits = BatchLimits(clients.settings.batch_rows, clients.settings.batch_bytes)
    tail = drained_tail(clients, stream)
    return Reader(clients.redis, stream, ranges, tail, limits, mapping, EVERY_TIME)


@step("compare")
def compare_batch(clients: Clients, batch: Batch, so_far: Comparison, repair: bool) -> None:
    """`compare`, as a task."""
    with clients.translate_errors(f"compare {batch.stream} {batch.ids}"), clients.postgres() as connection:
        compare(connection, batch, so_far, repair)


@step("drained ranges")
def drained_ranges(clients: Clients, stream: str, start: int, stop: int) -> list[IdRange]:
    """`drained`, as a task."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        return drained(connection, stream, start, stop)


@step("look at the stream")
def drained_tail(clients: Clients, stream: str) -> Tail:
    """The tail of a stream that was drained. Raises `StreamAway` if it is not there, or is another one, right now."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        found = check_stream(clients.redis, connection, stream)
        if found.tail is None or found.reason:
            raise stream_away(stream, "reconcile", str(found.reason))
        return found.tail
