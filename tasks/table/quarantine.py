"""The quarantine keeps every entry that cannot become a row. Here it is read, and entries are discarded.

`tasks.table.quarantine_entries` fills it. This module needs neither Arrow nor numpy, which would take more time and
memory than a list of the quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row


@dataclass(frozen=True)
class Selection:
    """Selects entries of the quarantine: those that match all given criteria.

    `streams`: names of streams or paths of files. `entries`: entry ids. `waiting`: only entries that were neither
    redriven nor discarded. An empty tuple or None matches all.
    """

    streams: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    kind: str | None = None
    field: str | None = None
    waiting: bool = True

    def condition(self) -> tuple[sql.Composed, Mapping[str, Any]]:
        """A SQL condition on `q` (the quarantine) and `s` (the streams), and its parameters."""
        parts = [sql.SQL("true")]
        if self.streams:
            of_files = "s.id IN (SELECT stream FROM spillway.files WHERE path = ANY(%(streams)s))"
            parts.append(sql.SQL(f"(s.name = ANY(%(streams)s) OR {of_files})"))
        if self.entries:
            parts.append(sql.SQL("q.entry_id = ANY(%(entries)s)"))
        if self.kind is not None:
            parts.append(sql.SQL("q.kind = %(kind)s"))
        if self.field is not None:
            parts.append(sql.SQL("q.field = %(field)s"))
        if self.waiting:
            parts.append(sql.SQL("q.outcome IS NULL"))
        values = {"streams": list(self.streams), "entries": list(self.entries), "kind": self.kind, "field": self.field}
        return sql.SQL(" AND ").join(parts), values


@dataclass(frozen=True)
class QuarantinedEntry:
    """An entry in the quarantine. `fields`: names and values in turn. `replayed`: the same, as edited for a redrive.

    `path`: the file, for a row of a file; the row's number is then the second part of `entry_id`.
    """

    stream: str
    path: str | None
    entry_id: str
    kind: str
    field: str
    reason: str
    quarantined_at: datetime
    outcome: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    fields: list[bytes]
    replayed: list[bytes] | None


_SOURCE = sql.SQL("FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream WHERE")


def list_entries(connection: psycopg.Connection, selection: Selection, limit: int) -> list[QuarantinedEntry]:
    """At most `limit` of the selected entries, the newest first. Raises `psycopg.Error`."""
    condition, values = selection.condition()
    query = sql.SQL("""
        SELECT s.name AS stream, q.entry_id, q.kind,
               (SELECT path FROM spillway.files AS f WHERE f.stream = s.id) AS path,
               coalesce(q.field, '') AS field, q.reason, q.quarantined_at, q.outcome, q.resolved_by, q.resolved_at,
               q.fields, q.replayed
        {source} {condition} ORDER BY q.quarantined_at DESC, q.entry_id DESC, q.part LIMIT %(limit)s
        """).format(source=_SOURCE, condition=condition)
    with connection.cursor(row_factory=class_row(QuarantinedEntry)) as cursor:
        return cursor.execute(query, {**values, "limit": limit}).fetchall()


@dataclass(frozen=True)
class QuarantineGroup:
    """Entries of one stream or file with the same kind, field and reason; `reason` is that of the entry `example`.

    Reasons are the same if they differ only in the value that was found, in a position, or in the server's details
    about the row.
    `count`: entries, or parts of entries (`each`). `first`, `last`: when they came into the quarantine.
    """

    stream: str
    path: str | None
    kind: str
    field: str
    count: int
    example: str
    reason: str
    first: datetime
    last: datetime


# What differs between entries with the same fault: positions and bytes in the decoder's message. A regular expression
# of Python and of PostgreSQL.
POSITION = r" \(byte [0-9]+\)| byte 0x[0-9a-f]{2} in position [0-9-]+:| in position [0-9-]+|(?<=byte) 0x.."
# What reasons of entries `q` have in common: the decoder's up to the value and without positions, the server's message
# without details, with its SQLSTATE. For a statement with parameters. LIKE, since `right` counts the characters of each
# reason, and a regular expression takes longer.
CAUSE = sql.SQL("""
    CASE WHEN q.reason COLLATE "C" LIKE '%%]' THEN split_part(q.reason COLLATE "C", ': ', 1) || right(q.reason, 8)
         WHEN q.reason COLLATE "C" LIKE '%%byte %%' OR q.reason COLLATE "C" LIKE '%% in position %%'
         THEN regexp_replace(split_part(q.reason COLLATE "C", ', found ', 1), {position}, '', 'g')
         ELSE split_part(q.reason COLLATE "C", ', found ', 1) END""").format(position=sql.Literal(POSITION))
# The server adds them up, so that the client's memory does not grow with the entries. The example is found by its
# place in the table, which is valid within one statement.
_GROUPS = """
    WITH causes AS (
        SELECT q.stream, q.kind, q.field, {cause} AS cause, count(*) AS count, max(q.ctid) AS place,
               min(q.quarantined_at) AS first, max(q.quarantined_at) AS last
          FROM spillway.quarantine AS q {streams} WHERE {condition} GROUP BY 1, 2, 3, 4
    ), listed AS (
        SELECT *, count(*) OVER () AS groups, sum(count) OVER () AS entries FROM causes
         ORDER BY count DESC, stream, kind, field, cause LIMIT %(limit)s
    )
    SELECT l.groups, l.entries::bigint, s.name,
           (SELECT path FROM spillway.files AS f WHERE f.stream = s.id), l.kind, coalesce(l.field, ''), l.count,
           q.entry_id, q.reason, l.first, l.last
      FROM listed AS l JOIN spillway.streams AS s ON s.id = l.stream JOIN spillway.quarantine AS q ON q.ctid = l.place
     ORDER BY l.count DESC, l.stream, l.kind, l.field, l.cause"""
# The planner expects as many reasons as entries, and would sort them all (1,000,000: 3.1 s instead of 0.7 s) and
# compile the query first. A hash table beyond this memory continues on disk.
FOR_GROUPS = "SET LOCAL work_mem = '64MB'; SET LOCAL enable_sort = off; SET LOCAL jit = off"


@dataclass(frozen=True)
class QuarantineSummary:
    """The largest groups of the selected entries. `all_groups`, `entries`: how many there are in all."""

    groups: Sequence[QuarantineGroup]
    all_groups: int
    entries: int


def group_entries(connection: psycopg.Connection, selection: Selection, limit: int) -> QuarantineSummary:
    """The selected entries by reason: at most `limit` groups, the largest first. Raises `psycopg.Error`."""
    condition, values = selection.condition()
    streams = sql.SQL("JOIN spillway.streams AS s ON s.id = q.stream" if selection.streams else "")
    with connection.transaction():
        connection.execute(FOR_GROUPS)
        query = sql.SQL(_GROUPS).format(cause=CAUSE, streams=streams, condition=condition)
        rows = connection.execute(query, {**values, "limit": limit}).fetchall()
    groups = [QuarantineGroup(*row[2:]) for row in rows]
    return QuarantineSummary(groups, *(rows[0][:2] if rows else (0, 0)))


def count_entries(connection: psycopg.Connection, selection: Selection) -> int:
    """How many entries are selected. Raises `psycopg.Error`."""
    condition, values = selection.condition()
    query = sql.SQL("SELECT count(*) {source} {condition}").format(source=_SOURCE, condition=condition)
    row = connection.execute(query, values).fetchone()
    assert row is not None  # an aggregate has one row
    number: int = row[0]
    return number


def discard_entries(connection: psycopg.Connection, selection: Selection, by: str) -> int:
    """Mark the selected waiting entries as discarded by `by`, and return how many. They stay on record."""
    condition, values = selection.condition()
    query = sql.SQL("""
        UPDATE spillway.quarantine AS q SET outcome = 'discarded', resolved_by = %(by)s, resolved_at = now()
          FROM spillway.streams AS s WHERE s.id = q.stream AND q.outcome IS NULL AND {condition}
        """).format(condition=condition)
    return connection.execute(query, {**values, "by": by}).rowcount
