"""Check that the ledger of a stream balances, range by range and as a whole, and has no gap or overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from infra.connections.clients import Clients
from infra.display import count_of, display_name
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.files.file_ledger import find_path
from tasks.ledger.names import is_file_ledger, original_name
from tasks.ledger.plan import check_stream
from tasks.ledger.stream_balance import BY_HAND, Finding, row_findings, row_ids
from tasks.metrics.ledger_figures import read_ledger_figures
from tasks.streams.glob import glob_regex, is_pattern, literal


@dataclass(frozen=True)
class LedgerTotals:
    """The totals of one stream's ledger.

    `waiting`: quarantined entries that are neither redriven nor discarded. `redriven`: rows that redrives added, which
    are in no range. `accepted`: lost entries that somebody has accepted; `accepted_by` and `accepted_at` (ISO 8601): by
    whom and when, the last time.
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
    redriven: int = 0

    @property
    def loss(self) -> str | None:
        """A message about lost entries that nobody has accepted, and what to do; None if there are none."""
        if self.lost == self.accepted:
            return None
        name = display_name(self.stream)
        lost = count_of(self.lost - self.accepted, f"entry of {name} is", f"entries of {name} are")
        return (
            f"{lost} lost, gone from Redis before a drain; see «lost is not 0» in docs/operations.md, then"
            f" accept the loss: spillway stream accept-loss {name}"
        )

    @property
    def acceptance(self) -> str | None:
        """A message about who accepted a loss; None if nobody did."""
        if not self.accepted:
            return None
        name = display_name(self.stream)
        return (
            f"{count_of(self.accepted, f'lost entry of {name} was', f'lost entries of {name} were')} accepted by"
            f" {self.accepted_by} at"
            f" {self.accepted_at}"
        )

    @property
    def addition(self) -> str | None:
        """A message about the rows that redrives added; None if there are none."""
        if not self.redriven:
            return None
        name = display_name(self.stream)
        added = count_of(self.redriven, f"row of {name} was", f"rows of {name} were")
        return f"{added} added by redrives, in addition to the inserted ones"


_TOTALS = """
    SELECT s.name AS stream, coalesce(sum(l.ranges), 0)::bigint AS ranges, coalesce(sum(l.read), 0)::bigint AS read,
           coalesce(sum(l.inserted), 0)::bigint AS inserted, coalesce(sum(l.duplicates), 0)::bigint AS duplicates,
           coalesce(sum(l.quarantined), 0)::bigint AS quarantined, s.lost, s.accepted, s.accepted_by,
           to_char(s.accepted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS accepted_at,
           (SELECT count(*) FROM spillway.quarantine AS q WHERE q.stream = s.id AND q.outcome IS NULL) AS waiting,
           (SELECT coalesce(sum(inserted), 0)::bigint FROM spillway.redrives AS r WHERE r.stream = s.id) AS redriven
      FROM spillway.streams AS s LEFT JOIN spillway.ledger AS l ON l.stream = s.id
     WHERE s.name = %s GROUP BY s.id"""
_UNBALANCED = fill_in("""
    SELECT lower(ids)::text AS start, upper(ids)::text AS stop, rows, inserted + duplicates + quarantined AS found
      FROM spillway.ledger WHERE stream = {stream_id}
       AND rows <> inserted + duplicates + quarantined""")
# Quarantined entries, by the last range that starts before them; `strays` lie after its end, or before all ranges.
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


