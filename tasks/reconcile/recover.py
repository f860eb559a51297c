"""Reverse a loss that was recorded by mistake, so that the next drain loads its entries.

The first release recorded a range as drained, and its entries as lost, if Redis did not return them for a moment. There
a short page ended the range, so the unread entries of a ledger row are its last ones. Their number is: all entries, if
none of the range was read; existing entries minus read ones, if nothing can have been deleted from the range since;
otherwise all from the first one on that neither the table nor the quarantine has.

A false replica can hide any entries. If the table lacks others than the last ones, the whole range is drained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.mapping.toml import configured_mappings
from tasks.base.addresses import IdRange, id_text, parse_id
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import EVERY_TIME
from tasks.columns.row_layout import RowLayout
from tasks.ledger.plan import check_stream
from tasks.ledger.stream_progress import refresh_progress
from tasks.preflight.layouts import read_layout
from tasks.reconcile.compare import compare
from tasks.streams.pages import Pages, stream_away
from tasks.streams.reader import Reader
from tasks.streams.tail import Tail

_PAGE_ENTRIES = 250
_LIMITS = BatchLimits(50_000, 8 << 20)

# Locked like a settlement, so that a second run sees what the first has written.
_STREAM = """
    SELECT id, baseline, lost, coalesce(settled_id, -1)::text FROM spillway.streams WHERE name = %s FOR NO KEY UPDATE"""
_ROWS = """
    SELECT lower(ids)::text, upper(ids)::text, ranges, read, lost, lower(lost_ids)::text, upper(lost_ids)::text
      FROM spillway.ledger WHERE stream = %s ORDER BY ids"""
_CUT = "UPDATE spillway.ledger SET ids = numrange(%(start)s, %(at)s) WHERE stream = %(id)s AND lower(ids) = %(start)s"
_REMOVE = "DELETE FROM spillway.ledger WHERE stream = %(id)s AND lower(ids) = %(start)s"
_REDUCE = """
    UPDATE spillway.ledger
       SET lost = %(left)s, lost_ids = CASE WHEN %(left)s > 0 THEN lost_ids END
     WHERE stream = %(id)s AND lower(ids) = %(start)s"""
# Move the rest of a loss, whose row is deleted, to the row before it, or else to the one after it.
_MOVE = """
    UPDATE spillway.ledger
       SET lost = lost + %(left)s, lost_ids = range_merge(coalesce(lost_ids, 'empty'), numrange(%(low)s, %(high)s))
     WHERE stream = %(id)s AND ids = (SELECT ids FROM spillway.ledger WHERE stream = %(id)s AND lower(ids) <> %(start)s
                                       ORDER BY lower(ids) > %(start)s, abs(lower(ids) - %(start)s) LIMIT 1)"""
_FOUND = """
    UPDATE spillway.streams
       SET lost = lost - %(number)s, accepted = least(accepted, lost - %(number)s) WHERE id = %(id)s"""


@dataclass(frozen=True)
class Recovered:
    """`entries` that will be drained again, in `ranges` of ids; `lost`: entries that stay recorded as lost."""

    entries: int
    ranges: tuple[IdRange, ...]
    lost: int


@dataclass(frozen=True)
class LedgerRow:
    """A row of the ledger. `there`: the ids of its existing entries, in order."""

    ids: IdRange
    ranges: int
    read: int
    lost: int
    lost_ids: IdRange | None
    there: tuple[int, ...] = ()

    def untouched(self, tail: Tail, baseline: int) -> bool:
        """Whether none of its entries can have been deleted since it was read."""
        return tail.removed == baseline or (tail.first <= self.ids.start and tail.max_deleted < self.ids.start)


@dataclass(frozen=True)
class UnreadEntries:
    """`count` unread entries of a row of the ledger, which is to be drained again from the id `start` on."""

    row: LedgerRow
    count: int
    start: int

    @property
    def whole(self) -> bool:
        """Whether nothing of the row stays in the ledger."""
        return self.start <= self.row.ids.start

    @property
    def again(self) -> int:
        """How many entries will be drained."""
        return sum(1 for entry in self.row.there if entry >= self.start)


def recover(
    client: redis.Redis,
    connection: psycopg.Connection,
    stream: str,
    layout: RowLayout,
    ids: IdRange | None = None,
) -> Recovered:
    """Remove from the ledger the ranges of existing entries that were never read, so that a drain loads them.

    Only ranges with a recorded loss (within `ids`, if given) and ranges after the last settlement are considered. All
    is done in one transaction. Raises `StreamAway` if the stream is not the drained one at the moment, and `Terminal`
    if it is unknown or if the ledger contradicts the stream; the ledger is unchanged then.
    """
    with connection.transaction():
        found = connection.execute(_STREAM, [stream]).fetchone()
        if found is None:
            raise Terminal(
                f"recover: expected a drained stream, found none called {stream!r}; nothing was changed; list the"
                " streams: spillway status"
            )
        stream_id, baseline, lost, settled = map(int, found)
        drained = check_stream(client, connection, stream)
        if (tail := drained.tail) is None or drained.reason:
            raise stream_away(stream, "recover", str(drained.reason))
        pages = Pages(client, stream, tail)

        def look_up(row: LedgerRow) -> list[int]:
            reader = Reader(client, stream, [row.ids], tail, _LIMITS, layout, EVERY_TIME)
            return _not_in_the_table(connection, reader)

        def unread(rows: Sequence[LedgerRow], recorded: int) -> list[UnreadEntries]:
            return _unread(stream, [_with_ids(pages, row) for row in rows], tail, baseline, recorded, look_up)

        losses, later = split_ledger(_read_rows(connection, stream_id), settled, ids)
        freed: list[IdRange] = []
        entries = 0
        for incident, rows in losses:
            back = unread(rows, incident.lost)
            number = sum(one.count for one in back)
            _reduce(connection, stream_id, incident, incident.lost - number, back)
            freed += _take_back(connection, stream_id, back)
            connection.execute(_FOUND, {"number": number, "id": stream_id})
            entries += sum(one.again for one in back)
            lost -= number
        back = unread(later, 0)
        freed += _take_back(connection, stream_id, back)
        entries += sum(one.again for one in back)
        refresh_progress(connection, stream_id)
    return Recovered(entries, tuple(sorted(freed, key=lambda part: part.start)), lost)


def split_ledger(
    rows: Sequence[LedgerRow], settled: int, ids: IdRange | None
) -> tuple[list[tuple[LedgerRow, list[LedgerRow]]], list[LedgerRow]]:
    """Each row with a recorded loss (within `ids`, if given), together with the rows that the loss overlaps; and the
    other rows after the last settlement. No row comes up twice."""
    done: set[int] = set()
    losses = []
    for incident in rows:
        span = incident.lost_ids
        if not incident.lost or span is None or (ids is not None and not _overlap(ids, span)):
            continue
        overlapped = [row for row in rows if row.ids.start not in done and (row == incident or _overlap(row.ids, span))]
        done |= {row.ids.start for row in overlapped}
        losses.append((incident, overlapped))
    return losses, [row for row in rows if row.ids.start > settled and row.ids.start not in done]


def _read_rows(connection: psycopg.Connection, stream_id: int) -> list[LedgerRow]:
    return [
        LedgerRow(IdRange(int(low), int(high)), ranges, read, lost, IdRange(int(a), int(b)) if a else None)
        for low, high, ranges, read, lost, a, b in connection.execute(_ROWS, [stream_id]).fetchall()
    ]


def _overlap(one: IdRange, other: IdRange) -> bool:
    return one.start < other.stop and other.start < one.stop


def _with_ids(pages: Pages, row: LedgerRow) -> LedgerRow:
    there: list[int] = []
    start = row.ids.start
    while start < row.ids.stop:
        groups, start = pages.fetch(start, row.ids.stop, _PAGE_ENTRIES)
        there += sorted(parse_id(entry) for group in groups for entry in group.ids.to_pylist())
    return LedgerRow(row.ids, row.ranges, row.read, row.lost, row.lost_ids, tuple(there))


def _unread(
    stream: str, rows: list[LedgerRow], tail: Tail, baseline: int, lost: int, look_up: Callable[[LedgerRow], list[int]]
) -> list[UnreadEntries]:
    """The unread entries of each row, without rows that have none. `lost`: the recorded loss.

    `look_up`: returns the ids of a row that neither the table nor the quarantine has. Raises `Terminal` if the ledger
    contradicts the stream.
    """
    found = [one for row in rows if (one := _unread_of(stream, row, row.untouched(tail, baseline), look_up)).count]
    number = sum(one.count for one in found)
    if lost and number > lost:
        raise Terminal(
            f"recover: stream {stream}: expected at most the {lost} entries recorded as lost, found {number} unread"
            " ones; nothing was changed; see «the books do not balance» in docs/operations.md"
        )
    return found


def _unread_of(
    stream: str, row: LedgerRow, untouched: bool, look_up: Callable[[LedgerRow], list[int]]
) -> UnreadEntries:
    there = row.there
    if not row.read and there:
        return UnreadEntries(row, len(there), there[0])
    count = len(there) - row.read
    if row.ranges > 1:
        if count > 0:
            raise Terminal(_merged(stream, row))
    elif untouched:
        if count > 0:
            hidden = any(entry < there[row.read] for entry in look_up(row))
            return UnreadEntries(row, count, row.ids.start if hidden else there[row.read])
    elif absent := look_up(row):
        first = min(absent)
        return UnreadEntries(row, sum(1 for entry in there if entry >= first), first)
    return UnreadEntries(row, 0, row.ids.stop)


def _merged(stream: str, row: LedgerRow) -> str:
    span = f"--since {id_text(row.ids.start)} --until {id_text(row.ids.stop - 1)}"
    return (
        f"recover: {stream} {row.ids}: {row.ranges} ranges were merged: expected {row.read} entries, found"
        f" {len(row.there)}, and which of them were read is unknown; nothing was changed; load them all again, which"
        f" counts existing rows as duplicates: spillway backfill --stream {stream} {span} --again"
    )


def _not_in_the_table(connection: psycopg.Connection, reader: Reader) -> list[int]:
    """The ids of the entries that neither the table nor the quarantine has."""
    absent: list[int] = []
    while (batch := reader.read()) is not None:
        found = compare(connection, batch, repair=False).discrepancies
        absent += [one.entry_id for one in found if one.kind != "doubled"]
    return absent


def _reduce(
    connection: psycopg.Connection, stream_id: int, incident: LedgerRow, left: int, back: list[UnreadEntries]
) -> None:
    """Record the rest of a loss, on another row if its own row is deleted."""
    values = {"id": stream_id, "start": incident.ids.start, "left": left}
    is_deleted = any(one.row.ids == incident.ids and one.whole for one in back)
    if is_deleted and left and incident.lost_ids is not None:
        moved = connection.execute(_MOVE, values | {"low": incident.lost_ids.start, "high": incident.lost_ids.stop})
        if moved.rowcount != 1:
            raise Terminal(
                f"recover: expected another range of the ledger for the {left} entries that stay lost, found none;"
                " nothing was changed; see «the books do not balance» in docs/operations.md"
            )
    connection.execute(_REDUCE, values)


def _take_back(connection: psycopg.Connection, stream_id: int, back: list[UnreadEntries]) -> list[IdRange]:
    """Cut each row before its first unread entry. Returns the ids that are no longer in the ledger."""
    free = []
    for one in back:
        values = {"id": stream_id, "start": one.row.ids.start, "at": one.start}
        connection.execute(_REMOVE if one.whole else _CUT, values)
        free.append(IdRange(one.start, one.row.ids.stop))
    return free


def recover_stream(clients: Clients, stream: str, ids: IdRange | None) -> Recovered:
    """`recover` with the stream's mapping. Raises `SpillwayError`."""
    mapping = configured_mappings(clients.settings).for_stream(stream)
    with clients.translate_errors(f"recover {stream}"), clients.postgres() as connection:
        return recover(clients.redis, connection, stream, read_layout(connection, mapping), ids)
