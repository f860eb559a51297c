"""Reconcile the books of a stream: both laws, and the ledger without gap or overlap."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from infra.connections.clients import Clients
from infra.display import display_name
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.files.file_ledger import find_path
from tasks.files.scan import is_file_ledger
from tasks.ledger.names import original_name
from tasks.ledger.plan import check_stream
from tasks.streams.tail import is_pattern, literal


@dataclass(frozen=True)
class Finding:
    """Something that does not balance. `what`: missing, different, doubled, unreadable, or a law that does not hold.

    `ids`: where, as text; `count` of entries or ranges; `repair`: the command, or what a person is to do.
    """

    stream: str
    what: str
    ids: str
    count: int
    detail: str
    repair: str


@dataclass(frozen=True)
class LedgerTotals:
    """What the ledger of one stream adds up to. `waiting`: of `quarantined`, neither redriven nor discarded.

    `accepted`: of `lost`, how many somebody has accepted as lost; by whom and when (ISO 8601) the last time.
    """

    stream: str
    ranges: int
    read: int
    inserted: int
    duplicates: int
    quarantined: int
    waiting: int
    lost: int
    accepted: int = 0
    accepted_by: str | None = None
    accepted_at: str | None = None

    @property
    def loss(self) -> str | None:
        """What is lost and not accepted, and what to do; None if nothing is."""
        if self.lost == self.accepted:
            return None
        name = display_name(self.stream)
        return (
            f"{self.lost - self.accepted} entries of {name} are lost: they were gone from Redis before they were"
            " drained; see «lost is not 0» in docs/operations.md, then put on record that you know: spillway stream"
            f" accept-loss {name}"
        )

    @property
    def acceptance(self) -> str | None:
        """Who has accepted a loss; None if nobody has."""
        if not self.accepted:
            return None
        return (
            f"{self.accepted} lost entries of {display_name(self.stream)} were accepted by {self.accepted_by} at"
            f" {self.accepted_at}"
        )


_TOTALS = """
    SELECT s.name AS stream, coalesce(sum(l.ranges), 0)::bigint AS ranges, coalesce(sum(l.read), 0)::bigint AS read,
           coalesce(sum(l.inserted), 0)::bigint AS inserted, coalesce(sum(l.duplicates), 0)::bigint AS duplicates,
           coalesce(sum(l.quarantined), 0)::bigint AS quarantined, s.lost, s.accepted, s.accepted_by,
           to_char(s.accepted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS accepted_at,
           (SELECT count(*) FROM spillway.quarantine AS q WHERE q.stream = s.id AND q.outcome IS NULL) AS waiting
      FROM spillway.streams AS s LEFT JOIN spillway.ledger AS l ON l.stream = s.id
     WHERE s.name = %s GROUP BY s.id"""
_UNBALANCED = fill_in("""
    SELECT lower(ids)::text AS start, upper(ids)::text AS stop, read, inserted + duplicates + quarantined AS found
      FROM spillway.ledger WHERE stream = {stream_id}
       AND read <> inserted + duplicates + quarantined""")
# Entries kept in the quarantine, by the range that begins last before them; `strays` lie behind its end, or before all.
_KEPT = fill_in("""
    WITH ranges AS (SELECT ids, quarantined, row_number() OVER (ORDER BY ids) AS number FROM spillway.ledger
                     WHERE stream = {stream_id}),
         kept AS (SELECT split_part(entry_id, '-', 1)::numeric * 18446744073709551616
                         + split_part(entry_id, '-', 2)::numeric AS id
                    FROM spillway.quarantine
                   WHERE stream = {stream_id}),
         numbered AS (SELECT id, is_kept, count(*) FILTER (WHERE NOT is_kept) OVER (ORDER BY id, is_kept) AS number
                        FROM (SELECT lower(ids) AS id, false AS is_kept FROM ranges
                              UNION ALL SELECT id, true FROM kept) AS points),
         counted AS (SELECT number, coalesce(quarantined, 0) AS expected, ids,
                            count(*) FILTER (WHERE is_kept AND id < upper(ids)) AS found,
                            count(*) FILTER (WHERE is_kept AND (ids IS NULL OR id >= upper(ids))) AS strays,
                            max(id) AS last
                       FROM numbered LEFT JOIN ranges USING (number) GROUP BY number, ids, quarantined)
    SELECT coalesce(lower(ids), 0)::text AS start, greatest(upper(ids), last + 1)::text AS stop,
           expected, found + strays AS found
      FROM counted WHERE expected <> found OR strays > 0""")
_GAPS = fill_in("""
    SELECT lower(gap)::text AS start, upper(gap)::text AS stop
      FROM (SELECT unnest(nummultirange(numrange(0, max(upper(ids)))) - range_agg(ids) - coalesce(
                       (SELECT nummultirange(f.skipped) FROM spillway.files AS f WHERE f.stream = min(l.stream)), '{}'))
                   AS gap
              FROM spillway.ledger AS l
             WHERE stream = {stream_id}) AS gaps""")
_OVERLAPS = fill_in("""
    SELECT lower(ids)::text AS start, upper(ids)::text AS stop
      FROM (SELECT ids, max(upper(ids)) OVER (ORDER BY ids ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM spillway.ledger WHERE stream = {stream_id}) AS ranges
     WHERE before > lower(ids)""")
# The second law, at the settled tail, and the losses.
_SETTLED = """
    SELECT s.settled_id::text, s.settled_entries_added - s.baseline AS added, s.lost,
           (SELECT coalesce(sum(read), 0) FROM spillway.ledger AS l
             WHERE l.stream = s.id AND lower(l.ids) <= s.settled_id)::bigint AS read,
           (SELECT coalesce(sum(upper(l.ids) - lower(l.ids)), 0) < max(upper(l.ids)) FROM spillway.ledger AS l
             WHERE l.stream = s.id AND lower(l.ids) <= s.settled_id) AS has_gap,
           (SELECT coalesce(sum(l.lost), 0) FROM spillway.ledger AS l WHERE l.stream = s.id)::bigint AS lost_in_ledger
      FROM spillway.streams AS s WHERE s.name = %s"""

_BY_HAND = "find out who edited the ledger: see «the books do not balance» in docs/operations.md"


def check_balance(
    client: redis.Redis, connection: psycopg.Connection, stream: str
) -> tuple[LedgerTotals, list[Finding]]:
    """The sums of the ledger of `stream`, and all that does not balance in it.

    One snapshot of the database, the stream's tail read after it: what drains meanwhile does not disturb.
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = cursor.execute(_TOTALS, [stream]).fetchone()
        if row is None:
            nothing = Finding(stream, "unknown", "", 0, "it was never drained", f"spillway drain --stream {stream}")
            return LedgerTotals(stream, 0, 0, 0, 0, 0, 0, 0), [nothing]
        findings = [*_ranges(cursor, stream), *_laws(cursor, stream)]
    if is_file_ledger(stream):
        return LedgerTotals(**row), findings
    accept = f"spillway stream accept-rewind {stream}"
    found = check_stream(client, connection, stream)
    if found.tail is None:
        findings.append(Finding(stream, "gone", "", 1, "there is no such stream in Redis any more", accept))
    elif found.reason:
        findings.append(Finding(stream, "went back", "", 1, found.reason, accept))
    return LedgerTotals(**row), findings


def known_streams(connection: psycopg.Connection, wanted: list[str]) -> list[str]:
    """The names of `wanted`, and the streams with books of their own that its patterns stand for, sorted."""
    rows = connection.execute("SELECT name FROM spillway.streams").fetchall()
    names = {name for (name,) in rows if name == original_name(name)}
    patterns = [name for name in wanted if is_pattern(name)]
    fitting = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return sorted(fitting | {literal(name) for name in wanted if name not in patterns})


def _ranges(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    findings = []
    for row in cursor.execute(_UNBALANCED, {"stream": stream}).fetchall():
        detail = f"read {row['read']}, but inserted + duplicates + quarantined is {row['found']}"
        findings.append(Finding(stream, "range does not balance", _ids(row), 1, detail, _BY_HAND))
    for row in cursor.execute(_KEPT, {"stream": stream}).fetchall():
        detail = f"{row['expected']} in quarantine by the ledger, {row['found']} by the table spillway.quarantine"
        findings.append(Finding(stream, "quarantine does not balance", _ids(row), 1, detail, _BY_HAND))
    path = find_path(cursor.connection, stream)
    for row in cursor.execute(_GAPS, {"stream": stream}).fetchall():
        detail = "ids before the last drained one that no range of the ledger has"
        repair = f"spillway backfill {path}" if path else f"spillway drain --stream {stream}"
        findings.append(Finding(stream, "gap", _ids(row), 1, detail, repair))
    for row in cursor.execute(_OVERLAPS, {"stream": stream}).fetchall():
        detail = "ids that an earlier range has too: the constraint ledger_no_overlap is gone"
        findings.append(Finding(stream, "overlap", _ids(row), 1, detail, _BY_HAND))
    return findings


def _laws(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    row = cursor.execute(_SETTLED, [stream]).fetchone()
    assert row is not None  # the stream is there
    findings = []
    if row["lost"] != row["lost_in_ledger"]:
        detail = f"{row['lost']} lost by spillway.streams, {row['lost_in_ledger']} by the ledger"
        findings.append(Finding(stream, "losses do not balance", "", 1, detail, _BY_HAND))
    # A gap is a finding of its own, and what was not read there is missing here.
    if row["settled_id"] is not None and not row["has_gap"] and row["added"] != row["read"] + row["lost"]:
        detail = (
            f"{row['added']} entries were added up to the settled tail, but read + lost is {row['read'] + row['lost']}"
        )
        findings.append(Finding(stream, "stream does not balance", "", 1, detail, _BY_HAND))
    return findings


def _ids(row: dict[str, Any]) -> str:
    return str(IdRange(int(row["start"]), int(row["stop"])))


@step("known streams")
def find_known(clients: Clients, wanted: list[str]) -> list[str]:
    """`known_streams`, as a task."""
    with clients.translate_errors("reconcile"), clients.postgres() as connection:
        return known_streams(connection, wanted)


@step("reconcile")
def reconcile_stream(clients: Clients, stream: str) -> tuple[LedgerTotals, list[Finding]]:
    """`check_balance`, as a task."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        return check_balance(clients.redis, connection, stream)