def check_balance(
    client: redis.Redis, connection: psycopg.Connection, stream: str
) -> tuple[LedgerTotals, list[Finding]]:
    """The totals of the ledger of `stream`, and everything in it that does not balance.

    Reads one snapshot of the database, and the stream's tail afterwards, so that drains may run meanwhile. Raises
    `psycopg.Error` and `redis.RedisError`.
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = cursor.execute(_TOTALS, [stream]).fetchone()
        if row is None:
            nothing = Finding(stream, "unknown", "", 0, "it was never drained", f"spillway drain --stream {stream}")
            return LedgerTotals(stream, 0, 0, 0, 0, 0, 0, 0), [nothing]
        of_row = row_findings(connection, stream)
        findings = [*of_row, *_ranges(cursor, stream)]
    if is_file_ledger(stream) or stream != original_name(stream):
        return LedgerTotals(**row), findings  # Redis has no stream of this name
    # The ledger has to be right before it can say that a stream went back.
    accept = "the other findings first; then reconcile again" if of_row else f"spillway stream accept-rewind {stream}"
    found = check_stream(client, connection, stream)
    if found.tail is None:
        findings.append(Finding(stream, "gone", "", 1, "there is no such stream in Redis any more", accept))
    elif found.reason:
        findings.append(Finding(stream, "went back", "", 1, found.reason, accept))
    return LedgerTotals(**row), findings


def known_streams(
    connection: psycopg.Connection, wanted: list[str], files: bool = True, retired: bool = False
) -> list[str]:
    """The names in `wanted`, and the registered streams that match its patterns, sorted.

    `files`: whether patterns match files too. `retired`: whether they match the ledgers of former streams and of
    repeated loads too, by the name without the suffix. Without it, only those that do not balance.
    """
    rows = connection.execute("SELECT name FROM spillway.streams").fetchall()
    names = {name for (name,) in rows if files or not is_file_ledger(name)}
    named = {literal(name) for name in wanted if not is_pattern(name)}
    expressions = [glob_regex(pattern) for pattern in wanted if is_pattern(pattern)]
    fitting = {name for name in names if any(one.fullmatch(original_name(name).encode()) for one in expressions)}
    if not retired:
        former = {name for name in names if name != original_name(name)}
        asked = former & (fitting | {name for name in former if original_name(name) in named})
        fitting = (fitting - former) | (asked and asked & _unbalanced(connection))
    return sorted(fitting | named)


def _unbalanced(connection: psycopg.Connection) -> set[str]:
    """The ledgers that the metrics report as not balanced."""
    return {one.name for one in read_ledger_figures(connection) if not one.balanced}


def _ranges(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    findings = []
    for row in cursor.execute(_UNBALANCED, {"stream": stream}).fetchall():
        detail = f"{row['rows']} rows, but inserted + duplicates + quarantined is {row['found']}"
        findings.append(Finding(stream, "range does not balance", row_ids(row), 1, detail, BY_HAND))
    for row in cursor.execute(_KEPT, {"stream": stream}).fetchall():
        detail = f"expected {row['expected']} entries in spillway.quarantine by the ledger, found {row['found']}"
        findings.append(Finding(stream, "quarantine does not balance", row_ids(row), 1, detail, BY_HAND))
    path = find_path(cursor.connection, stream)
    for row in cursor.execute(_GAPS, {"stream": stream}).fetchall():
        detail = "ids before the last drained one that are in no range of the ledger"
        repair = f"spillway backfill {path}" if path else f"spillway drain --stream {stream}"
        findings.append(Finding(stream, "gap", row_ids(row), 1, detail, repair))
    for row in cursor.execute(_OVERLAPS, {"stream": stream}).fetchall():
        detail = "ids that are in an earlier range too: the constraint ledger_no_overlap is missing"
        findings.append(Finding(stream, "overlap", row_ids(row), 1, detail, BY_HAND))
    return findings


@step("known streams")
def find_known(clients: Clients, wanted: list[str], files: bool, retired: bool) -> list[str]:
    """`known_streams`, as a task."""
    with clients.translate_errors("reconcile"), clients.postgres() as connection:
        return known_streams(connection, wanted, files, retired)


@step("reconcile")
def reconcile_stream(clients: Clients, stream: str) -> tuple[LedgerTotals, list[Finding]]:
    """`check_balance`, as a task."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        return check_balance(clients.redis, connection, stream)
