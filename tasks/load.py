"""Load one batch: its ledger row, its events and its quarantine in one transaction, or none of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from infra.connections import Clients
from infra.errors import AlreadyDrained, Terminal
from tasks.columns.decode import Fault
from tasks.columns.encode import COLUMNS, HEADER, TRAILER, payload
from tasks.quarantine import keep
from tasks.read import Batch
from tasks.step import step

_COLUMN_LIST = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)")
_COPY_EVENTS = _COPY.format(table=sql.Identifier("events"), columns=_COLUMN_LIST)
_STAGE = sql.Identifier("pg_temp", "spillway_stage")
_COPY_STAGE = _COPY.format(table=_STAGE, columns=_COLUMN_LIST)
# Made once a session: what a session makes and drops again bloats the catalog.
_MAKE_STAGE = "CREATE TEMP TABLE IF NOT EXISTS spillway_stage (LIKE events) ON COMMIT DELETE ROWS"
_MERGE = sql.SQL("INSERT INTO events ({c}) SELECT {c} FROM {stage} ORDER BY time ON CONFLICT DO NOTHING").format(
    c=_COLUMN_LIST, stage=_STAGE
)
# After the merge, so that a row which another transaction has put in meanwhile is seen as well. The span of times, as
# constants, keeps it from looking into every chunk there is.
_COUNT_PRESENT = sql.SQL(
    "SELECT count(*) FROM {stage} JOIN events USING (event_id, time)"
    " WHERE events.time >= 'epoch'::timestamptz + %s * interval '1 microsecond'"
    "   AND events.time <= 'epoch'::timestamptz + %s * interval '1 microsecond'"
).format(stage=_STAGE)

_INSERT_LEDGER = """
    INSERT INTO spillway.ledger (stream, ids, loaded_by)
    SELECT id, numrange(%(start)s, %(stop)s), %(run)s FROM spillway.streams WHERE name = %(stream)s"""
_FILL_LEDGER = """
    UPDATE spillway.ledger
       SET read = %(read)s, inserted = %(inserted)s, duplicates = %(duplicates)s, quarantined = %(quarantined)s,
           bytes = %(bytes)s,
           min_time = 'epoch'::timestamptz + %(min_time)s * interval '1 microsecond',
           max_time = 'epoch'::timestamptz + %(max_time)s * interval '1 microsecond'
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %(stream)s)
       AND ids = numrange(%(start)s, %(stop)s)"""
_FIND_LEDGER = """
    SELECT inserted, duplicates, quarantined FROM spillway.ledger
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %(stream)s)
       AND ids = numrange(%(start)s, %(stop)s) AND loaded_by = %(run)s"""

_LINE = re.compile(r"COPY \S+, line (\d+)(?:, column (\w+))?")


@dataclass(frozen=True)
class Loaded:
    """What became of the entries of one range: read = inserted + duplicates + quarantined."""

    read: int
    inserted: int
    duplicates: int
    quarantined: int
    bytes: int


@dataclass
class Path:
    """Which way the next batch of a stream goes: straight into `events`, or through a temporary table.

    Straight is faster, and thrown away as a whole at the first key that is there already: so the way that the
    last batch needed is the way for the next one.
    """

    merge: bool = False


@dataclass
class _Outcome:
    """Of the rows of a batch: each is counted where it happens, so that the ledger's CHECK is one that can fail."""

    inserted: int = 0
    duplicates: int = 0
    refused: list[Fault] = field(default_factory=list)


def load_batch(connection: psycopg.Connection, batch: Batch, run: str, path: Path) -> Loaded:
    """Commit `batch` for the run `run`, whole.

    Raises `AlreadyDrained` where the ledger has any of its ids, unless this very run committed this very range
    (the answer to its commit was lost): then what it did is returned. Raises `psycopg.Error` with nothing done.
    """
    key = {"stream": batch.stream, "start": batch.ids.start, "stop": batch.ids.stop, "run": run}
    try:
        with connection.transaction():
            # First, so that of two who load the same range the second waits here, before it has done the work.
            if connection.execute(_INSERT_LEDGER, key).rowcount != 1:
                raise Terminal(f"stream {batch.stream} is not in spillway.streams any more; drain it again")
            outcome = _load_rows(connection, batch, path)
            keep(connection, batch, outcome.refused)
            quarantined = len(batch.faults) + len(outcome.refused)
            loaded = Loaded(
                batch.read,
                outcome.inserted,
                batch.repeated + outcome.duplicates,
                quarantined,
                batch.bytes,
            )
            counts = {name: getattr(loaded, name) for name in Loaded.__dataclass_fields__}
            connection.execute(_FILL_LEDGER, key | counts | {"min_time": batch.min_time, "max_time": batch.max_time})
            return loaded
    except psycopg.errors.ExclusionViolation:
        row = connection.execute(_FIND_LEDGER, key).fetchone()
        if row is None:
            raise AlreadyDrained(f"{batch.stream} {batch.ids}: drained by another run") from None
        inserted, duplicates, quarantined = row
        return Loaded(batch.read, inserted, duplicates, quarantined, batch.bytes)


