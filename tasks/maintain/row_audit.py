"""Is every row that the ledger counts as inserted in the table, apart from those that retention dropped?

For any time T: a ledger range whose first event is not before T inserted only rows from T on. So the rows from T on,
plus those of dropped chunks that reached beyond T, are at least the rows inserted by all such ranges. The two numbers
are equal if no range spans T, only drains write to the table, and nothing was redriven. If every drop was counted, the
same holds for all rows together, whatever the ranges. The rows that redrives added are reported, but not expected: the
row of a conflict may stand in for one that somebody has deleted for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import LiteralString

import psycopg

from infra.tables.read_table import is_default
from infra.tables.table import Table
from tasks.maintain.audited_chunks import EARLIEST, audited_chunks, may_be_dropped_until
from tasks.maintain.chunk_states import count_rows
from tasks.maintain.drops import DropRecords, read_drops, sums_from
from tasks.table.chunks import Chunk, count

_COUNT_SECONDS = 120.0  # for all chunks together; the rows of further chunks are estimated
# The ledger's ranges with rows of a table. A stream that has no table yet goes to `events`; with a route, each range
# says to which tables its rows went.
OF_TABLE = """
    CASE WHEN by_table IS NOT NULL THEN by_table ? %(table)s
         ELSE stream IN (SELECT id FROM spillway.streams
                          WHERE "table" = %(table)s OR ("table" IS NULL AND %(is_events)s)) END"""
# The rows inserted by ledger ranges, or by redrives, by how many of the given times are not after their first event.
_INSERTED = """
    SELECT coalesce(width_bucket(min_time, %(times)s::timestamptz[]), 0),
           sum(CASE WHEN by_table IS NULL THEN inserted ELSE (by_table->>%(table)s)::bigint END)::bigint
      FROM {source} WHERE {of_table} GROUP BY 1"""
_BY_LEDGER, _BY_REDRIVES = (
    _INSERTED.format(source=source, of_table=OF_TABLE) for source in ("spillway.ledger", "spillway.redrives")
)


@dataclass(frozen=True)
class RowAudit:
    """The comparison of the ledger with the table for events from `since` on; None means all events.

    `inserted`: by the ledger; `rows`: in the table; `dropped`: by retention, on record. `checked`: the rows could be
    counted in time. `redriven`: added by redrives.
    """

    since: datetime | None = None
    inserted: int = 0
    rows: int = 0
    dropped: int = 0
    checked: bool = False
    redriven: int = 0

    @property
    def missing(self) -> int:
        """How many rows are neither in the table nor dropped."""
        return max(0, self.inserted - self.rows - self.dropped)


@dataclass(frozen=True)
class AuditFacts:
    """What an audit reads from the server.

    `earliest`: the first time of interest: the retention horizon, or how far uncounted drops reached before the rows
    were counted; None for all events. `times`: `earliest` and the starts of the chunks after it, ascending. `inserted`:
    rows by the number of `times` that are not after the first event of their ledger range. `chunks`: the newest first.
    `counted`: the rows of each chunk that was counted in time. `rows_after_cut`: of the chunk that `earliest` cuts, the
    rows from there on; None if unknown. `drops`, and `uncounted_until`: the time up to which chunks may have been
    dropped uncounted, both read after the rows were counted. `redriven`: like `inserted`, by redrives.
    """

    earliest: datetime | None
    times: tuple[datetime, ...]
    inserted: Mapping[int, int]
    chunks: tuple[Chunk, ...]
    counted: Mapping[Chunk, int]
    rows_after_cut: int | None
    drops: DropRecords
    uncounted_until: datetime | None
    redriven: Mapping[int, int] = field(default_factory=dict)


def inserted_rows(connection: psycopg.Connection, table_name: str, is_events: bool) -> int:
    """The rows that the ledger counts as inserted into a table, by its name in the ledger. Raises `psycopg.Error`."""
    return sum(_inserted(connection, _BY_LEDGER, table_name, is_events, []).values())


def _inserted(
    connection: psycopg.Connection, query: LiteralString, table_name: str, is_events: bool, times: Sequence[datetime]
) -> dict[int, int]:
    values = {"table": table_name, "is_events": is_events, "times": list(times)}
    return dict(connection.execute(query, values).fetchall())


def audit_rows(
    connection: psycopg.Connection, table: Table, horizon: datetime | None
) -> tuple[RowAudit, Mapping[Chunk, int]]:
    """Compare the ledger's ranges of the streams of a table with that table.

    Returns the comparison, and the rows of each chunk that was counted.

    `horizon`: the time before which retention drops. See `judge_rows` for the comparison. Raises `psycopg.Error`.
    """
    facts = gather_audit_facts(connection, table, horizon)
    return judge_rows(facts), facts.counted


def gather_audit_facts(connection: psycopg.Connection, table: Table, horizon: datetime | None) -> AuditFacts:
    """Read the facts of an audit. Raises `psycopg.Error`.

    Drains and drops may run meanwhile: the ledger is read first, then the table, then the record of drops.
    """
    reached = _uncounted_until(connection, table)
    earliest = max((time for time in (horizon, reached) if time), default=None)
    # Chunks are dropped as a whole: all of a chunk that `earliest` cuts is still there.
    before = audited_chunks(connection, table)
    starts = {chunk.range_start for chunk in before if earliest is None or chunk.range_end > earliest}
    times = sorted((starts | ({earliest} if earliest else set())) - {EARLIEST})
    inserted, redriven = (
        _inserted(connection, query, table.regclass, is_default(table), times) for query in (_BY_LEDGER, _BY_REDRIVES)
    )
    newest_first = audited_chunks(connection, table)[::-1]
    counted = dict(count_rows(connection, newest_first, _COUNT_SECONDS))
    is_complete = len(counted) == len(newest_first)
    return AuditFacts(
        earliest=earliest,
        times=tuple(times),
        inserted=inserted,
        chunks=newest_first,
        counted=counted,
        rows_after_cut=_count_after(connection, table, newest_first, earliest) if earliest and is_complete else None,
        drops=read_drops(connection, table.regclass),
        # Again: the database's own job may have dropped chunks meanwhile.
        uncounted_until=_uncounted_until(connection, table),
        redriven=redriven,
    )


def judge_rows(facts: AuditFacts) -> RowAudit:
    """The comparison from which most rows are missing; if several are equal, the one from the latest time.

    Compared are the events from each of `times` on, and all events together if every drop was counted. If no rows are
    missing, the result is the comparison that reaches back furthest. If none could be made, it is not `checked`.
    """
    rows_since, dropped_since = _rows_since(facts), facts.drops.sums()
    comparisons = [
        RowAudit(since, inserted, rows, dropped_since(since), checked=True, redriven=redriven)
        for since, inserted, redriven in _inserted_since(facts)
        if (rows := rows_since(since)) is not None
    ]
    if not any(one.missing for one in comparisons):
        return next(iter(comparisons), RowAudit(facts.earliest))
    return max(reversed(comparisons), key=lambda one: one.missing)


def _inserted_since(facts: AuditFacts) -> list[tuple[datetime | None, int, int]]:
    """The times from which rows can be compared, ascending, and how many rows the ledger has from there on, and how
    many redrives added."""
    uncounted = facts.uncounted_until
    ends = [chunk.range_end for chunk in facts.chunks if uncounted and chunk.range_end <= uncounted]
    floor = max(ends, default=None)  # chunks before it may be dropped at any moment
    inserted, redriven = (
        sums_from([counts.get(position, 0) for position in range(len(facts.times) + 1)])
        for counts in (facts.inserted, facts.redriven)
    )
    found: list[tuple[datetime | None, int, int]] = []
    for position, since in enumerate([None, *facts.times]):
        is_known = uncounted is None if since is None else floor is None or since >= floor
        if is_known:
            found.append((since, inserted[position], redriven[position]))
    return found


def _rows_since(facts: AuditFacts) -> Callable[[datetime | None], int | None]:
    """A function: the rows in the table from a time on; None if a chunk was not counted."""
    ordered = sorted(facts.chunks, key=lambda chunk: chunk.range_start)
    starts = [chunk.range_start for chunk in ordered]
    rows = sums_from([facts.counted.get(chunk, 0) for chunk in ordered])
    uncounted = sums_from([int(chunk not in facts.counted) for chunk in ordered])
    # The latest end of the first chunks: ranges may overlap, if there are partitions by space.
    ends = list(accumulate((chunk.range_end for chunk in ordered), max))

    def rows_since(since: datetime | None) -> int | None:
        first = 0 if since is None else bisect_left(starts, since)
        if uncounted[first]:
            return None
        if since is None or not first or ends[first - 1] <= since:
            return rows[first]
        after_cut = facts.rows_after_cut if since == facts.earliest else None
        return None if after_cut is None else rows[first] + after_cut

    return rows_since


def _uncounted_until(connection: psycopg.Connection, table: Table) -> datetime | None:
    """The time up to which chunks may have been dropped without being counted; None if there were no such drops."""
    reached = may_be_dropped_until(connection, table)
    recorded = read_drops(connection, table.regclass).uncounted_until
    return max((time for time in (reached, recorded) if time), default=None)


def _count_after(connection: psycopg.Connection, table: Table, there: tuple[Chunk, ...], since: datetime) -> int | None:
    """The rows from `since` on in the chunk that `since` cuts; None if counting takes longer than a statement may."""
    try:
        return sum(count(connection, table, part, since) for part in there if part.range_start < since < part.range_end)
    except psycopg.errors.QueryCanceled:
        return None
    except psycopg.errors.UndefinedTable:  # dropped meanwhile
        return 0
