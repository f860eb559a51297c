"""Compare every entry that is still in a stream with the table: content, and not only count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress
from typing import LiteralString

import numpy as np
import psycopg

from infra.connections import Clients
from infra.mapping import Mapping
from infra.table import on_events
from tasks.columns.decode import Fault, Window
from tasks.ids import IdRange, id_text, parse_id
from tasks.maintain.gone import dropped
from tasks.plan import look_at_drained
from tasks.proof import stream_away
from tasks.read import Batch, Limits, Reader
from tasks.reconcile import Finding
from tasks.stage import COLUMN_LIST, IN_SPAN, STAGE, Span, Stage
from tasks.step import step
from tasks.stream import Tail

_EVERY_TIME = Window(-(2**62), 2**62)  # what is too old or too new for a drain today may have been loaded before

# Places of the staged rows that the table does not have just as they are.
_DIFFERENT: LiteralString = """
    SELECT s.place, (extract(epoch FROM min(s.time)) * 1000000)::bigint AS time_us, count(e.event_id) AS found,
           min(CASE WHEN s.event_type <> e.event_type THEN 'event_type' WHEN s.user_id <> e.user_id THEN 'user_id'
                    WHEN s.properties IS DISTINCT FROM e.properties THEN 'properties' END) AS differs
      FROM {stage} AS s
      LEFT JOIN {events} AS e ON e.event_id = s.event_id AND e.time = s.time
           AND e.time >= 'epoch'::timestamptz + %(first)s * interval '1 microsecond'
           AND e.time <= 'epoch'::timestamptz + %(last)s * interval '1 microsecond'
     WHERE {span}
     GROUP BY s.place
    HAVING count(e.event_id) <> 1
        OR bool_or(s.event_type <> e.event_type OR s.user_id <> e.user_id OR s.properties IS DISTINCT FROM e.properties)
    """
_PUT_BACK: LiteralString = """
    INSERT INTO {events} ({c}) SELECT {c} FROM {stage} WHERE {span}
        ORDER BY time, event_id, place ON CONFLICT DO NOTHING"""
# Entries whose absence from the table is on record. One that was redriven as it came must be in the table.
_ON_RECORD = """
    SELECT entry_id, kind FROM spillway.quarantine
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s) AND entry_id = ANY(%s)
       AND (outcome IS DISTINCT FROM 'redriven' OR replayed IS NOT NULL)"""
_DRAINED = """
    SELECT lower(part)::text, upper(part)::text
      FROM (SELECT unnest(range_agg(ids) * nummultirange(numrange(%s, %s))) AS part FROM spillway.ledger
             WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)) AS parts ORDER BY part"""

_SHOWN = 20  # ids of one kind that a report names; the rest is counted


@dataclass
class Comparison:
    """What was compared, up to now: `wrong` by what is wrong, as (entry id, detail), the first few, and how many.

    `dropped`: entries that are not in the table because retention dropped their chunks.
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
    rows = connection.execute(_DRAINED, [start, stop, stream]).fetchall()
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
    suspects: dict[int, _Suspect] = {}  # by entry
    with connection.transaction():
        stage = Stage(connection, batch)

        different = on_events(_DIFFERENT, stage=STAGE, span=IN_SPAN)

        def look(span: Span) -> None:
            values = {"first": batch.min_time, "last": batch.max_time, **span.parameters}
            for place, time_us, found, differs in connection.execute(different, values).fetchall():
                what = "missing" if not found else "different" if differs else "doubled"
                detail = {"missing": "no row has its key", "different": f"its row has another {differs}"}.get(
                    what, f"{found} rows have its key"
                )
                row = stage.row(place)
                suspects[int(batch.row_entry[row])] = _Suspect(what, detail, row, time_us)

        stage.run(0, len(batch.rows), look)
        for fault in (*batch.faults, *stage.refused.values()):
            suspects[fault.entry] = _Suspect("unreadable", _told(fault))
        for row, entry in batch.repeats:
            if (first := suspects.get(int(batch.row_entry[row]))) is not None:
                suspects[entry] = first
        wrong = _not_on_record(connection, batch, suspects)
        gone = _dropped(connection, batch, wrong)
        wrong = {entry: suspect for entry, suspect in wrong.items() if entry not in gone}
        missing = {suspect.row for suspect in wrong.values() if suspect.what == "missing" and suspect.row is not None}
        if repair and missing:
            _put_back(connection, batch, sorted(missing))
    so_far.compared += batch.read
    so_far.dropped += len(gone)
    for entry, suspect in wrong.items():
        if repair and suspect.what == "missing":
            so_far.repaired += 1
        else:
            so_far.note(suspect.what, parse_id(batch.raw(entry)[0]), suspect.detail)


