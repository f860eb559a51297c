"""Compare the entries that a stream still holds with the table, by content and not only by count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.tables.statements import micros_of
from infra.tables.table import Table
from tasks.base.addresses import IdRange, parse_id
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import EVERY_TIME, Fault
from tasks.columns.routing import TableRows
from tasks.columns.row_layout import RowLayout
from tasks.ledger.plan import check_stream
from tasks.maintain.dropped_rows import dropped_rows
from tasks.reconcile.comparison import (
    Comparison,
    Suspect,
    judge,
    missing_rows,
    suspect_row,
    unexplained,
    with_repeats,
)
from tasks.streams.pages import stream_away
from tasks.streams.reader import Reader
from tasks.streams.tail import Tail
from tasks.table.isolate import insert_each
from tasks.table.row_columns import RowColumns
from tasks.table.stage import STAGING_TABLE, RejectedRow, StagingTable
from tasks.table.time_slices import TimeSlice
from tasks.table.triggers import dry_run, has_row_triggers

# The staged rows, by number, that the table does not have exactly once and as they are. An inner join, since not every
# TimescaleDB leaves out the chunks before and after the span of times for the inner side of an outer join.
_DIFFERENT: LiteralString = """
    WITH present AS (
             SELECT s.number, count(*) AS found, min({difference}) AS differs
               FROM {stage} AS s JOIN {table} AS e ON {same_key}
              WHERE %(numbers)s::bigint[] IS NULL OR s.number = ANY(%(numbers)s::bigint[])
              GROUP BY s.number)
    SELECT number, coalesce(found, 0), differs FROM {stage} LEFT JOIN present USING (number)
     WHERE (%(numbers)s::bigint[] IS NULL OR number = ANY(%(numbers)s::bigint[]))
       AND (found IS DISTINCT FROM 1 OR differs IS NOT NULL)"""
# Without a key: the staged rows of which the table has fewer with the same values. A row that several batches have is
# only compared within each of them.
_FEWER: LiteralString = """
    WITH present AS (
             SELECT ROW({theirs})::text AS content, count(*) AS found FROM {table} AS e WHERE {within} GROUP BY 1),
         staged AS (SELECT number, ROW({mine})::text AS content FROM {stage} AS s
              WHERE %(numbers)s::bigint[] IS NULL OR number = ANY(%(numbers)s::bigint[])),
         counted AS (
             SELECT number, content, row_number() OVER (PARTITION BY content ORDER BY number) AS nth FROM staged)
    SELECT number, 0, NULL::text FROM counted LEFT JOIN present USING (content) WHERE coalesce(found, 0) < nth"""
_STAGED: LiteralString = "SELECT number, {} FROM {}"
# Entries whose absence from the table is on record. An entry that was redriven unchanged must be in the table.
_ON_RECORD = fill_in("""
    SELECT entry_id, part FROM spillway.quarantine
     WHERE stream = {stream_id} AND entry_id = ANY(%(entries)s)
       AND (outcome IS DISTINCT FROM 'redriven' OR replayed IS NOT NULL)""")
_DRAINED = fill_in("""
    SELECT lower(part)::text, upper(part)::text
      FROM (SELECT unnest(range_agg(ids) * nummultirange(numrange(%(start)s, %(stop)s))) AS part FROM spillway.ledger
             WHERE stream = {stream_id}) AS parts ORDER BY part""")


def drained(connection: psycopg.Connection, stream: str, start: int, stop: int) -> list[IdRange]:
    """The parts of the ids from `start` to before `stop` that the ledger has, in order."""
    rows = connection.execute(_DRAINED, {"stream": stream, "start": start, "stop": stop}).fetchall()
    return [IdRange(int(a), int(b)) for a, b in rows]


def compare(connection: psycopg.Connection, batch: Batch, repair: bool) -> Comparison:
    """Compare one batch with the table, in a transaction of its own. With `repair`, missing rows are put back.

    Rows that retention dropped are not missing. Raises `psycopg.Error`; the table is unchanged then.
    """
    with connection.transaction():
        unreadable = {fault.entry: Suspect("unreadable", _reason(fault)) for fault in batch.encoded.faults}
        unreadable = unexplained(unreadable, _on_record(connection, batch, unreadable))
        parts = [judge(0, 0, unreadable, _entry_ids(batch, unreadable), None)]
        parts += [_compare_table(connection, batch, rows, repair) for rows in batch.tables]
    return Comparison(
        batch.count,
        sum(part.repaired for part in parts),
        sum(part.dropped for part in parts),
        tuple(one for part in parts for one in part.discrepancies),
    )


def _compare_table(connection: psycopg.Connection, batch: Batch, rows: TableRows, repair: bool) -> Comparison:
    """Compare the rows of a batch that go to one table."""
    stage = StagingTable(connection, rows)
    stage.fill(0, len(rows.encoded.rows))
    suspects = _suspect_rows(connection, rows, stage)
    suspects |= {fault.entry: Suspect("unreadable", _reason(fault)) for fault in stage.rejected.values()}
    entries_of_rows = ((int(rows.encoded.row_entry[row]), entry) for row, entry in rows.encoded.repeats)
    suspects = with_repeats(suspects, entries_of_rows)
    suspects = unexplained(suspects, _on_record(connection, batch, suspects))
    dropped = _dropped(connection, batch, rows.layout.table, suspects)
    suspects = {entry: one for entry, one in suspects.items() if entry not in dropped}
    refused = _put_back(connection, stage, missing_rows(suspects)) if repair else None
    return judge(0, len(dropped), suspects, _entry_ids(batch, suspects), refused)


def _suspect_rows(connection: psycopg.Connection, rows: TableRows, stage: StagingTable) -> dict[int, Suspect]:
    """By entry, the staged rows that the table does not have exactly once and as they are.

    A trigger may have changed a row when it was inserted, so the row that the triggers make of it now is compared.
    """
    if not len(stage):
        return {}
    columns = stage.columns
    times = _staged_times(connection, columns)
    made = dry_run(connection, columns, list(times)) if has_row_triggers(connection, columns.table) else None
    if made is None:
        found = _differing(connection, stage, TimeSlice(rows.encoded.min_time, rows.encoded.max_time))
    else:
        pairs = [(n, made.present.get(n, 0), made.different.get(n)) for n in times]
        found = [(n, count, column) for n, count, column in pairs if count != 1 or column]
    by = "key" if columns.key else "values"
    return {
        stage.entry(number): suspect_row(stage.row(number), times[number], count, column, by)
        for number, count, column in found
    }


def _differing(connection: psycopg.Connection, stage: StagingTable, staged: TimeSlice) -> list[tuple[Any, ...]]:
    """Number, how many rows of the table have the key, and the column that differs, for staged rows that are not in the
    table exactly once and as they are."""
    query, found = (_different if stage.columns.key else _fewer)(stage.columns), list[tuple[Any, ...]]()
    for part in stage.time_slices(staged):
        with connection.transaction(force_rollback=True):  # releases the locks
            found += connection.execute(query, part.span | {"numbers": part.numbers}).fetchall()
    return found


def _different(columns: RowColumns) -> sql.Composed:
    return sql.SQL(_DIFFERENT).format(
        stage=STAGING_TABLE,
        table=columns.table.parameter_safe,
        difference=columns.first_difference("s", "e"),
        same_key=columns.same_key(),
    )


def _fewer(columns: RowColumns) -> sql.Composed:
    return sql.SQL(_FEWER).format(
        stage=STAGING_TABLE,
        table=columns.table.parameter_safe,
        theirs=columns.contents("e", staged=False),
        mine=columns.contents("s"),
        within=columns.within_span("e"),
    )


def _staged_times(connection: psycopg.Connection, columns: RowColumns) -> dict[int, int | None]:
    """The time of each staged row by its number, in microseconds since 1970; None if the table has no time."""
    staged = columns.numbered.get(columns.table.time or "")
    time = micros_of(sql.Identifier(staged)) if staged else sql.SQL("NULL::bigint")
    return dict(connection.execute(sql.SQL(_STAGED).format(time, STAGING_TABLE)).fetchall())


def _reason(fault: Fault) -> str:
    """Why an entry does not become a row. The server's own message is left out: it may quote the entry."""
    if isinstance(fault, RejectedRow):
        return f"the server refuses it{f', column {fault.field}' if fault.field else ''} [{fault.state}]"
    return f"{fault.field}: {fault.reason}"