def _load_rows(connection: psycopg.Connection, batch: Batch, path: Path) -> _Outcome:
    if not len(batch.rows):
        return _Outcome()
    if not path.merge:
        try:
            with connection.transaction():
                return _Outcome(_copy(connection, _COPY_EVENTS, batch.rows))
        except (psycopg.errors.UniqueViolation, psycopg.DataError, psycopg.OperationalError) as error:
            if not (isinstance(error, psycopg.errors.UniqueViolation) or _blames_a_value(error)):
                raise
    connection.execute(_MAKE_STAGE)
    outcome = _Outcome()
    _merge(connection, batch, 0, len(batch.rows), outcome)
    path.merge = outcome.duplicates > 0
    return outcome


def _copy(connection: psycopg.Connection, statement: sql.Composed, rows: Any) -> int:
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(HEADER)
            copy.write(payload(rows))
            copy.write(TRAILER)
        return cursor.rowcount


def _blames_a_value(error: psycopg.Error) -> bool:
    """Whether the server refused a value, so that the other rows may go in.

    Class 22 is data exception, 54 program limit exceeded (nesting too deep, an index row too large),
    23502 not null. https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    state = error.sqlstate or ""
    return state[:2] in ("22", "54") or state == "23502"


def _merge(connection: psycopg.Connection, batch: Batch, start: int, stop: int, outcome: _Outcome) -> None:
    """Merge the rows from `start` to before `stop`; those that the server refuses are set apart with its reason."""
    spans = [(start, stop)]
    while spans:
        start, stop = spans.pop()
        if start == stop:
            continue
        try:
            with connection.transaction():
                _copy(connection, _COPY_STAGE, batch.rows[start:stop])
                inserted, duplicates = _merge_stage(connection, batch)
            outcome.inserted += inserted
            outcome.duplicates += duplicates
        except psycopg.Error as error:
            if not _blames_a_value(error):
                raise
            at = _LINE.search(error.diag.context or "")
            if stop - start == 1:
                reason = f"{error.diag.message_primary}" + (f": {d}" if (d := error.diag.message_detail) else "")
                column = (at and at[2]) or error.diag.column_name or ""
                outcome.refused.append(Fault(int(batch.row_entry[start]), column, f"{reason} [{error.sqlstate}]"))
                continue
            # COPY tells the row; an index that refuses it later does not, and is asked by halves. Last in, first out:
            # rows stay in order, so that of two with the same key the earlier one is the one that stays.
            middle = start + int(at[1]) - 1 if at and start < start + int(at[1]) <= stop else (start + stop) // 2
            if at:
                spans += [(middle + 1, stop), (middle, middle + 1), (start, middle)]
            else:
                spans += [(middle, stop), (start, middle)]


def _merge_stage(connection: psycopg.Connection, batch: Batch) -> tuple[int, int]:
    """Move the temporary table into `events`; returns how many rows went in, and how many were there already."""
    inserted = connection.execute(_MERGE).rowcount
    # Seen in the table, not concluded from what did not go in: a row that is neither would be a lost one.
    row = connection.execute(_COUNT_PRESENT, [batch.min_time, batch.max_time]).fetchone()
    assert row is not None  # an aggregate has one row
    connection.execute(sql.SQL("TRUNCATE {}").format(_STAGE))
    return inserted, row[0] - inserted


@step("load")
def load(clients: Clients, batch: Batch, run: str, path: Path) -> Loaded | None:
    """`load_batch`, as a task; None where another run has drained a part of the range, which is no failure."""
    with clients.explained(f"load {batch.stream} {batch.ids}"), clients.postgres() as connection:
        try:
            return load_batch(connection, batch, run, path)
        except AlreadyDrained:
            return None