def _told(fault: Fault) -> str:
    return f"{fault.field}: {fault.reason}"


def _not_on_record(connection: psycopg.Connection, batch: Batch, suspects: dict[int, _Suspect]) -> dict[int, _Suspect]:
    """The suspects of whose absence the quarantine does not tell."""
    if not suspects:
        return {}
    ids = {batch.raw(entry)[0]: entry for entry in suspects}
    kept = {ids[entry] for entry, _ in connection.execute(_ON_RECORD, [batch.stream, list(ids)])}
    return {entry: suspect for entry, suspect in suspects.items() if entry not in kept or suspect.what == "doubled"}


def _dropped(connection: psycopg.Connection, batch: Batch, suspects: dict[int, _Suspect]) -> set[int]:
    """Those of the missing that went with their chunks."""
    missing = {entry: s.time_us for entry, s in suspects.items() if s.what == "missing" and s.time_us is not None}
    ids = [batch.raw(entry)[0] for entry in missing]
    gone = dropped(connection, batch.stream, batch.ids, [(parse_id(i), i) for i in ids], list(missing.values()))
    return set(compress(missing, gone))


def _put_back(connection: psycopg.Connection, batch: Batch, rows: list[int]) -> None:
    """Insert the rows that are missing, in order, runs of neighbours at a time."""

    put_back = on_events(_PUT_BACK, c=COLUMN_LIST, stage=STAGE, span=IN_SPAN)

    def put(span: Span) -> None:
        connection.execute(put_back, span.parameters)

    stage = Stage(connection, batch)
    missing = np.array(rows, np.int64)
    for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
        stage.run(int(run[0]), int(run[-1]) + 1, put)


def reader(clients: Clients, ranges: list[IdRange], stream: str, mapping: Mapping | None) -> Reader:
    """Reads the drained ranges again, in the batches of a drain. Raises `SpillwayError`; see `drained_tail`."""
    limits = Limits(clients.settings.batch_rows, clients.settings.batch_bytes)
    tail = drained_tail(clients, stream)
    return Reader(clients.redis, stream, ranges, tail, limits, mapping, _EVERY_TIME)


@step("compare")
def compare_batch(clients: Clients, batch: Batch, so_far: Comparison, repair: bool) -> None:
    """`compare`, as a task."""
    with clients.explained(f"compare {batch.stream} {batch.ids}"), clients.postgres() as connection:
        compare(connection, batch, so_far, repair)


@step("drained ranges")
def drained_ranges(clients: Clients, stream: str, start: int, stop: int) -> list[IdRange]:
    """`drained`, as a task."""
    with clients.explained(f"reconcile {stream}"), clients.postgres() as connection:
        return drained(connection, stream, start, stop)


@step("look at the stream")
def drained_tail(clients: Clients, stream: str) -> Tail:
    """The tail of a stream that was drained. Raises `StreamAway` if it is not there, or is another one, right now."""
    with clients.explained(f"reconcile {stream}"), clients.postgres() as connection:
        tail, reason = look_at_drained(clients.redis, connection, stream)
        if tail is None or reason:
            raise stream_away(stream, "reconcile", reason or "it was never drained")
        return tail