def _entry_ids(batch: Batch, entries: Iterable[int]) -> dict[int, int]:
    return {entry: parse_id(batch.raw(entry)[0]) for entry in entries}


def _on_record(connection: psycopg.Connection, batch: Batch, suspects: Mapping[int, Suspect]) -> set[int]:
    """The suspects that the quarantine has."""
    if not suspects:
        return set()
    entries = {(batch.raw(entry)[0], batch.part_number(entry)): entry for entry in suspects}
    ids = sorted({entry_id for entry_id, _ in entries})
    records = connection.execute(_ON_RECORD, {"stream": batch.stream, "entries": ids}).fetchall()
    return {entries[record] for record in records if record in entries}


def _dropped(connection: psycopg.Connection, batch: Batch, table: Table, suspects: Mapping[int, Suspect]) -> set[int]:
    """The missing entries whose rows went with a chunk that retention dropped."""
    missing = {e: one.time_us for e, one in suspects.items() if one.kind == "missing" and one.time_us is not None}
    ids = [batch.raw(entry)[0] for entry in missing]
    entries = [(parse_id(i), i) for i in ids]
    dropped = dropped_rows(connection, table, batch.stream, batch.ids, entries, list(missing.values()))
    return set(compress(missing, dropped))


def _put_back(connection: psycopg.Connection, stage: StagingTable, rows: list[int]) -> dict[int, str]:
    """Insert the missing rows. Returns by row why it could not be inserted."""
    if not rows:
        return {}
    done = insert_each(connection, stage, stage.numbers(rows))
    skipped = {stage.row(number): "a trigger on the table skips its row" for number in done.not_inserted}
    return skipped | {stage.row(number): _reason(fault) for number, fault in done.rejected.items()}


def reader(clients: Clients, ranges: list[IdRange], stream: str, layout: RowLayout) -> Reader:
    """A reader of drained ranges, in batches of a drain's size. Raises `SpillwayError`, see `drained_tail`."""
    limits = BatchLimits(clients.settings.batch_rows, clients.settings.batch_bytes)
    tail = drained_tail(clients, stream)
    return Reader(clients.redis, stream, ranges, tail, limits, layout, EVERY_TIME, replica=clients.replica)


@step("compare")
def compare_batch(clients: Clients, batch: Batch, repair: bool) -> Comparison:
    """`compare`, as a task."""
    with clients.translate_errors(f"compare {batch.stream} {batch.ids}"), clients.postgres() as connection:
        return compare(connection, batch, repair)


@step("drained ranges")
def drained_ranges(clients: Clients, stream: str, start: int, stop: int) -> list[IdRange]:
    """`drained`, as a task."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        return drained(connection, stream, start, stop)


@step("read the tail")
def drained_tail(clients: Clients, stream: str) -> Tail:
    """The tail of a drained stream. Raises `StreamAway` if the stream is missing or is another one at the moment."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        found = check_stream(clients.redis, connection, stream)
        if found.tail is None or found.reason:
            raise stream_away(stream, "reconcile", str(found.reason))
        return found.tail
