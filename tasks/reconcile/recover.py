"""Reverse a loss that was recorded wrongly: the ledger goes back to what was read, and the next drain loads the rest.

A range whose entries were away for a moment was recorded as drained without them, and they were counted as lost. The
first release did that: a short page ended the range, so in a row of the ledger the entries that nobody read are the
last ones. How many they are: all, if none of the range was read; the entries that are there less those that were read,
if nothing can have been deleted from the range since; otherwise those from the first one on that neither the table nor
the quarantine has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import redis

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.mapping import Mapping, configured_mappings
from tasks.base.addresses import IdRange, id_text, parse_id
from tasks.ledger.plan import check_stream
from tasks.reconcile.compare import EVERY_TIME, compare
from tasks.streams.pages import Pages, stream_away
from tasks.streams.reader import BatchLimits, Reader
from tasks.streams.tail import Tail

_PAGE_ENTRIES = 250
_LIMITS = BatchLimits(50_000, 8 << 20)

# Locked like a settlement: of two at once, the second sees what the first has written.
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
# What is left of a loss whose row goes: to the row before it, or else the one after it.
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
class _Row:
    """A row of the ledger. `there`: the ids of its entries that are in the stream now, in order."""

    ids: IdRange
    ranges: int
    read: int
    lost: int
    lost_ids: IdRange | None
    there: tuple[int, ...] = ()

    def untouched(self, tail: Tail, baseline: int) -> bool:
        """Whether none of its entries can have been deleted since it was read."""
        return tail.gone == baseline or (tail.first <= self.ids.start and tail.max_deleted < self.ids.start)


def recover(
    client: redis.Redis,
    connection: psycopg.Connection,
    stream: str,
    mapping: Mapping | None = None,
    ids: IdRange | None = None,
) -> Recovered:
    """Take the ranges of the ledger back that hold entries which are in the stream and were never read.

    Looked at are the ranges where losses were recorded (among `ids`, if given), and those after the last settlement.
    One transaction. Raises `StreamAway` if the stream is not the drained one at the moment, `Terminal` if it is not
    known, or if the ledger does not fit what is there; the ledger is as it was then.
    """
    with connection.transaction():
        found = connection.execute(_STREAM, [stream]).fetchone()
        if found is None:
            raise Terminal(f"recover: Spillway knows no stream {stream!r}; see the names: spillway status")
        stream_id, baseline, lost_before, settled = int(found[0]), int(found[1]), int(found[2]), int(found[3])
        drained = check_stream(client, connection, stream)
        if (tail := drained.tail) is None or drained.reason:
            raise stream_away(stream, "recover", str(drained.reason))
        pages = Pages(client, stream, tail)

        def look_up(row: _Row) -> int:
            reader = Reader(client, stream, [row.ids], tail, _LIMITS, mapping, EVERY_TIME)
            return _not_in_the_table(connection, reader, row)

        rows = [
            _Row(IdRange(int(low), int(high)), ranges, read, lost, IdRange(int(a), int(b)) if a else None)
            for low, high, ranges, read, lost, a, b in connection.execute(_ROWS, [stream_id]).fetchall()
        ]
        taken: list[IdRange] = []
        entries = 0
        done: set[int] = set()
        for incident in [row for row in rows if row.lost and row.lost_ids is not None]:
            assert incident.lost_ids is not None
            if ids is not None and not _overlap(ids, incident.lost_ids):
                continue
            members = [
                row
                for row in rows
                if row.ids.start not in done and (row == incident or _overlap(row.ids, incident.lost_ids))
            ]
            done |= {row.ids.start for row in members}
            back = _unread(stream, [_with_ids(pages, row) for row in members], tail, baseline, incident.lost, look_up)
            number = sum(count for _, count in back)
            _reduce(connection, stream_id, incident, incident.lost - number, back)
            taken += _take_back(connection, stream_id, back)
            connection.execute(_FOUND, {"number": number, "id": stream_id})
            entries += number
            lost_before -= number
        later = [row for row in rows if row.ids.start > settled and row.ids.start not in done]
        back = _unread(stream, [_with_ids(pages, row) for row in later], tail, baseline, 0, look_up)
        taken += _take_back(connection, stream_id, back)
        entries += sum(count for _, count in back)
    return Recovered(entries, tuple(sorted(taken, key=lambda part: part.start)), lost_before)


def _overlap(one: IdRange, other: IdRange) -> bool:
    return one.start < other.stop and other.start < one.stop


def _with_ids(pages: Pages, row: _Row) -> _Row:
    there: list[int] = []
    start = row.ids.start
    while start < row.ids.stop:
        groups, start = pages.fetch(start, row.ids.stop, _PAGE_ENTRIES)
        there += sorted(parse_id(entry) for group in groups for entry in group.ids.to_pylist())
    return _Row(row.ids, row.ranges, row.read, row.lost, row.lost_ids, tuple(there))


def _unread(
    stream: str, rows: list[_Row], tail: Tail, baseline: int, lost: int, look_up: Callable[[_Row], int]
) -> list[tuple[_Row, int]]:
    """How many of the last entries of each row were never read; rows with none are left out. `lost`: as recorded."""
    counts: dict[int, int] = {}
    for row in rows:
        if not row.read:
            counts[row.ids.start] = len(row.there)
        elif row.ranges > 1:
            if len(row.there) > row.read:
                raise Terminal(_merged(stream, row))
        elif row.untouched(tail, baseline):
            counts[row.ids.start] = max(0, len(row.there) - row.read)
        else:
            counts[row.ids.start] = look_up(row)
    found = sum(counts.values())
    if lost and found > lost:
        raise Terminal(
            f"recover: stream {stream}: {found} entries are there that the ledger has not read, but only {lost} are"
            " recorded as lost; nothing was changed: see «the books do not balance» in docs/operations.md"
        )
    return [(row, counts[row.ids.start]) for row in rows if counts.get(row.ids.start)]


def _merged(stream: str, row: _Row) -> str:
    span = f"--since {id_text(row.ids.start)} --until {id_text(row.ids.stop - 1)}"
    return (
        f"recover: {stream} {row.ids}: {row.ranges} ranges were merged, and {len(row.there)} entries are there, but"
        f" {row.read} were read: it cannot be seen which; nothing was changed: load them all once more, which counts"
        f" existing rows as duplicates: spillway backfill --stream {stream} {span} --again"
    )


def _not_in_the_table(connection: psycopg.Connection, reader: Reader, row: _Row) -> int:
    """How many entries of a row there are from the first one on that the table and the quarantine lack."""
    absent: list[int] = []
    while (batch := reader.read()) is not None:
        found = compare(connection, batch, repair=False).discrepancies
        absent += [one.entry_id for one in found if one.kind != "doubled"]
    if not absent:
        return 0
    first = min(absent)
    return sum(1 for entry in row.there if entry >= first)


def _reduce(
    connection: psycopg.Connection, stream_id: int, incident: _Row, left: int, back: list[tuple[_Row, int]]
) -> None:
    """Record what is left of a loss, on another row if this one goes."""
    values = {"id": stream_id, "start": incident.ids.start, "left": left}
    goes = any(row.ids == incident.ids and row.there[-count] == row.ids.start for row, count in back)
    if goes and left and incident.lost_ids is not None:
        moved = connection.execute(_MOVE, values | {"low": incident.lost_ids.start, "high": incident.lost_ids.stop})
        if moved.rowcount != 1:
            raise Terminal(f"recover: no other range of the ledger can hold the {left} entries that stay lost")
    connection.execute(_REDUCE, values)


def _take_back(connection: psycopg.Connection, stream_id: int, back: list[tuple[_Row, int]]) -> list[IdRange]:
    """Cut the rows before the first entry that was never read; the ids that are free then."""
    free = []
    for row, count in back:
        at = row.there[-count]
        values = {"id": stream_id, "start": row.ids.start, "at": at}
        connection.execute(_CUT if at > row.ids.start else _REMOVE, values)
        free.append(IdRange(at, row.ids.stop))
    return free


def recover_stream(clients: Clients, stream: str, ids: IdRange | None) -> Recovered:
    """`recover`, with the stream's mapping, and the errors of the servers explained."""
    mapping = configured_mappings(clients.settings).for_stream(stream)
    with clients.translate_errors(f"recover {stream}"), clients.postgres() as connection:
        return recover(clients.redis, connection, stream, mapping, ids)
